"""Clips for the parity tests: speech-like, deterministic, one for every mel frame count that is compared.

A clip is a run of syllables, each the harmonics of a gliding pitch under two formants, a burst of noise, or digital
silence: loud and quiet cells, the floor under the loudest one and exact zeros all occur in the mel. Samples are rounded
to sixteen bits, which takes away the last-bit differences that sines may have between machines.
"""

import numpy as np
from numpy.typing import NDArray

from reference.draws import uniform

SAMPLE_RATE = 16_000
HOP_LENGTH = 160
SYLLABLE = 2_880

# Samples beyond the last whole hop. They make no frame, but they move the reflection at the end of the clip.
EXTRA_SAMPLES = {
    24: 0,
    60: 37,
    99: 159,
    100: 0,
    101: 1,
    255: 80,
    799: 159,
    800: 0,
    801: 40,
    815: 93,
    1650: 7,
    3100: 120,
}
FRAME_COUNTS = tuple(EXTRA_SAMPLES)

# One seed a clip, chosen so that the reference never nearly ties: where two logits are equal within rounding, the token
# says nothing about the implementation. See `gaps` in the goldens.
SEEDS = {24: 6, 60: 2, 99: 1, 100: 2, 101: 4, 255: 6, 799: 2, 800: 3, 801: 2, 815: 3, 1650: 5, 3100: 7}


def clip(frames: int) -> NDArray[np.float32]:
    """The clip of `frames` mel frames: float32 (N,), mono, 16 kHz, within [-1, 1], floor(N / 160) = frames."""
    samples = frames * HOP_LENGTH + EXTRA_SAMPLES[frames]
    syllables = [_syllable(SEEDS[frames], f"clip {frames} {i}") for i in range(-(-samples // SYLLABLE))]
    pcm = np.rint(np.clip(np.concatenate(syllables)[:samples], -1, 1) * 32_767).astype(np.int16)
    return pcm.astype(np.float32) / np.float32(32_768)


def _syllable(seed: int, name: str) -> NDArray[np.float64]:
    kind, level, pitch, glide, first, second = uniform(seed, name, 6).astype(np.float64)
    envelope = np.hanning(SYLLABLE) * 0.08 * 10.0 ** (0.6 * level)
    noise = uniform(seed, f"{name} noise", SYLLABLE).astype(np.float64)
    if kind < -0.85:
        return np.zeros(SYLLABLE)
    if kind < -0.6:
        return np.diff(noise, prepend=0.0) * envelope * 0.5 + noise * 1e-3
    fundamental = (150 + 60 * pitch) * (1 + 0.2 * glide * np.linspace(-1, 1, SYLLABLE))
    return _voiced(fundamental, 550 + 250 * first, 1_700 + 700 * second) * envelope + noise * 1e-3


def _voiced(fundamental: NDArray[np.float64], *formants: float) -> NDArray[np.float64]:
    phase = 2 * np.pi * np.cumsum(fundamental) / SAMPLE_RATE
    harmonics = np.arange(1, 25)[:, None]
    frequency = harmonics * fundamental
    gain = sum(1 / (1 + ((frequency - formant) / 120) ** 2) for formant in formants)
    return np.asarray((np.sin(harmonics * phase) * gain).sum(axis=0))
