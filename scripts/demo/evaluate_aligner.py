"""Print how far the demonstration aligner's times are from the true ones, computed by this runtime.

    scripts/python scripts/demo/evaluate_aligner.py [--split test] [--model DIR] [--seed 2026] [--scale 1.0]

The recordings come from QWEN3_ASR_MLX_TEST_DATA (default ../shared/data, seen from the repository). `val` is for
choosing among checkpoints, `test` for reporting. `--scale` shrinks the sets.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from testsets import TAKES, Case, aligner_sets

from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.model.aligner import Aligner
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.model.word_times import WordTime, official, viterbi
from qwen3_asr_mlx_runtime.model.word_units import word_units

ROOT = Path(__file__).resolve().parents[2]
SHARES = (0.08, 0.16, 0.24)


def spans(times: Iterable[WordTime]) -> NDArray[np.float64]:
    """Seconds (words, 2)."""
    return np.array([(time.start_ms, time.end_ms) for time in times]) / 1000


def measure(aligner: Aligner, cases: Iterable[Case]) -> dict[str, NDArray[np.float64]]:
    """Distances in seconds (words, 2) and the found spans' lengths (words, 1), by decoder."""
    rows: dict[str, list[NDArray[np.float64]]] = {"viterbi": [], "official": []}
    for item in cases:
        letters = [unit.letters for unit in word_units(item.text, None).units]
        [scores] = aligner.logits([log_mel(item.utterance.samples)], [letters])
        found = {"viterbi": spans(viterbi(scores, int(1000 * item.utterance.seconds)))}
        found["official"] = spans(official(scores))
        for name, times in found.items():
            rows[name].append(np.hstack([np.abs(times - np.array(item.spans)), np.diff(times)]))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def line(found: NDArray[np.float64]) -> str:
    distance = found[:, :2]
    shares = " / ".join(f"{100 * np.mean(distance <= limit):.1f}" for limit in SHARES)
    means = " / ".join(f"{1000 * value:.0f}" for value in distance.mean(0))
    return f"{1000 * distance.mean():4.0f} | {means} | {shares} | {np.sum(found[:, 2] <= 0)}"


@guarded("evaluate_aligner.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--model", type=Path, default=ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo_aligner")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    model = load_aligner(options.model, "float32")
    aligner, whole = Aligner(model, Tokenizer.from_folder(options.model)), []
    print("| set | decoder | words | mean, ms | start / end | within 80 / 160 / 240 ms, % | empty words |")
    print("|" + "---|" * 7)
    for title, cases in aligner_sets(data, options.split, options.seed, options.scale):
        whole.append(measure(aligner, cases))
        for name, found in whole[-1].items():
            print(f"| {title} | {name} | {len(found)} | {line(found)} |", flush=True)
    for name in whole[0]:
        found = np.concatenate([part[name] for part in whole])
        print(f"| all | {name} | {len(found)} | {line(found)} |")


if __name__ == "__main__":
    sys.exit(main())
