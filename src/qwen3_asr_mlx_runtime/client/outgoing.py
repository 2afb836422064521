"""Lines that wait to be written to the process, and the futures of those who wait for room."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

from qwen3_asr_mlx_runtime.client.errors import ClientError


class Outgoing:
    """Any thread puts lines; one thread writes them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._blocks: deque[memoryview] = deque()
        self._size = 0
        self._waiting: list[Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def put(self, line: bytes) -> None:
        with self._lock:
            self._blocks.append(memoryview(line))
            self._size += len(line)

    def room(self) -> "Future[None]":
        """A future that is done when fewer bytes than the limit wait here."""
        room: Future[None] = Future()
        with self._lock:
            if self._size >= self._limit:
                self._waiting.append(room)
                return room
        room.set_result(None)
        return room

    def write_with(self, write: Callable[[memoryview], int]) -> None:
        """Pass blocks to `write`, which returns the number of bytes it took. Raises what `write` raises."""
        while self._blocks:
            self._remove(write(self._blocks[0]))

    def fail(self, error: ClientError) -> None:
        """Drop all lines, and raise `error` where callers wait for room."""
        with self._lock:
            self._blocks.clear()
            self._size = 0
            waiting, self._waiting = self._waiting, []
        for room in waiting:
            with contextlib.suppress(InvalidStateError):  # its caller no longer waits
                room.set_exception(error.again())

    def drop(self) -> None:
        with self._lock:
            self._blocks.clear()

    def _remove(self, size: int) -> None:
        with self._lock:
            first = self._blocks.popleft()
            if size < len(first):
                self._blocks.appendleft(first[size:])
            self._size -= size
            if self._size >= self._limit:
                return
            waiting, self._waiting = self._waiting, []
        for room in waiting:
            with contextlib.suppress(InvalidStateError):
                room.set_result(None)
