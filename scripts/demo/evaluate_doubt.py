"""Print how a known text's confidence tells right texts from wrong ones, with the demonstration aligner.

    scripts/python scripts/demo/evaluate_doubt.py [--split test] [--thresholds 0.4,0.5] [--decoder official]
        [--model DIR] [--seed 2026] [--scale 1.0]

The confidence of a text is the mean time_confidence of its words. Below a threshold, `align` warns `text_doubtful`: of
the right text that is a false warning. `val` is for choosing a threshold, `test` for reporting. Recordings and
`--scale` are as in evaluate_aligner.py.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from testsets import TAKES, Case, aligner_sets
from text import WORDS

from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.model.aligner import Aligner
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.model.word_times import CLASS_MS, WordTime, official, viterbi
from qwen3_asr_mlx_runtime.model.word_units import word_units
from qwen3_asr_mlx_runtime.session.results import MIN_CONFIDENCE

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ("clean", "noisy", "all")
Decode = Callable[[NDArray[np.float32], int], list[WordTime]]
DECODERS: dict[str, Decode] = {"viterbi": viterbi, "official": lambda scores, _: official(scores)}


def texts(rng: np.random.Generator, case: Case, before: Case) -> dict[str, list[str]]:
    """The words of the right text, and of wrong ones. `before`: another utterance, whose text is heard nowhere here."""
    words = spoken(case)
    place = int(rng.integers(len(words)))
    return {
        "right": words,
        "one word changed": [other(rng, case, word) if at == place else word for at, word in enumerate(words)],
        "every word changed": [other(rng, case, word) for word in words],
        "of another clip": spoken(before),
        "right, twice": words * 2,
    }


def spoken(case: Case) -> list[str]:
    return [unit.letters for unit in word_units(case.text, case.language).units]


def other(rng: np.random.Generator, case: Case, word: str) -> str:
    """Another digit. A sentence begins with a capital."""
    choice = str(rng.choice([one for one in WORDS[case.language or ""] if one != word.lower()]))
    return choice.capitalize() if word[0].isupper() else choice


def confidences(aligner: Aligner, decode: Decode, cases: Sequence[Case], seed: int) -> Iterator[tuple[str, float]]:
    """Each text that its clip has room for: of which kind it is, and its confidence."""
    rng = np.random.default_rng(seed)
    for before, case in pairwise([cases[-1], *cases]):
        features, duration = log_mel(case.utterance.samples), int(1000 * case.utterance.seconds)
        for kind, words in texts(rng, case, before).items():
            if len(words) <= duration // CLASS_MS:
                [scores] = aligner.logits([features], [words])
                yield kind, float(np.mean([word.time_confidence for word in decode(scores, duration)]))


def line(found: Sequence[float], thresholds: Sequence[float]) -> str:
    quantiles = " / ".join(f"{value:.2f}" for value in np.quantile(found, [0.01, 0.05, 0.5, 0.95]))
    shares = " | ".join(f"{100 * np.mean(np.array(found) < threshold):.1f}" for threshold in thresholds)
    return f"{len(found)} | {quantiles} | {shares}"


@guarded("evaluate_doubt.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--thresholds", default=f"{MIN_CONFIDENCE:g}", help="comma-separated")
    parser.add_argument("--decoder", choices=sorted(DECODERS), default="viterbi")
    parser.add_argument("--model", type=Path, default=ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo_aligner")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    thresholds = [float(part) for part in options.thresholds.split(",")]
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    aligner = Aligner(load_aligner(options.model, "float32"), Tokenizer.from_folder(options.model))
    found = defaultdict[tuple[str, str], list[float]](list)
    for title, cases in aligner_sets(data, options.split, options.seed, options.scale):
        audio = "noisy" if title.endswith("noisy") else "clean"
        for kind, confidence in confidences(aligner, DECODERS[options.decoder], [*cases], options.seed):
            found[audio, kind].append(confidence)
            found["all", kind].append(confidence)
    below = " | ".join(f"below {threshold:g}, %" for threshold in thresholds)
    print(f"| audio | text | texts | confidence, quantiles 1 / 5 / 50 / 95 % | {below} |")
    print("|" + "---|" * (4 + len(thresholds)))
    for (audio, kind), values in sorted(found.items(), key=lambda item: AUDIO.index(item[0][0])):
        print(f"| {audio} | {kind} | {line(values, thresholds)} |")


if __name__ == "__main__":
    sys.exit(main())
