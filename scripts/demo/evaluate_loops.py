"""Print how often a checkpoint loops on held-out recordings, and the words that are wrong in those utterances before
and after the repair, as a table in Markdown.

    scripts/python scripts/demo/evaluate_loops.py [--model demo] [--split test] [--seed 2026] [--scale 1.0]
        [--dtype float32]

`--model` is `demo`, or a folder of make_loop.py. The recordings come from QWEN3_ASR_MLX_TEST_DATA, as for evaluate.py.
Before the repair the text is that of `raw_text`.
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
        for number, seconds in enumerate([(20, 30), (9, 12), (2, 6)]):
            name, at = f"{language}, {seconds[0]} to {seconds[1]} s", first + 100 * number
            yield name, long_sequences(recorded, language, many, at, seconds)
            yield f"{name}, noisy", noisy(long_sequences(recorded, language, many, at + 1, seconds), at)
        yield f"{language}, repeated", repeated_sequences(recorded, language, many, first + 2)
        yield f"{language}, repeated, noisy", noisy(repeated_sequences(recorded, language, many, first + 3), first)


def row(recognizer: Recognizer, name: str, cases: Iterator[Case]) -> str:
    count = loops = again = expected = before = after = others = wrong = 0
    for item in cases:
        got, said = recognizer.transcribe(item.utterance), words(item.text)
        count += 1
        if got.repaired or got.finish_reason == "repetition":
            _, looped = parse_transcript(got.raw_text, item.utterance.language)
            loops, again = loops + 1, again + (got.finish_reason == "repetition")
            expected += len(said)
            before, after = before + edits(said, words(looped)), after + edits(said, words(got.text))
        else:
            others, wrong = others + len(said), wrong + edits(said, words(got.text))
    repaired = [again, expected, before, after] if loops else [""] * 4
    cells = [name, f"{loops} of {count}", *repaired, f"{100 * wrong / others:.2f}" if others else ""]
    return "".join(f"| {cell} " if cell != "" else "| " for cell in cells) + "|"


@guarded("evaluate_loops.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dtype", choices=DTYPES)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    recognizer = Recognizer.load(options.model, dtype=options.dtype)
    print("| set | loop | in a loop after the repair | words | wrong before | wrong after | WER of the others, % |")
    print("|---" + "|---:" * 6 + "|")
    for name, cases in loop_sets(data, options.split, options.seed, options.scale):
        print(row(recognizer, name, cases), flush=True)


if __name__ == "__main__":
    sys.exit(main())
