"""Print what terms do to digits in noise, by their weight, with the demonstration checkpoint.

    scripts/python --tools scripts/demo/evaluate_terms.py [--split test] [--weights 1,2,4] [--snr 0,5,10] [--count 50]
        [--phrases] [--guard] [--plot FILE] [--model demo] [--seed 2026]

Each utterance is decoded without terms and with two lists, at every weight:

    right   the digits that are said in it, and no others
    wrong   digits that are not said in it, as many as the first list has

With `--phrases` terms are pairs of digits: those that follow each other, or as many of others. `val` is for choosing a
weight, `test` for reporting. Recordings are as in evaluate.py. `--snr`: how many dB the noise is below the speech.
Intervals: 95 %, a bootstrap over utterances. The echo guard, which hides what wrong terms do, is off without `--guard`.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from evaluate import words
from matplotlib import rc_context
from matplotlib.figure import Figure
from testsets import ARABIC, FSDD, TAKES, Case, noisy, recordings, short_sequences
from text import WORDS

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.settings import DTYPES
from qwen3_asr_mlx_runtime.terms import Term
from qwen3_asr_mlx_runtime.tools.score.alignment import align
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap

ROOT = Path(__file__).resolve().parents[2]
SETS = {"English": FSDD, "Arabic": ARABIC}
LISTS = ("right", "wrong")
ROWS = 16


@dataclass(frozen=True)
class Outcome:
    """Of one utterance: errors, words of its reference, how many of these are terms and how many of them were found,
    and the terms in its text that are not said there."""

    errors: int
    words: int
    terms: int
    found: int
    false: int


def lists(rng: np.random.Generator, case: Case, *, phrases: bool) -> dict[str, list[str]]:
    """The texts of the right terms and of the wrong ones."""
    said, known = case.text.rstrip(".").split(), WORDS[case.language or ""]
    if phrases:
        right = [" ".join(pair) for pair in pairwise(said)]
        every = [f"{first} {second}" for first in known for second in known]
    else:
        right, every = said, known
    right = [*dict.fromkeys(right)]
    others = [text for text in every if text not in {each.lower() for each in right}]
    return {"right": right, "wrong": [*map(str, rng.permutation(others)[: len(right)])]}


def outcome(case: Case, text: str, terms: Sequence[str]) -> Outcome:
    """Of a text, by the words of these terms."""
    expected, listed = words(case.text), {word for term in terms for word in words(term)}
    alignment = align(" ".join(expected), " ".join(words(text)), "word")
    found, false = 0, 0
    for chunk in alignment.chunks:
        matching = [word for word in chunk.hypothesis if word in listed]
        if chunk.kind == "equal":
            found += len(matching)
        else:
            false += len(matching)
    return Outcome(alignment.counts.errors, len(expected), sum(word in listed for word in expected), found, false)


def outcomes(
    recognizer: Recognizer, cases: Sequence[Case], terms: Sequence[Mapping[str, list[str]]], weights: Sequence[float]
) -> Iterator[tuple[str, float, list[Outcome]]]:
    """By list and weight; weight 0 is without terms."""
    plain = texts(recognizer, [case.utterance for case in cases])
    for name in LISTS:
        for weight in (0.0, *weights):
            asked = [
                replace(case.utterance, terms=tuple(Term(text, weight) for text in each[name]))
                for case, each in zip(cases, terms, strict=True)
            ]
            got = texts(recognizer, asked) if weight else plain
            parts = zip(cases, got, terms, strict=True)
            yield name, weight, [outcome(case, text, each[name]) for case, text, each in parts]


def texts(recognizer: Recognizer, utterances: Sequence[Utterance]) -> list[str]:
    groups = (utterances[start : start + ROWS] for start in range(0, len(utterances), ROWS))
    return [each.text for group in groups for each in recognizer.transcribe_batch(group, "batched")]


def error_rate(some: Sequence[Outcome]) -> float:
    """In %."""
    return 100 * sum(each.errors for each in some) / sum(each.words for each in some)


def rate(name: str, some: Sequence[Outcome], of: str = "words") -> str:
    """In %, with its interval."""
    counted = [getattr(each, name) for each in some]
    lengths = [getattr(each, of) for each in some]
    interval = Bootstrap().rate(counted, lengths)
    if interval is None or not sum(lengths):
        return "–"
    low, high = (100 * end for end in interval)
    return f"{100 * sum(counted) / sum(lengths):.2f} ({low:.2f} to {high:.2f})"


def gain(some: Sequence[Outcome], plain: Sequence[Outcome]) -> str:
    """Of the WER against that without terms, in points of a percent, with its paired interval."""
    first, second = [each.errors for each in plain], [each.errors for each in some]
    lengths = [each.words for each in some]
    interval = Bootstrap().difference(first, second, lengths)
    if interval is None:
        return "–"
    low, high = (100 * end for end in interval)
    return f"{100 * (sum(second) - sum(first)) / sum(lengths):+.2f} ({low:+.2f} to {high:+.2f})"


def draw(every: Mapping[tuple[str, str, float], list[Outcome]], path: Path) -> None:
    """Weight across, WER up, a line for each noise and list."""
    style = {"svg.fonttype": "none", "svg.hashsalt": "terms", "font.size": 9, "axes.grid": True}
    marks = dict(zip(LISTS, ("o-", "s--"), strict=True))
    noises = [*dict.fromkeys(noise for noise, _, _ in every if noise != "all")]
    with rc_context({**style, "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#dddddd"}):
        figure = Figure((6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for (number, noise), name in product(enumerate(noises), LISTS):
            points = [(key[2], error_rate(found)) for key, found in every.items() if key[:2] == (noise, name)]
            axes.plot(*zip(*points, strict=True), marks[name], color=f"C{number}", ms=5, label=f"{noise}, {name} terms")
        axes.legend(frameon=False)
        axes.set_xlabel("weight of each term; 0: without terms")
        axes.set_ylabel("word error rate, %")
        axes.set_ylim(bottom=0)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


@guarded("evaluate_terms.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--weights", type=numbers, default=[0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    parser.add_argument("--snr", type=numbers, default=[0.0, 5.0, 10.0])
    parser.add_argument("--count", type=int, default=50, help="utterances of each language in each noise")
    parser.add_argument("--phrases", action="store_true")
    parser.add_argument("--guard", action="store_true", help="leave the echo guard on")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    recognizer = Recognizer.load(options.model, dtype=options.dtype)
    echo.SURE = echo.SURE if options.guard else 0.0
    recorded = {language: recordings(data / path, options.split) for language, path in SETS.items()}
    print("| noise | terms | weight | WER, % | against none, points | recall of terms, % | false terms, % of words |")
    print("|---|---|---|---|---|---|---|")
    every = defaultdict[tuple[str, str, float], list[Outcome]](list)
    for snr in options.snr:
        cases = list[Case]()
        for offset, (language, digits) in enumerate(recorded.items()):
            seed = options.seed + 100 * offset
            clean = short_sequences(digits, language, options.count, seed)
            cases += noisy(clean, seed + int(10 * snr), (snr, snr))
        rng = np.random.default_rng(options.seed)
        terms = [lists(rng, case, phrases=options.phrases) for case in cases]
        for name, weight, found in outcomes(recognizer, cases, terms, options.weights):
            for noise in (f"{snr:g} dB", "all"):
                every[noise, name, weight] += found
    for noise, name, weight in sorted(every, key=lambda key: key[0] == "all"):
        found = every[noise, name, weight]
        cells = [rate("errors", found), gain(found, every[noise, name, 0.0]) if weight else "–"]
        cells += [rate("found", found, "terms"), rate("false", found)]
        print(f"| {noise} | {name} | {weight:g} | {' | '.join(cells)} |")
    if options.plot:
        draw(every, options.plot)


if __name__ == "__main__":
    sys.exit(main())
