"""The positions and angles of MRoPE, by which the decoder's one-dimensional RoPE is checked."""

import numpy as np
from numpy.typing import NDArray


def mrope_positions(length: int, start: int = 0) -> NDArray[np.int64]:
    """Temporal, height and width positions of a span of text or audio: int64 (3, length).

    Qwen3-ASR counts all three on together through text, audio and the text it writes, so the rows are equal.
    """
    return np.broadcast_to(np.arange(start, start + length), (3, length))


def mrope_angles(positions: NDArray[np.int64], sections: tuple[int, int, int], theta: float) -> NDArray[np.float64]:
    """Rotary angles of three-row positions by the interleaved rule: (3, L) → (L, sum(sections)).

    Frequency j takes its position from row j mod 3 while that row's section lasts, and from the temporal row elsewhere.
    With equal rows the choice does not matter and this is one-dimensional RoPE, which is what the decoder computes.
    """
    half = sum(sections)
    frequencies = theta ** (-np.arange(half) / half)
    row = np.zeros(half, dtype=np.int64)
    for axis in (1, 2):
        row[axis : 3 * sections[axis] : 3] = axis
    return positions[row].T * frequencies
