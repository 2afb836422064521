"""The audio of an open utterance: PCM of the stream's rate comes in, 16 kHz goes out."""

import numpy as np

from qwen3_asr_mlx_runtime.audio.pcm16 import BYTES_PER_SAMPLE, pcm16
from qwen3_asr_mlx_runtime.audio.resampling import Resampler, resampled_length
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

_BYTES_PER_FLOAT = 4


class PcmBuffer:
    """Collects little-endian 16-bit PCM at `rate` (Hz). Appending a chunk costs time in proportion to the chunk alone.

    At 16 kHz the PCM is kept unchanged. Resampled audio stays float32, clipped to [-1, 1] because the filter can
    overshoot, and is never rounded to 16 bits.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._frames = 0
        self._kept = bytearray()
        self._resampler = None if rate == SAMPLE_RATE else Resampler(rate)
        self._pcm = self._kept if rate == SAMPLE_RATE else bytearray()

    @property
    def frames(self) -> int:
        """The utterance's length at its own rate."""
        return self._frames

    def pcm(self, start: int = 0, end: int | None = None) -> bytes:
        """PCM frames of the utterance as they came. Not after its end."""
        return bytes(self._pcm[start * BYTES_PER_SAMPLE : None if end is None else end * BYTES_PER_SAMPLE])

    @property
    def samples(self) -> int:
        """The utterance's length at 16 kHz, including samples the resampler still holds."""
        return resampled_length(self._frames, self.rate)

    def growth(self, frames: int) -> int:
        """How many samples at 16 kHz `frames` more frames would add."""
        return resampled_length(self._frames + frames, self.rate) - self.samples

    def append(self, pcm: bytes) -> None:
        self._frames += len(pcm) // BYTES_PER_SAMPLE
        self._pcm += pcm
        if self._resampler is not None:
            self._kept += _within(self._resampler.take(pcm16(pcm)))

    def settled(self, start: int = 0) -> Samples:
        """The utterance from sample `start` on, without the samples the resampler still holds."""
        if self._resampler is None:
            return pcm16(bytes(self._kept[start * BYTES_PER_SAMPLE :]))
        return np.frombuffer(bytes(self._kept[start * _BYTES_PER_FLOAT :]), np.float32)

    def end(self) -> Samples:
        """The whole utterance, including the resampler's rest. Nothing may be appended afterwards."""
        if self._resampler is not None:
            self._kept += _within(self._resampler.end())
        return self.settled()


def resampled(pcm: bytes, rate: int) -> Samples:
    """A whole utterance at 16 kHz, equal to the output of a PcmBuffer."""
    buffer = PcmBuffer(rate)
    buffer.append(pcm)
    return buffer.end()


def length(pcm: bytes, rate: int) -> int:
    """The number of samples at 16 kHz that `pcm` has as one utterance."""
    return resampled_length(len(pcm) // BYTES_PER_SAMPLE, rate)


def _within(samples: Samples) -> bytes:
    return np.clip(samples, -1, 1).tobytes()
