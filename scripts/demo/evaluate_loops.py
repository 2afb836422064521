"""Print how often the demonstration checkpoint loops on held-out recordings, and the word error rate of those
utterances before and after the repair.

    scripts/python scripts/demo/evaluate_loops.py [--split test] [--seed 2026] [--scale 1.0] [--dtype float32]

The recordings come from QWEN3_ASR_MLX_TEST_DATA, as for evaluate.py. Before the repair the text is that of `raw_text`.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from evaluate import ROOT, edits, words
from testsets import ARABIC, FSDD, TAKES, Case, long_sequences, noisy, recordings, repeated_sequences

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.transcript import parse_transcript
from qwen3_asr_mlx_runtime.settings import DTYPES


def loop_sets(data: Path, split: str, seed: int, scale: float) -> Iterator[tuple[str, Iterator[Case]]]:
    """Each set's name and its utterances."""
    many = max(1, round(120 * scale))
    for offset, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)]):
        recorded, first = recordings(data / path, split), seed + 10 * offset
        yield f"{language}, 20 to 30 s", long_sequences(recorded, language, many, first)
        yield f"{language}, 20 to 30 s, noisy", noisy(long_sequences(recorded, language, many, first + 1), first)
        yield f"{language}, repeated digits", repeated_sequences(recorded, language, many, first + 2)
        yield f"{language}, repeated, noisy", noisy(repeated_sequences(recorded, language, many, first + 3), first)


@guarded("evaluate_loops.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dtype", choices=DTYPES)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    recognizer = Recognizer.load("demo", dtype=options.dtype)
    for name, cases in loop_sets(data, options.split, options.seed, options.scale):
        count = loops = again = expected = before = after = 0
        for item in cases:
            got = recognizer.transcribe(item.utterance)
            count += 1
            if got.repaired or got.finish_reason == "repetition":
                said = words(item.text)
                _, looped = parse_transcript(got.raw_text, item.utterance.language)
                loops, again = loops + 1, again + (got.finish_reason == "repetition")
                expected += len(said)
                before, after = before + edits(said, words(looped)), after + edits(said, words(got.text))
        rates = f"{before} → {after} of {expected} words wrong" if loops else ""
        print(f"{name:28} {loops:3} of {count} loop, {again} after the repair  {rates}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
