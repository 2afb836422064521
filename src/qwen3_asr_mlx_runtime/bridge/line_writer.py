"""Writes finished lines: one thread owns stdout, and a parent that does not read blocks only that thread."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum

from qwen3_asr_mlx_runtime.limits import MAX_OUTPUT_QUEUE_BYTES

_WRITE_BYTES = 64 * 1024

Write = Callable[[int, memoryview], int]


class WriterNews(Enum):
    """ROOM: a full queue has drained below half, or the queue is empty after `is_empty_or_notifies` returned False.
    WRITTEN: all lines are written after `finish`. LOST: a write failed."""

    ROOM = "room"
    WRITTEN = "written"
    LOST = "lost"


class LineWriter:
    """Writes lines in the order they were put, each whole, on a thread named `stdout`.

    `put` never waits and never drops a line: the caller checks `has_room` before it starts more work. `post` is called
    on the writer's thread. After LOST (EPIPE, or any other error) nothing is written or kept.
    """

    def __init__(
        self,
        fd: int,
        post: Callable[[WriterNews], None],
        *,
        limit: int = MAX_OUTPUT_QUEUE_BYTES,
        write: Write = os.write,
    ) -> None:
        self._fd = fd
        self._post = post
        self._limit = limit
        self._write = write
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._was_full = False
        self._is_awaited = False
        self._finishing = False
        self._lost = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_room(self) -> bool:
        return self._queued_bytes < self._limit

    def is_empty_or_notifies(self) -> bool:
        """Whether all lines are written. If not, ROOM is posted once they are."""
        with self._changed:
            self._is_awaited = self._queued_bytes > 0
            return not self._is_awaited

    def put(self, line: bytes) -> None:
        """Queue one finished line, its newline included."""
        with self._changed:
            if self._lost:
                return
            self._lines.append(line)
            self._queued_bytes += len(line)
            self._was_full = self._was_full or not self.has_room
            self._changed.notify()

    def finish(self) -> None:
        """Write the queued lines, then end the thread; it posts WRITTEN, or LOST."""
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the thread at most `timeout` seconds; True if it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while block := self._next_block():
            if not self._write_whole(block):
                self._discard_lines()
                self._post(WriterNews.LOST)
                return
            if self._has_room_again(len(block)):
                self._post(WriterNews.ROOM)
        self._post(WriterNews.WRITTEN)

    def _next_block(self) -> bytes:
        """Whole lines up to about 64 KiB; empty when finishing and all is written."""
        with self._changed:
            while not self._lines and not self._finishing:
                self._changed.wait()
            block = bytearray()
            while self._lines and (not block or len(block) + len(self._lines[0]) <= _WRITE_BYTES):
                block += self._lines.popleft()
            return bytes(block)

    def _has_room_again(self, written: int) -> bool:
        with self._changed:
            self._queued_bytes -= written
            room_again = self._was_full and self._queued_bytes <= self._limit // 2
            empty = self._is_awaited and not self._queued_bytes
            self._was_full = self._was_full and not room_again
            self._is_awaited = self._is_awaited and not empty
            return room_again or empty

    def _write_whole(self, block: bytes) -> bool:
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[self._write(self._fd, rest) :]
            except InterruptedError:
                continue
            except BlockingIOError:  # the other side may have made the shared description non-blocking
                _wait_writable(self._fd)
            except OSError:
                return False
        return True

    def _discard_lines(self) -> None:
        with self._changed:
            self._lost = True
            self._lines.clear()
            self._queued_bytes = 0


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()
