"""Print how often a checkpoint echoes its context or terms, without the echo guard and with it.

    scripts/python scripts/demo/evaluate_echo.py [--model demo] [--split test] [--sure 0.9] [--count 40] [--seed 2026]

`--sure`: confidences below which the guard looks at a text; 0 is without it. `val` is for choosing one, `test` for
reporting. `--model` is `demo`, or a folder of make_echo.py. Words are given as context and, in as many utterances, as
terms of weight 2:

    nobody speaks   noises; one to three words
    other words     quiet digits; one to three words that are not said
    the words       the digits that are said: clean, quiet, and in noise as loud as they

`again`: decoded again without the words; `dropped`: for the text without them; `right`: dropped although it was right.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from evaluate import edits, words
from testsets import ARABIC, FSDD, TAKES, Case, decibels, no_speech, noisy, recordings, short_sequences
from text import CONTEXT_ENGLISH, ENGLISH

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.settings import DTYPES
from qwen3_asr_mlx_runtime.terms import Term

ROOT = Path(__file__).resolve().parents[2]
WORDS = [*ENGLISH, *CONTEXT_ENGLISH[:40]]
LONGEST, QUIET, SNR, WEIGHT = 6.0, (-75.0, -50.0), (-5.0, 5.0), 2.0  # seconds, dB of the peak, dB, nats


@dataclass(frozen=True)
class Decoded:
    """One utterance with its words, without the guard, and what the guard would keep instead."""

    case: Case
    text: str
    plain: str
    confidence: float
    is_weak: bool
    is_suspect: bool
    is_echo: bool

    def kept(self, sure: float) -> str:
        return self.plain if self.is_dropped(sure) else self.text

    def is_decoded_again(self, sure: float) -> bool:
        return self.is_suspect and self.confidence < sure

    def is_dropped(self, sure: float) -> bool:
        return self.is_decoded_again(sure) and self.is_echo


def given(case: Case, listed: Sequence[str], *, as_terms: bool) -> Case:
    """The utterance with these words."""
    asked = {"terms": tuple(Term(word, WEIGHT) for word in listed)} if as_terms else {"context": " ".join(listed)}
    return replace(case, utterance=replace(case.utterance, **asked))


def quiet(cases: Iterator[Case], rng: np.random.Generator) -> Iterator[Case]:
    for case in cases:
        samples = case.utterance.samples
        level = decibels(rng.uniform(*QUIET)) / max(1e-9, float(np.abs(samples).max()))
        yield replace(case, utterance=replace(case.utterance, samples=(samples * level).astype(np.float32)))


def sets(data: Path, split: str, count: int, seed: int) -> Iterator[tuple[str, list[Case]]]:
    rng = np.random.default_rng(seed)

    def spoken(first: int) -> Iterator[Case]:
        for number, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)]):
            yield from short_sequences(recordings(data / path, split), language, count // 2, first + number)

    def others(cases: Iterator[Case]) -> list[Case]:
        found = []
        for number, case in enumerate(cases):
            unsaid = [word for word in WORDS if word not in words(case.text)]
            listed = [str(word) for word in rng.choice(unsaid, rng.integers(1, 4))]
            found.append(given(case, listed, as_terms=bool(number % 2)))
        return found

    def right(cases: Iterator[Case]) -> list[Case]:
        return [
            given(case, case.text.rstrip(".").split(), as_terms=bool(number % 2)) for number, case in enumerate(cases)
        ]

    silent = (case for case in no_speech(2 * count, seed) if case.utterance.seconds <= LONGEST)
    yield "nobody speaks", others(silent)
    yield "other words, quiet", others(quiet(spoken(seed + 1), rng))
    yield "the words, clean", right(spoken(seed + 3))
    yield "the words, quiet", right(quiet(spoken(seed + 5), rng))
    yield "the words, noisy", right(noisy(spoken(seed + 7), seed, SNR))


def decoded(recognizer: Recognizer, case: Case) -> Decoded:
    utterance = replace(case.utterance, logprobs=True)
    first, second = (recognizer.transcribe(asked) for asked in (utterance, replace(utterance, context="", terms=())))
    segment, plain = as_segment(first), as_segment(second)
    signs = (
        echo.may_echo(utterance, utterance.samples),
        echo.is_suspect(utterance, utterance.samples, segment),
        echo.is_echo(utterance, segment, plain),
    )
    confidence = first.confidence.mean if first.confidence else 0.0
    return Decoded(case, first.text, second.text, confidence, *signs)


def as_segment(transcript: Transcript) -> DecodedSegment:
    pairs = zip(transcript.token_ids, transcript.logprobs or (), strict=True)
    return DecodedSegment(transcript.raw_text, [Token(id, logprob) for id, logprob in pairs], 0, 0)


def row(name: str, some: Sequence[Decoded], sure: float) -> str:
    wrong = sum(edits(words(each.case.text), words(each.kept(sure))) for each in some)
    count = sum(len(words(each.case.text)) for each in some)
    echoes = sum(each.case.language is None and bool(each.kept(sure)) for each in some)
    again = sum(each.is_decoded_again(sure) for each in some)
    dropped = sum(each.is_dropped(sure) for each in some)
    right = sum(each.is_dropped(sure) and each.text == each.case.text for each in some)
    rate = f"{100 * wrong / count:.2f}" if count else "–"
    weak = sum(each.is_weak for each in some)
    cells = [name, len(some), weak, f"{sure:g}", "–" if count else echoes, rate, again, dropped, right]
    return f"| {' | '.join(map(str, cells))} |"


@guarded("evaluate_echo.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--sure", default=f"{echo.SURE:g}", help="comma-separated")
    parser.add_argument("--count", type=int, default=40, help="utterances of each set")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    thresholds = [float(part) for part in options.sure.split(",")]
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    recognizer = Recognizer.load(options.model, dtype=options.dtype)
    echo.SURE = 0.0  # the recognizer's own guard is off
    print(
        "| words and audio | utterances | weak | sure from | nobody speaks: texts | WER, % | again | dropped | right |"
    )
    print("|" + "---|" * 9)
    for name, cases in sets(data, options.split, options.count, options.seed):
        found = [decoded(recognizer, case) for case in cases]
        for sure in (0.0, *thresholds):
            print(row(name, found, sure), flush=True)


if __name__ == "__main__":
    sys.exit(main())
