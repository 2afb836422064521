"""Audio rows into the placeholder span of the prompt, and the positions that go with it."""

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


def splice(prefix: mx.array, audio: mx.array, suffix: mx.array) -> mx.array:
    """prefix (P, D), audio (T, D), suffix (S, D), one dtype → decoder input (1, P + T + S, D).

    Raises TypeError where the dtypes differ: a concatenation would promote the whole prompt, and the KV cache behind
    it.
    """
    if not prefix.dtype == audio.dtype == suffix.dtype:
        raise TypeError(f"dtypes differ: prefix {prefix.dtype}, audio {audio.dtype}, suffix {suffix.dtype}")
    return mx.concatenate([prefix, audio, suffix])[None]


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
