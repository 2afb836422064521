"""How long the end of an utterance has been silent."""

import numpy as np

from qwen3_asr_mlx_runtime.audio.pcm16 import BYTES_PER_SAMPLE, pcm16

FRAME_MS = 10
SILENCE_DB = 35.0  # below the loudest frame of the utterance

_POWER_RATIO = 10 ** (-SILENCE_DB / 10)


class TrailingSilence:
    """Takes little-endian 16-bit PCM at `rate` (Hz). A frame of FRAME_MS is silent if its mean power lies SILENCE_DB or
    more below that of the loudest frame so far; digital silence always is."""

    def __init__(self, rate: int) -> None:
        self._frame_bytes = rate * FRAME_MS // 1000 * BYTES_PER_SAMPLE
        self._rest = b""
        self._powers: list[float] = []
        self._loudest = 0.0

    def append(self, pcm: bytes) -> None:
        pcm = self._rest + pcm
        end = len(pcm) // self._frame_bytes * self._frame_bytes
        frames = pcm16(pcm[:end]).reshape(-1, self._frame_bytes // BYTES_PER_SAMPLE)
        powers = np.square(frames, dtype=np.float32).mean(axis=1).tolist()
        self._loudest = max([self._loudest, *powers])
        self._powers += powers
        self._rest = pcm[end:]

    @property
    def milliseconds(self) -> int:
        """Whole frames at the end that are silent."""
        limit = self._loudest * _POWER_RATIO
        silent = 0
        for power in reversed(self._powers):
            if power > limit:
                break
            silent += 1
        return silent * FRAME_MS
