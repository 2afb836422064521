"""How far two implementations are apart: the measures in which parity is stated, and the limits it has to keep.

python -m reference.differences FOUND.npz EXPECTED.npz
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reference.activations import Activations, Array, load

MEL_LIMIT = 1e-4  # largest absolute difference of a cell
EMBEDDINGS_LIMIT = 1e-5  # relative, in float32
LOGITS_LIMIT = 5e-4  # relative, in float32
LOGPROBS_LIMIT = 2e-3  # largest absolute difference of a step, in float32
BFLOAT16_EMBEDDINGS_LIMIT = 2e-2  # relative to the golden in float32


@dataclass(frozen=True)
class Differences:
    mel: float
    embeddings: float
    logits: float
    equal_tokens: int
    logprobs: float
    smallest_gap: float

    def row(self, frames: int) -> str:
        return (
            f"| {frames} | {self.mel:.1e} | {self.embeddings:.1e} | {self.logits:.1e} "
            f"| {self.equal_tokens} | {self.logprobs:.1e} | {self.smallest_gap:.4f} |"
        )


HEADER = (
    "| mel frames | mel, max abs | tower, relative | prefill logits, relative | equal tokens "
    "| log-probability, max abs | smallest gap |\n"
    "|---|---|---|---|---|---|---|"
)


def relative(found: Array, expected: Array) -> float:
    """|found − expected| / |expected|, in the Euclidean norm; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return np.inf
    wide = expected.astype(np.float64)
    return float(np.linalg.norm(found - wide) / np.linalg.norm(wide))


def max_abs(found: Array, expected: Array) -> float:
    """The largest difference of two elements; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return np.inf
    return float(np.abs(found - expected.astype(np.float64)).max(initial=0.0))


def equal_prefix(found: Array, expected: Array) -> int:
    """How many tokens are equal before the first that differs."""
    shortest = min(len(found), len(expected))
    return int(np.cumprod(found[:shortest] == expected[:shortest]).sum())


def differences(found: Activations, expected: Activations) -> Differences:
    return Differences(
        mel=max_abs(found.mel, expected.mel),
        embeddings=relative(found.embeddings, expected.embeddings),
        logits=relative(found.logits, expected.logits),
        equal_tokens=equal_prefix(found.tokens, expected.tokens),
        logprobs=max_abs(found.logprobs, expected.logprobs),
        smallest_gap=float(expected.gaps.min(initial=np.inf)),
    )


def table(found: dict[int, Activations], expected: dict[int, Activations]) -> str:
    """Markdown, a row for each clip that both hold."""
    rows = [differences(found[frames], expected[frames]).row(frames) for frames in found if frames in expected]
    return "\n".join([HEADER, *rows])


if __name__ == "__main__":
    sys.stdout.write(table(*(load(Path(path)) for path in sys.argv[1:3])) + "\n")
