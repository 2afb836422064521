"""Runs in a child's place: relays every byte unchanged and at once, and also signals and the exit code."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Literal

_BLOCK_BYTES = 64 * 1024
_MAX_TAP_BYTES = 32 * 1024 * 1024
_ENDS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PATIENCE_SECONDS = 2.0
_FORWARDED = (*_ENDS, signal.SIGUSR1, signal.SIGUSR2)

Side = Literal["app", "bridge"]


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that `side` wrote, with their time on the monotonic clock. `torn`: bytes before them were dropped."""

    side: Side
    at: float
    data: bytes
    torn: bool = False


class Tap:
    """Copies of the relayed blocks, for one reader. `put` never waits: over the limit, blocks are only counted."""

    def __init__(self, limit: int = _MAX_TAP_BYTES) -> None:
        self._limit = limit
        self._blocks: deque[Block] = deque()
        self._held = 0
        self._unseen = 0
        self._torn: set[Side] = set()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, side: Side, data: bytes) -> None:
        with self._changed:
            if self._held + len(data) > self._limit:
                self._unseen += len(data)
                self._torn.add(side)
                return
            self._blocks.append(Block(side, time.monotonic(), data, side in self._torn))
            self._torn.discard(side)
            self._held += len(data)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout: float) -> Block | None:
        """The next block; None after `timeout` seconds without one. Raises EOFError when closed and empty."""
        with self._changed:
            if not self._blocks and not self._closed:
                self._changed.wait(timeout)
            if not self._blocks:
                if self._closed:
                    raise EOFError
                return None
            block = self._blocks.popleft()
            self._held -= len(block.data)
            return block

    def take_unseen(self) -> int:
        with self._changed:
            unseen, self._unseen = self._unseen, 0
            return unseen


class Relay:
    """The child that `command` starts. It has its own process group, so that a terminal's Ctrl-C reaches it only once,
    from here. Main thread only. Raises OSError if it cannot be started. `take_stderr` gets its stderr; None: the child
    inherits this process's stderr."""

    def __init__(self, command: Sequence[str], tap: Tap, take_stderr: Callable[[bytes], None] | None = None) -> None:
        self._tap = tap
        self._take_stderr = take_stderr
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(  # noqa: S603 the app's
            command, stdin=pipe, stdout=pipe, stderr=pipe if take_stderr else None, bufsize=0, process_group=0
        )
        self._ended = self._is_ending = False
        for number in _FORWARDED:
            signal.signal(number, self._forward)

    def run(self) -> int:
        """Wait until the child has ended and its output is relayed; return its exit code, or minus its signal. After a
        signal, output without a reader is dropped after two seconds."""
        assert self._child.stdin is not None  # noqa: S101 they are pipes
        assert self._child.stdout is not None  # noqa: S101
        to_child, from_child = os.dup(self._child.stdin.fileno()), os.dup(self._child.stdout.fileno())
        self._child.stdin.close()
        self._child.stdout.close()
        threading.Thread(target=_pump, args=("app", 0, to_child, self._tap.put), name="to bridge", daemon=True).start()
        back = threading.Thread(target=_pump, args=("bridge", from_child, 1, self._tap.put), name="from bridge")
        back.daemon = True
        back.start()
        diagnostics = threading.Thread(target=self._read_stderr, name="stderr", daemon=True)
        diagnostics.start()
        code = self._child.wait()
        self._ended = True
        back.join(_PATIENCE_SECONDS if self._is_ending else None)
        diagnostics.join(_PATIENCE_SECONDS)  # a child of the bridge may hold it open
        return code

    def _read_stderr(self) -> None:
        if self._child.stderr is not None and self._take_stderr is not None:
            while data := os.read(self._child.stderr.fileno(), _BLOCK_BYTES):
                self._take_stderr(data)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if self._ended:  # the child's remaining output has no reader
            os._exit(128 + number)
        self._is_ending |= number in _ENDS
        self._child.send_signal(number)


def _pump(side: Side, source: int, sink: int, tap: Callable[[Side, bytes], None]) -> None:
    """Copy until the source ends or the sink has no reader. Then close both, which both sides notice."""
    with suppress(OSError):
        while data := os.read(source, _BLOCK_BYTES):
            tap(side, data)  # first, because the reply may come before the write returns
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(sink, rest) :]
    null = os.open(os.devnull, os.O_RDWR)  # keeps their numbers from being reused
    for descriptor in (sink, source):
        os.dup2(null, descriptor)
    os.close(null)


def leave_as(code: int) -> None:
    """End this process as the child ended: with its exit code, or by its signal."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has written a core file, if wanted
        with suppress(OSError, ValueError):  # SIGKILL has no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
