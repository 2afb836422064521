"""How far the reader may run ahead of the answers."""

import threading

from qwen3_asr_mlx_runtime.limits import MAX_READ_AHEAD_BYTES

LINE_OVERHEAD_BYTES = 512  # what a decoded line costs in memory besides its own length
AUDIO_OVERHEAD_BYTES = 1024  # and what each piece of audio does that it names or brings to be transcribed


class InputAllowance:
    """Bytes of input read and not yet answered. The reader waits in `take`, and the rest of the input in the pipe."""

    def __init__(self, limit: int = MAX_READ_AHEAD_BYTES) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._taken

    def take(self, size: int) -> None:
        """Take `size` bytes, after waiting until they fit; a single one that never fits waits only for all others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._limit)
            self._taken += size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify()
