"""Bytes in, lines out: cut at 0x0A, in bounded memory for any input."""

import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.limits import MAX_LINE_BYTES

_READ_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its newline (or CR and newline). `terminated` is False for a last line without a newline."""

    data: bytes
    terminated: bool = True


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line over the limit, skipped up to its newline; only its length in bytes is known."""

    length: int


class LineReader:
    """Iterates over the lines of a descriptor until its end.

    Skips blank lines, and removes a byte order mark from the first line. A failed read ends the input. Memory stays
    below the limit plus one read, also within a line that is too long.
    """

    def __init__(self, fd: int, *, limit: int = MAX_LINE_BYTES, read: Read = os.read) -> None:
        self._fd = fd
        self._limit = limit
        self._read = read
        self._partial = bytearray()
        self._skipped = 0  # bytes dropped so far of a line that is too long
        self._first = True

    @property
    def partial_bytes(self) -> int:
        """The bytes read so far of an unfinished line."""
        return self._skipped + len(self._partial)

    def __iter__(self) -> Iterator[Line | LongLine]:
        while block := self._read_block():
            *line_ends, rest = block.split(b"\n")
            for line_end in line_ends:
                self._take(line_end)
                yield from self._cut(terminated=True)
            self._take(rest)
        yield from self._cut(terminated=False)

    def _read_block(self) -> bytes:
        while True:
            try:
                return self._read(self._fd, _READ_BYTES)
            except InterruptedError:
                continue
            except BlockingIOError:  # the other side may have made the shared description non-blocking
                _wait_readable(self._fd)
            except OSError:
                return b""

    def _take(self, data: bytes) -> None:
        if not self._skipped and len(self._partial) + len(data) <= self._limit:
            self._partial += data
            return
        self._skipped += len(self._partial) + len(data)
        self._partial = bytearray()

    def _cut(self, *, terminated: bool) -> Iterator[Line | LongLine]:
        data, length = bytes(self._partial), self._skipped
        self._partial, self._skipped = bytearray(), 0
        if self._first:
            data, self._first = data.removeprefix(_BOM), False
        if length:
            yield LongLine(length)
        elif data.strip(b" \t\r"):
            yield Line(data.removesuffix(b"\r"), terminated)


def _wait_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()
