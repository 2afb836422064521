"""How long the end of an utterance has been silent."""

from itertools import takewhile

import numpy as np

from qwen3_asr_mlx_runtime.audio.pcm16 import BYTES_PER_SAMPLE, pcm16

FRAME_MS = 10
SILENCE_DB = 35.0  # below the loudest frame of the utterance

_POWER_RATIO = 10 ** (-SILENCE_DB / 10)


class TrailingSilence:
    """Takes little-endian 16-bit PCM at `rate` (Hz). A frame of FRAME_MS is silent if its mean power lies SILENCE_DB or
    more below that of the loudest frame so far; digital silence always is."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._frame = rate * FRAME_MS // 1000
        self._rest = b""
        self._powers: list[float] = []
        self._loudest = 0.0
        self._silent = 0  # frames at the end

    def append(self, pcm: bytes) -> None:
        pcm = self._rest + pcm
        size = self._frame * BYTES_PER_SAMPLE
        end = len(pcm) // size * size
        powers = np.square(pcm16(pcm[:end]).reshape(-1, self._frame), dtype=np.float32).mean(axis=1).tolist()
        self._rest = pcm[end:]
        self._powers += powers
        loudest = max([self._loudest, *powers])
        is_louder, self._loudest = loudest > self._loudest, loudest
        silent = self._silent_at_the_end(self._powers if is_louder else powers)
        self._silent = silent if is_louder or silent < len(powers) else self._silent + silent

    def _silent_at_the_end(self, powers: list[float]) -> int:
        limit = self._loudest * _POWER_RATIO
        return sum(1 for _ in takewhile(lambda power: power <= limit, reversed(powers)))

    @property
    def milliseconds(self) -> int:
        """Whole frames at the end that are silent."""
        return self._silent * self._frame * 1000 // self._rate
