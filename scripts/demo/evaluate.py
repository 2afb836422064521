"""Print the demonstration checkpoint's figures, decoded greedily by this runtime.

    scripts/python scripts/demo/evaluate.py [--split test] [--model demo] [--seed 2026] [--scale 1.0] [--show]
        [--quantize 8bit|mixed] [--dtype float32]

The recordings come from QWEN3_ASR_MLX_TEST_DATA (default ../shared/data, seen from the repository). `val` is for
choosing among checkpoints, `test` for reporting. `--scale` shrinks the sets.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from testsets import TAKES, Case, test_sets

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.settings import DTYPES, QUANTIZE

ROOT = Path(__file__).resolve().parents[2]


def words(transcript: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", transcript.lower()).split()


def edits(expected: list[str], found: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, 1):
        previous, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (word != other)))
    return row[-1]


@dataclass(frozen=True)
class Score:
    """Totals over a set: `wrong` of `words`, and utterances whose text or language is as expected."""

    count: int = 0
    words: int = 0
    wrong: int = 0
    exact: int = 0
    languages: int = 0

    def plus(self, case: Case, got: Transcript) -> "Score":
        expected = words(case.text)
        return Score(
            self.count + 1,
            self.words + len(expected),
            self.wrong + edits(expected, words(got.text)),
            self.exact + (got.text == case.text),
            self.languages + (got.language == case.language),
        )

    @property
    def error_rate(self) -> float:
        return self.wrong / max(1, self.words)

    def __str__(self) -> str:
        rates = f"exact {self.exact}/{self.count}  language {self.languages}/{self.count}"
        return f"WER {100 * self.error_rate:5.2f} % ({self.wrong} of {self.words})  {rates}"


def score(recognizer: Recognizer, cases: Iterator[Case], show: bool = False) -> Score:
    total = Score()
    for number, item in enumerate(cases):
        got = recognizer.transcribe(item.utterance)
        total = total.plus(item, got)
        if show and (got.text, got.language) != (item.text, item.language):
            print(f"  {number}: {item.utterance.seconds:.2f} s: {item.text!r} became {got.language}: {got.text!r}")
    return total


@guarded("evaluate.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--show", action="store_true", help="print every utterance that went wrong")
    parser.add_argument("--quantize", choices=QUANTIZE)
    parser.add_argument("--dtype", choices=DTYPES)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    recognizer = Recognizer.load(options.model, quantize=options.quantize, dtype=options.dtype)
    for name, cases in test_sets(data, options.split, options.seed, options.scale):
        print(f"{name:24}  {score(recognizer, cases, options.show)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
