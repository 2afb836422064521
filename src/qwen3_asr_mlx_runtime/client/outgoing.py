"""Lines that are to be written to the process, and who waits until there are fewer."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError

from qwen3_asr_mlx_runtime.client.errors import ClientError


class Outgoing:
    """Any thread puts lines; one takes them."""

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
        """Done when less than the limit waits here."""
        room: Future[None] = Future()
        with self._lock:
            if self._size >= self._limit:
                self._waiting.append(room)
                return room
        room.set_result(None)
        return room

    def give(self, write: Callable[[memoryview], int]) -> None:
        """As much as `write` takes, which tells how much that was. Raises what it raises."""
        while self._blocks:
            self._took(write(self._blocks[0]))

    def fail(self, error: ClientError) -> None:
        """Nothing here will be written any more."""
        with self._lock:
            self._blocks.clear()
            self._size = 0
            waiting, self._waiting = self._waiting, []
        for room in waiting:
            with contextlib.suppress(InvalidStateError):  # nobody waits any more
                room.set_exception(error.again())

    def drop(self) -> None:
        with self._lock:
            self._blocks.clear()

    def _took(self, size: int) -> None:
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
