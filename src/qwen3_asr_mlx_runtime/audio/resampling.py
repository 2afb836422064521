"""Audio at any rate → 16 kHz, as it comes."""

import math

import numpy as np
import soxr

from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

_NOTHING = np.zeros(0, np.float32)


def resampled_length(frames: int, rate: int) -> int:
    """⌈frames · 16000 / rate⌉ in double precision, as librosa has it: how many samples so many become at 16 kHz."""
    return math.ceil(frames * (SAMPLE_RATE / rate))


class Resampler:
    """One utterance or file from `rate` (Hz) to 16 kHz by soxr HQ: float32 (N,) in, float32 (M,) out.

    What comes out, put together, is the same bit for bit however the input was cut, and `resampled_length` samples
    long. It comes late, by up to 116 ms of input at 8 kHz and 41 ms at 44.1 kHz, because the filter looks ahead and
    works in blocks. It may overshoot the input's peak.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._frames = 0
        self._given = 0

    def take(self, samples: Samples) -> Samples:
        """More of the input; what is certain of the output by now."""
        self._frames += len(samples)
        given: Samples = self._stream.resample_chunk(samples)
        self._given += len(given)
        return given

    def end(self) -> Samples:
        """What the filter still holds. Nothing may be taken after it."""
        missing = resampled_length(self._frames, self._rate) - self._given
        rest = self._stream.resample_chunk(_NOTHING, last=True)[:missing]
        return np.pad(rest, (0, missing - len(rest)))  # soxr may give one fewer
