"""Print how far the demonstration aligner's times are from the true ones, in torch.

    PYTHONPATH=src python scripts/demo/evaluate_aligner.py [--split test] [--model DIR] [--seed 2026] [--scale 1.0]

The recordings come from QWEN3_ASR_MLX_TEST_DATA (default ../shared/data, seen from the repository). `val` is for
choosing among checkpoints, `test` for reporting. `--scale` shrinks the sets. Needs torch, numpy, soxr, tokenizers,
safetensors.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from align import units
from compose import Prompts
from model import CLASS_SECONDS, Thinker
from numpy.typing import NDArray
from safetensors.torch import load_file
from synth import Synthesizer
from testsets import TAKES, Case, aligner_sets

ROOT = Path(__file__).resolve().parents[2]
SHARES = (0.08, 0.16, 0.24)


class Aligner:
    """The exported checkpoint in float32."""

    def __init__(self, folder: Path) -> None:
        whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = whole["thinker_config"]
        self.prompts, self.synth = Prompts(folder), Synthesizer(torch.zeros(0))
        self.mark = whole["timestamp_token_id"]
        vocabulary, classes = config["text_config"]["vocab_size"], config["classify_num"]
        self.thinker = Thinker(vocabulary, 0.0, config["audio_config"], config["text_config"], classes).eval()
        weights = load_file(folder / "model.safetensors")
        self.thinker.load_state_dict({name.removeprefix("thinker."): value.float() for name, value in weights.items()})

    @torch.no_grad()
    def scores(self, samples: NDArray[np.float32], words: list[str]) -> NDArray[np.float32]:
        """Log-probabilities (marks, classes), two marks a word."""
        prompts = self.prompts
        audio = self.thinker.audio_tower(self.synth.features(torch.from_numpy(samples)[None]))[0]
        after = [i for word in words for i in [*prompts.ids(word), self.mark, self.mark]]
        ids = prompts.ids("<|audio_start|>") + [prompts.pad] * len(audio) + prompts.ids("<|audio_end|>") + after
        ids = torch.tensor(ids)
        x = self.thinker.model.embed_tokens(ids)
        x[1 : 1 + len(audio)] = audio
        hidden = self.thinker.model(x[None])[0, ids == self.mark]
        return torch.log_softmax(self.thinker.logits(hidden), -1).numpy()


def viterbi(scores: NDArray[np.float32], last: int) -> list[int]:
    """The likeliest classes up to `last` that never fall, with each end after its start."""
    table = scores[:, : last + 1]
    total, back = table[0], []
    for mark in range(1, len(table)):
        best = np.maximum.accumulate(total)
        at = np.maximum.accumulate(np.where(total >= best, np.arange(last + 1), 0))
        if mark % 2:
            best, at = np.append(-np.inf, best[:-1]), np.append(0, at[:-1])
        back.append(at)
        total = best + table[mark]
    path = [int(total.argmax())]
    for at in reversed(back):
        path.append(int(at[path[-1]]))
    return path[::-1]


def official(scores: NDArray[np.float32]) -> list[int]:
    """The reference's: the likeliest classes in milliseconds, those outside the longest rising run repaired."""
    values = [int(c) * round(1000 * CLASS_SECONDS) for c in scores.argmax(-1)]
    length, former = [1] * len(values), [-1] * len(values)
    for i in range(len(values)):
        for j in range(i):
            if values[j] <= values[i] and length[j] + 1 > length[i]:
                length[i], former[i] = length[j] + 1, j
    good, i = [], length.index(max(length))
    while i >= 0:
        good.append(i)
        i = former[i]
    good.reverse()
    for left, right in zip([-1, *good], [*good, len(values)], strict=True):
        count = right - left - 1
        low = values[left] if left >= 0 else values[right]
        high = values[right] if right < len(values) else low
        for k in range(left + 1, right):
            near_left = k - left <= right - k
            step = low + (high - low) / (count + 1) * (k - left)
            values[k] = int(step) if count > 2 else low if near_left else high
    return values


def measure(aligner: Aligner, cases: Iterator[Case]) -> dict[str, NDArray[np.float64]]:
    """Distances in seconds (words, 2) and the found spans' lengths (words, 1), by decoder."""
    rows: dict[str, list[NDArray[np.float64]]] = {"viterbi": [], "official": []}
    for item in cases:
        scores = aligner.scores(item.utterance.samples, units(item.text))
        last = int(np.ceil(item.utterance.seconds / CLASS_SECONDS))
        found = {"viterbi": np.array(viterbi(scores, last)) * CLASS_SECONDS}
        found["official"] = np.array(official(scores)) / 1000
        for name, times in found.items():
            spans = times.reshape(-1, 2)
            lengths = spans[:, 1:] - spans[:, :1]
            rows[name].append(np.hstack([np.abs(spans - np.array(item.spans)), lengths]))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def line(found: NDArray[np.float64]) -> str:
    distance = found[:, :2]
    shares = " / ".join(f"{100 * np.mean(distance <= limit):.1f}" for limit in SHARES)
    means = " / ".join(f"{1000 * value:.0f}" for value in distance.mean(0))
    return f"{1000 * distance.mean():4.0f} | {means} | {shares} | {np.sum(found[:, 2] <= 0)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--model", type=Path, default=ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo_aligner")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    aligner, whole = Aligner(options.model), []
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
    main()
