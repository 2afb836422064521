"""One process and the thread that alone reads and writes its pipes, from its start to its end."""

import contextlib
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import IO, Any

from qwen3_asr_mlx_runtime.client.child import STDERR_LINES, Child, StderrRing
from qwen3_asr_mlx_runtime.client.errors import BridgeClosed, ClientError, ProtocolError
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.life import Life, Limits
from qwen3_asr_mlx_runtime.client.messages import Direction, LineBuffer, decode, encode
from qwen3_asr_mlx_runtime.client.requests import Requests
from qwen3_asr_mlx_runtime.protocol.commands import Command, Id, Ping
from qwen3_asr_mlx_runtime.protocol.replies import Fatal, Line

_BLOCK = 1 << 18
_TICK_SECONDS = 0.5  # how late the end of a process is seen whose pipes somebody else holds
_END_SECONDS = 0.02  # between looks at a process that has closed its outputs
_LAST_BLOCKS = 64  # that are read after the end: a pipe holds less


@dataclass(frozen=True)
class Ears:
    """Who is told, on the thread of the connection. `event`: what answers no request; `stderr`: a line; `end`: how
    the process ended, and why, None where that was asked for; `trace`: every line out, and block in."""

    event: Callable[[Line], None]
    end: Callable[[Exit, ClientError | None], None]
    stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None


class Connection:
    """Requests go out in the order of the calls, from any thread; nothing here waits, but for `join`."""

    def __init__(self, child: Child, ears: Ears, limits: Limits) -> None:
        self.child = child
        self.exit: Exit | None = None
        self.ended: ClientError | None = None  # why nothing can be asked any more
        self._ears = ears
        self._limits = limits
        self._life = Life(limits, time.monotonic())
        self._requests = Requests()
        self._lock = threading.Lock()
        self._unwritten: deque[memoryview] = deque()
        self._unwritten_bytes = 0
        self._waiting_for_room: list[Future[None]] = []
        self._is_closing = False
        self._tick = min(_TICK_SECONDS, limits.hang_seconds / 4, limits.grace_seconds / 4)
        self._lines = LineBuffer(limits.line_bytes)
        self._line_count = 0
        self._stderr, self._stderr_lines = StderrRing(limits.stderr_bytes), LineBuffer()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = os.pipe()
        self._outputs = 2
        self._thread = threading.Thread(target=self._run, name="qwen3-asr-bridge", daemon=True)
        self._prepare()
        self._thread.start()

    # From any thread

    def ask(self, message: Command | Mapping[str, Any]) -> tuple[Id, Future[Line]]:
        """The id that the request has, or else gets, and its reply to come. Raises why nothing can be asked any more,
        and ValueError for an id that is in flight."""
        own = message.get("id") if isinstance(message, Mapping) else None
        with self._lock:
            self._check()
            id, reply = self._requests.add(own)
            self._write(encode(message, id))
        self._wake()
        return id, reply

    def say(self, line: bytes) -> None:
        """A line that has no reply."""
        with self._lock:
            self._check()
            self._write(line)
        self._wake()

    def room(self) -> "Future[None]":
        """Done when less than the limit waits to be written."""
        room: Future[None] = Future()
        with self._lock:
            self._check()
            if self._unwritten_bytes < self._limits.unwritten_bytes:
                room.set_result(None)
            else:
                self._waiting_for_room.append(room)
        return room

    def greeted(self) -> None:
        """The process speaks: from now on it must show signs of life."""
        self._life.greeted(time.monotonic())

    def finish(self, seconds: float) -> None:
        """Close its input behind what was said, and bring it to its end, SIGTERM and SIGKILL coming after `seconds`."""
        with self._lock:
            self._is_closing = True
        self._life.end_within(seconds, time.monotonic())
        self._wake()

    def kill(self, why: ClientError | None = None) -> None:
        """`why`: the app did not ask for it."""
        if why is None:
            self._is_closing = True
        else:
            self._life.blame(why)
        self._life.kill_now()
        self._wake()

    def join(self, timeout: float | None = None) -> bool:
        """Whether the process has ended, and everything it said was heard."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stderr(self) -> tuple[str, ...]:
        return tuple(self._stderr.lines())

    def _check(self) -> None:
        if self.ended is not None:
            raise self.ended.again()
        if self._is_closing:
            raise BridgeClosed("The speech bridge is being stopped.")

    def _write(self, line: bytes) -> None:
        if self._ears.trace is not None:
            self._ears.trace("sent", line)
        if not self._unwritten:
            self._life.began_writing(time.monotonic())
        self._unwritten.append(memoryview(line))
        self._unwritten_bytes += len(line)
        self._life.asked(time.monotonic(), len(self._requests))

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake; closed: it has ended
            os.write(self._wake_out, b"\0")

    # On the thread

    def _prepare(self) -> None:
        process = self.child.process
        for end in (self._wake_in, self._wake_out):
            os.set_blocking(end, False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, self._take_wake)
        for pipe, take in ((process.stdout, self._take_stdout), (process.stderr, self._take_stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, take)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._watch_stdin()
                for key, _ in self._selector.select(self._tick if self._outputs else _END_SECONDS):
                    key.data()
                self._look_at_the_clock()
        finally:
            self._end()

    def _is_over(self) -> bool:
        """Whether the process has ended, and its outputs, or those that a child of its own holds, are read."""
        if self.child.exit() is None:
            return False
        process = self.child.process
        self._read(process.stdout, self._hear, _LAST_BLOCKS)
        self._read(process.stderr, self._keep, _LAST_BLOCKS)
        return True

    def _watch_stdin(self) -> None:
        stdin = self.child.process.stdin
        if stdin is None or stdin.closed:
            return
        with self._lock:
            wants, closes = bool(self._unwritten), self._is_closing
        watched = stdin in self._selector.get_map()
        if wants and not watched:
            self._selector.register(stdin, selectors.EVENT_WRITE, self._give_stdin)
        elif watched and not wants:
            self._selector.unregister(stdin)
        if closes and not wants:
            stdin.close()

    def _take_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 4096)

    def _give_stdin(self) -> None:
        stdin = self.child.process.stdin
        assert stdin is not None  # noqa: S101 it is watched
        try:
            while self._unwritten:
                written = os.write(stdin.fileno(), self._unwritten[0])
                self._took(written)
        except BlockingIOError:
            return
        except OSError:  # a broken pipe: what it said before it closed tells why
            self._selector.unregister(stdin)
            stdin.close()
            with self._lock:
                self._unwritten.clear()
            self._life.pipe_closed(time.monotonic())

    def _took(self, size: int) -> None:
        with self._lock:
            first = self._unwritten.popleft()
            if size < len(first):
                self._unwritten.appendleft(first[size:])
            self._unwritten_bytes -= size
            self._life.began_writing(time.monotonic())
            has_room = self._unwritten_bytes < self._limits.unwritten_bytes
            waiting, self._waiting_for_room = (self._waiting_for_room, []) if has_room else ([], self._waiting_for_room)
        for room in waiting:
            _settle(room, None)

    def _take_stdout(self) -> None:
        self._take(self.child.process.stdout, self._hear)

    def _take_stderr(self) -> None:
        self._take(self.child.process.stderr, self._keep)

    def _take(self, pipe: IO[bytes] | None, give: Callable[[bytes], None]) -> None:
        if pipe is None or self._read(pipe, give, blocks=1):
            return
        self._selector.unregister(pipe)
        pipe.close()
        self._outputs -= 1
        if self._outputs == 0 or pipe is self.child.process.stdout:
            self._life.pipe_closed(time.monotonic())

    def _read(self, pipe: IO[bytes] | None, give: Callable[[bytes], None], blocks: int) -> bool:
        """Take what is there, so many blocks at most. False where the output has ended."""
        if pipe is None or pipe.closed:
            return False
        try:
            for _ in range(blocks):
                data = os.read(pipe.fileno(), _BLOCK)
                if not data:
                    return False
                give(data)
        except BlockingIOError:
            pass
        return True

    def _keep(self, data: bytes) -> None:
        self._stderr.add(data)
        if self._ears.stderr is None:
            return
        try:
            for line in self._stderr_lines.feed(data):
                self._ears.stderr(line.decode("utf-8", "replace"))
        except ValueError:  # one without an end
            self._stderr_lines = LineBuffer()

    def _hear(self, data: bytes) -> None:
        self._life.heard(time.monotonic())
        if self._ears.trace is not None:
            self._ears.trace("received", data)
        try:
            for line in self._lines.feed(data):
                self._line_count += 1
                if line.strip():
                    self._give_out(decode(line))
        except ValueError as problem:
            self._nonsense(str(problem))

    def _nonsense(self, problem: str) -> None:
        self._life.blame(ProtocolError.at(self._line_count, problem))
        self._life.kill_now()

    def _give_out(self, message: Line) -> None:
        if self._life.blamed is not None:
            return  # behind nonsense nothing is believed
        if isinstance(message, Fatal):
            self._life.said_fatal(message, time.monotonic())
        elif not self._requests.answer(message):
            self._ears.event(message)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        with self._lock:
            waiting, writing = len(self._requests), bool(self._unwritten)
        due = self._life.due(now, waits=waiting > 0, writes=writing)
        if due.ping:
            with contextlib.suppress(ClientError):
                self.ask(Ping())
        if due.signal is not None:
            self.child.signal_group(due.signal)

    def _end(self) -> None:
        self.child.signal_group(signal.SIGKILL)  # only where this thread has failed is it still there
        self.exit = Exit.of(self.child.process.wait())
        loss = self._life.loss(self.exit, has_half_line=self._lines.has_rest, asked=self._is_closing)
        error: ClientError = loss or BridgeClosed("The speech bridge was stopped.")
        error.exit, error.stderr = self.exit, self.stderr[-STDERR_LINES:]
        with self._lock:
            self.ended = error
            rooms, self._waiting_for_room = self._waiting_for_room, []
            replies = self._requests.clear()
            self._unwritten.clear()
        self.child.close_pipes()
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)
        self._ears.end(self.exit, loss)
        waiting: list[Future[Any]] = [*rooms, *replies]
        for future in waiting:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(error.again())


def _settle(room: "Future[None]", value: None) -> None:
    with contextlib.suppress(InvalidStateError):  # nobody waits any more
        room.set_result(value)
