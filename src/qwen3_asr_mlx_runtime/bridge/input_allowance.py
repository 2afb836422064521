"""Limits how far the reader may run ahead of the replies."""

import threading

from qwen3_asr_mlx_runtime.limits import MAX_READ_AHEAD_BYTES

LINE_OVERHEAD_BYTES = 512  # memory of a decoded line besides its length
AUDIO_OVERHEAD_BYTES = 1024  # memory of each file or utterance that a line names or carries


class InputAllowance:
    """Bytes of input read and not yet answered. The reader waits in `take`; the rest of the input waits in the pipe."""

    def __init__(self, limit: int = MAX_READ_AHEAD_BYTES) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._taken

    def take(self, size: int) -> None:
        """Wait until `size` bytes fit, and take them. A line over the limit waits until it is the only one."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._limit)
            self._taken += size

    def give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify()
