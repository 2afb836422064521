"""Utterances of any length, joined from the recordings of the examples."""

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
_MAX_JOINED = 12  # recordings at most; silence fills the rest

Pcm16 = NDArray[np.int16]


class Speech:
    """Random utterances, the same for the same seed. Lengths are log-uniform, similar to real speech: many are short,
    few are long."""

    def __init__(self, folder: Path, shortest: float, longest: float, seed: int) -> None:
        self._clips = [read_wav(path) for path in sorted(folder.glob("*.wav"))]
        if not self._clips:
            raise FileNotFoundError(f"no recordings in {folder}")
        self._bounds = np.log([shortest, longest])
        self.random = np.random.default_rng(seed)

    def utterance(self) -> Pcm16:
        """Joined recordings, each with its own gain, cut to a random length."""
        length = round(float(np.exp(self.random.uniform(*self._bounds))) * RATE)
        joined = np.concatenate([*self._parts(length), np.zeros(length, np.int16)])
        return joined[:length]

    def _parts(self, length: int) -> Iterator[Pcm16]:
        start = self.random.integers(RATE // 2)
        for _ in range(_MAX_JOINED):
            clip = self._clips[self.random.integers(len(self._clips))]
            yield (clip[start:] * self.random.uniform(0.1, 1.0)).astype(np.int16)
            length -= len(clip) - start
            start = 0
            if length <= 0:
                return


def read_wav(path: Path) -> Pcm16:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise ValueError(f"{path.name} is not 16-bit PCM, mono, at 16 kHz")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def write_wav(path: Path, samples: Pcm16) -> None:
    with wave.open(str(path), "wb") as file:
        file.setframerate(RATE)
        file.setnchannels(1)
        file.setsampwidth(2)
        file.writeframes(samples.tobytes())
