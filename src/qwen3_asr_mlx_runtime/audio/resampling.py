"""Audio at any rate → 16 kHz, chunk by chunk."""

import math

import numpy as np
import soxr

from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

_NOTHING = np.zeros(0, np.float32)


def resampled_length(frames: int, rate: int) -> int:
    """The samples at 16 kHz of `frames` at `rate`: ⌈frames · 16000 / rate⌉ in double precision, as in librosa."""
    return math.ceil(frames * (SAMPLE_RATE / rate))


class Resampler:
    """One utterance or file from `rate` (Hz) to 16 kHz by soxr HQ: float32 (N,) in, float32 (M,) out.

    The joined output is the same bit for bit for any chunking of the input, and `resampled_length` samples long. It
    lags by up to 116 ms of input at 8 kHz and 41 ms at 44.1 kHz, because the filter looks ahead and works in blocks. It
    may overshoot the input's peak.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._frames = 0
        self._delivered = 0

    def take(self, samples: Samples) -> Samples:
        """Take more input; return the output that is ready."""
        self._frames += len(samples)
        resampled: Samples = self._stream.resample_chunk(samples)
        self._delivered += len(resampled)
        return resampled

    def end(self) -> Samples:
        """The rest that the filter holds. Nothing may be taken afterwards."""
        missing = resampled_length(self._frames, self._rate) - self._delivered
        rest = self._stream.resample_chunk(_NOTHING, last=True)[:missing]
        return np.pad(rest, (0, missing - len(rest)))  # soxr may return one fewer
