"""The three pipes of a process, read and written by one thread that waits on all of them."""

import contextlib
import os
import selectors
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.outgoing import Outgoing

_BLOCK = 1 << 18
_LAST_BLOCKS = 64  # to read after the end: a pipe holds less


@dataclass(frozen=True)
class Sinks:
    """Callbacks, called on the thread that waits. `stdout`, `stderr`: a block was read. `taken`: stdin took bytes.
    `closed`: the process closed stdin or stdout."""

    stdout: Callable[[bytes], None]
    stderr: Callable[[bytes], None]
    taken: Callable[[], None]
    closed: Callable[[], None]


class Pipes:
    """`wake` may be called from any thread, all else only from the thread that waits."""

    def __init__(self, child: Child, outgoing: Outgoing, sinks: Sinks) -> None:
        self._outgoing = outgoing
        self._sinks = sinks
        self._stdin, self._stdout, self._stderr = child.pipes
        self._open_outputs = 2
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe()
        for descriptor in (self._wake_in, self._wake_out, *(pipe.fileno() for pipe in child.pipes)):
            os.set_blocking(descriptor, False)
        register = self._selector.register
        register(self._wake_in, selectors.EVENT_READ, self._take_wake)
        register(self._stdout, selectors.EVENT_READ, lambda: self._take(self._stdout, sinks.stdout))
        register(self._stderr, selectors.EVENT_READ, lambda: self._take(self._stderr, sinks.stderr))

    @property
    def has_outputs(self) -> bool:
        return self._open_outputs > 0

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # full: the thread is awake; closed: it has ended
            os.write(self._wake_out, b"\0")

    def wait(self, seconds: float, *, closes_input: bool) -> None:
        """Wait at most `seconds` until a pipe was read or written, or `wake` was called. `closes_input`: close stdin
        once all lines are written."""
        self._watch_stdin(closes_input)
        for key, _ in self._selector.select(seconds):
            key.data()

    def drain(self) -> None:
        """Read what is left after the end of the process. Its own children may hold the pipes open."""
        for pipe, sink in ((self._stdout, self._sinks.stdout), (self._stderr, self._sinks.stderr)):
            if not pipe.closed:
                _read(pipe, sink, _LAST_BLOCKS)

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _watch_stdin(self, closes: bool) -> None:
        if self._stdin.closed:
            return
        wants, watched = bool(self._outgoing), self._stdin in self._selector.get_map()
        if wants and not watched:
            self._selector.register(self._stdin, selectors.EVENT_WRITE, self._write_lines)
        elif watched and not wants:
            self._selector.unregister(self._stdin)
        if closes and not wants:
            self._stdin.close()

    def _take_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 4096)
        self._write_lines()  # at once: the pipe mostly has room

    def _write_lines(self) -> None:
        if self._stdin.closed:
            return
        try:
            self._outgoing.write_with(self._write)
        except BlockingIOError:
            return
        except OSError:  # a broken pipe: the output before it has the reason
            if self._stdin in self._selector.get_map():
                self._selector.unregister(self._stdin)
            self._stdin.close()
            self._outgoing.drop()
            self._sinks.closed()

    def _write(self, block: memoryview) -> int:
        written = os.write(self._stdin.fileno(), block)
        self._sinks.taken()
        return written

    def _take(self, pipe: IO[bytes], sink: Callable[[bytes], None]) -> None:
        if _read(pipe, sink, blocks=1):
            return
        self._selector.unregister(pipe)
        pipe.close()
        self._open_outputs -= 1
        if pipe is self._stdout:
            self._sinks.closed()


def _read(pipe: IO[bytes], sink: Callable[[bytes], None], blocks: int) -> bool:
    """Pass up to `blocks` available blocks to `sink`. False if the output has ended."""
    try:
        for _ in range(blocks):
            data = os.read(pipe.fileno(), _BLOCK)
            if not data:
                return False
            sink(data)
    except BlockingIOError:
        pass
    return True
