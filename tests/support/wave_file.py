"""Sound files for tests that need no speech."""

import wave
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000


def write_silence(path: Path, samples: int) -> str:
    """`samples` of silence at 16 kHz, mono, 16 bits. Returns the path."""
    return write_pcm16(path, np.zeros(samples, "<i2"))


def write_pcm16(path: Path, samples: np.ndarray) -> str:
    """int16 `samples` at 16 kHz, mono. Returns the path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return str(path)
