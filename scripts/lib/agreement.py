"""How often batched decoding writes what sequential decoding writes, with the drift guard and without.

    scripts/agreement [--model demo | FOLDER | tiny | 0.6b] [--count 2000] [--dtype float32] [--rows 8] [--seed 1]
                      [--languages en,ar] [--terms seven,nine=4]

`demo`, or a folder, transcribes the example recordings, cut, joined and levelled at random; `tiny` and `0.6b` are
random checkpoints of these dimensions, with synthetic audio and 48 tokens an utterance. Prints one JSON object.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmark.audio import speech_like
from benchmark.vocabulary import write_tokenizer
from reference.random_checkpoint import write_random_checkpoint

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.model.drift import SAFETY, largest_drift
from qwen3_asr_mlx_runtime.option_values import languages, terms

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "audio"
RANDOM_SIZES = ("tiny", "0.6b")
RANDOM_TOKENS = 48


def random_utterances(count: int, seed: int) -> Iterator[Utterance]:
    """One to three of the example recordings, with gaps, cut at random, at 0 to −24 dB."""
    rng = np.random.default_rng(seed)
    recorded = [read_file(str(file)).samples for file in sorted(EXAMPLES.glob("*.wav"))]
    for _ in range(count):
        parts = [recorded[i] for i in rng.integers(len(recorded), size=rng.integers(1, 4))]
        gaps = [np.zeros(int(rng.uniform(0, 0.5) * SAMPLE_RATE), np.float32) for _ in parts]
        whole = np.concatenate([part for pair in zip(gaps, parts, strict=True) for part in pair])
        length = int(rng.uniform(0.3, 1.0) * len(whole))
        start = int(rng.integers(len(whole) - length + 1))
        level = 10 ** (rng.uniform(-24, 0) / 20)
        yield Utterance((whole[start : start + length] * level).astype(np.float32))


def synthetic(count: int, seed: int) -> Iterator[Utterance]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        yield Utterance(speech_like(rng.uniform(1, 12), seed + number), max_new_tokens=RANDOM_TOKENS)


def load(model: str, dtype: str, seed: int) -> Recognizer:
    if model not in RANDOM_SIZES:
        return Recognizer.load(model, dtype=dtype)
    with tempfile.TemporaryDirectory(prefix="agreement-") as folder:
        tokenizer = write_tokenizer(Path(folder) / "tokenizer")
        checkpoint = Path(folder) / "checkpoint"
        write_random_checkpoint(checkpoint, size=model, dtype=dtype, seed=seed, tokenizer=tokenizer)
        return Recognizer.load(str(checkpoint), dtype=dtype)


def differing(ours: Sequence[Transcript], theirs: Sequence[Transcript]) -> list[int]:
    pairs = zip(ours, theirs, strict=True)
    return [number for number, (mine, other) in enumerate(pairs) if _content(mine) != _content(other)]


def _content(transcript: Transcript) -> tuple[object, ...]:
    return transcript.token_ids, transcript.language


def compare(recognizer: Recognizer, utterances: Sequence[Utterance], rows: int) -> dict[str, object]:
    def run(mode: str, guard: bool) -> tuple[list[Transcript], float]:
        started = time.perf_counter()
        transcripts: list[Transcript] = []
        for start in range(0, len(utterances), rows):
            group = utterances[start : start + rows]
            transcripts += recognizer.transcribe_batch(group, mode, drift_guard=guard)
        return transcripts, round(time.perf_counter() - started, 2)

    alone, alone_seconds = run("sequential", guard=True)
    unguarded, unguarded_seconds = run("batched", guard=False)
    guarded, guarded_seconds = run("batched", guard=True)
    return {
        "utterances": len(utterances),
        "rows": rows,
        "largest_drift": (drift := largest_drift(recognizer.model)),
        "least_margin": SAFETY * drift,
        "equal_without_guard": len(utterances) - len(differing(alone, unguarded)),
        "equal_with_guard": len(utterances) - len(differing(alone, guarded)),
        "redecoded": sum(transcript.redecoded for transcript in guarded),
        "texts_differing_without_guard": sum(a.text != b.text for a, b in zip(alone, unguarded, strict=True)),
        "seconds": {"sequential": alone_seconds, "unguarded": unguarded_seconds, "guarded": guarded_seconds},
    }


@guarded("agreement")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--languages", type=languages, default=(), help="the model chooses among these")
    parser.add_argument("--terms", type=terms, default=(), help="what the texts are likely to have")
    options = parser.parse_args()
    recognizer = load(options.model, options.dtype, options.seed)
    generate = synthetic if options.model in RANDOM_SIZES else random_utterances
    drawn = generate(options.count, options.seed)
    utterances = [replace(utterance, languages=options.languages, terms=options.terms) for utterance in drawn]
    found = compare(recognizer, utterances, options.rows)
    asked = {"model": options.model, "dtype": options.dtype, "languages": options.languages}
    json.dump({**asked, **found}, sys.stdout)
    print()


if __name__ == "__main__":
    sys.exit(main())
