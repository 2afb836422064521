"""Finished lines out: one thread owns stdout, and a parent that does not read blocks only it."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

MAX_QUEUED_BYTES = 16 * 1024 * 1024
_WRITE_BYTES = 64 * 1024

Write = Callable[[int, bytes], int]


class LineWriter:
    """Writes lines in the order they were put, each whole, on a thread named `stdout`.

    `put` never waits: results are never dropped. Whoever makes work looks at `has_room` before starting more, and
    `on_room` is called when a queue that was full is half empty again. `on_lost` is called once if the descriptor takes
    no more (EPIPE and every other error); nothing is written after that. Both are called on the writer's thread.
    """

    def __init__(
        self,
        fd: int,
        *,
        on_room: Callable[[], None],
        on_lost: Callable[[], None],
        limit: int = MAX_QUEUED_BYTES,
        write: Write = os.write,
    ) -> None:
        self._fd = fd
        self._on_room = on_room
        self._on_lost = on_lost
        self._limit = limit
        self._write = write
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._was_full = False
        self._closing = False
        self._lost = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_room(self) -> bool:
        return self._queued_bytes < self._limit

    def put(self, line: bytes) -> None:
        """Queue one finished line, its newline included."""
        with self._changed:
            if self._lost:
                return
            self._lines.append(line)
            self._queued_bytes += len(line)
            self._was_full = self._was_full or not self.has_room
            self._changed.notify()

    def close(self, timeout: float | None = None) -> bool:
        """Write what is queued, then end the thread; False if that took longer than `timeout` seconds or stdout is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._lost

    def _run(self) -> None:
        while block := self._next_block():
            if not self._write_whole(block):
                self._give_up()
                return
            if self._account(len(block)):
                self._on_room()

    def _next_block(self) -> bytes:
        """Lines up to about 64 KiB; empty when closed and all is written."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            block = bytearray()
            while self._lines and (not block or len(block) + len(self._lines[0]) <= _WRITE_BYTES):
                block += self._lines.popleft()
            return bytes(block)

    def _account(self, written: int) -> bool:
        with self._changed:
            self._queued_bytes -= written
            room_again = self._was_full and self._queued_bytes <= self._limit // 2
            if room_again:
                self._was_full = False
            return room_again

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

    def _give_up(self) -> None:
        with self._changed:
            self._lost = True
            self._lines.clear()
            self._queued_bytes = 0
        self._on_lost()


def _wait_writable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()
