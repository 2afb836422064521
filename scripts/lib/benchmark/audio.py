"""Synthetic audio: noise with a syllable-like envelope, because random weights need no real speech."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
SYLLABLES_PER_SECOND = 4


def speech_like(seconds: float, seed: int) -> NDArray[np.float32]:
    """float32 (N,), mono, 16 kHz, within [-1, 1]: noise under an envelope, louder in the low frequencies."""
    draws = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    noise = draws.standard_normal(count + 2)
    coloured = noise[2:] + noise[1:-1] + noise[:-2]
    levels = draws.uniform(0.0, 1.0, int(seconds * SYLLABLES_PER_SECOND) + 2)
    moments = np.arange(count) * (SYLLABLES_PER_SECOND / SAMPLE_RATE)
    envelope = np.interp(moments, np.arange(len(levels)), levels)
    return np.clip(coloured * envelope * 0.06, -1.0, 1.0).astype(np.float32)


def write_clip(folder: Path, seconds: float, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seconds:g}-{seed}.npy"
    np.save(path, speech_like(seconds, seed))
    return path
