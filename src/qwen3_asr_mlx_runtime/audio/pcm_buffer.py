"""The audio of an open utterance: PCM of the stream's rate comes in, 16 kHz goes out."""

import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import pcm16
from qwen3_asr_mlx_runtime.audio.resampling import Resampler, resampled_length
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

BYTES_PER_SAMPLE = 2
_BYTES_PER_FLOAT = 4


class PcmBuffer:
    """Takes little-endian 16-bit PCM at `rate` (Hz), in one piece, so that a chunk costs no more than its samples.

    At 16 kHz the PCM is kept as it came. What is resampled stays float32, cut to [-1, 1] where the filter overshoots,
    and is never rounded to 16 bits again.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._frames = 0
        self._kept = bytearray()
        self._resampler = None if rate == SAMPLE_RATE else Resampler(rate)

    @property
    def samples(self) -> int:
        """How long the utterance is at 16 kHz, with what the resampler still holds."""
        return resampled_length(self._frames, self.rate)

    def growth(self, frames: int) -> int:
        """How many samples so many frames more would add."""
        return resampled_length(self._frames + frames, self.rate) - self.samples

    def append(self, pcm: bytes) -> None:
        self._frames += len(pcm) // BYTES_PER_SAMPLE
        if self._resampler is None:
            self._kept += pcm
        else:
            self._kept += _within(self._resampler.take(pcm16(pcm)))

    def settled(self, start: int = 0) -> Samples:
        """The utterance from the sample `start` on, as far as it is certain: without what the resampler still holds."""
        if self._resampler is None:
            return pcm16(bytes(self._kept[start * BYTES_PER_SAMPLE :]))
        return np.frombuffer(bytes(self._kept[start * _BYTES_PER_FLOAT :]), np.float32)

    def end(self) -> Samples:
        """The whole utterance: what has settled, and what the resampler held. Nothing may be appended after it."""
        if self._resampler is not None:
            self._kept += _within(self._resampler.end())
        return self.settled()


def resampled(pcm: bytes, rate: int) -> Samples:
    """A whole utterance at 16 kHz, as a PcmBuffer gives it."""
    buffer = PcmBuffer(rate)
    buffer.append(pcm)
    return buffer.end()


def length(pcm: bytes, rate: int) -> int:
    """How many samples PCM is at 16 kHz as an utterance of its own."""
    return resampled_length(len(pcm) // BYTES_PER_SAMPLE, rate)


def _within(samples: Samples) -> bytes:
    return np.clip(samples, -1, 1).tobytes()
