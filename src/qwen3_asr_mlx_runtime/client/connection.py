"""One process and the conversation with it, from its start to its end. One thread reads, writes and keeps the time."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from signal import SIG_BLOCK, SIGKILL, SIGPIPE, pthread_sigmask
from typing import Any

from qwen3_asr_mlx_runtime.client.child import STDERR_LINES, Child, StderrTail
from qwen3_asr_mlx_runtime.client.errors import BridgeClosed, ClientError, ProtocolError, RequestFailed
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.life import Life, Limits
from qwen3_asr_mlx_runtime.client.messages import Direction, LineBuffer, check_name, decode, encode
from qwen3_asr_mlx_runtime.client.outgoing import Outgoing
from qwen3_asr_mlx_runtime.client.pipes import Pipes, Sinks
from qwen3_asr_mlx_runtime.client.requests import Requests
from qwen3_asr_mlx_runtime.protocol.commands import Cancel, Command, Id, Ping, StopStream
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Fatal, Line
from qwen3_asr_mlx_runtime.protocol.streams import StreamReady, StreamStopped

_TICK_SECONDS = 0.5  # how late the end of a process is seen whose pipes somebody else holds
_END_SECONDS = 0.02  # between looks at a process that has closed its outputs


@dataclass(frozen=True)
class Ears:
    """Who is told, on the thread of the connection. `event`: what answers no request; `stderr`: a line; `end`: how
    the process ended, why, None where that was asked for, and the streams that went with it; `trace`: every block in,
    and, on the thread that says it, every line out."""

    event: Callable[[Line], None]
    end: Callable[[Exit, ClientError | None, tuple[str, ...]], None]
    stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None


class Connection:
    """Requests go out in the order of the calls, from any thread; nothing here waits, but for `join`."""

    def __init__(self, child: Child, ears: Ears, limits: Limits) -> None:
        self.child = child
        self.exit: Exit | None = None
        self.ended: ClientError | None = None  # why nothing can be asked any more
        self._app = os.getpid()
        self._ears = ears
        self._streams: set[str] = set()
        self._max_line_bytes: int | None = None  # that the process reads
        self._life = Life(limits, time.monotonic())
        self._requests = Requests()
        self._outgoing = Outgoing(limits.unwritten_bytes)
        self._stderr = StderrTail(limits.stderr_bytes, ears.stderr)
        self._pipes = Pipes(child, self._outgoing, Sinks(self._hear, self._stderr.add, self._took, self._closed))
        self._lock = threading.Lock()
        self._is_closing = False
        self._tick = min(_TICK_SECONDS, limits.hang_seconds / 4, limits.grace_seconds / 4)
        self._lines, self._line_count = LineBuffer(limits.line_bytes), 0
        self._thread = threading.Thread(target=self._run, name="qwen3-asr-bridge", daemon=True)
        self._thread.start()

    # From any thread

    def ask(self, message: Command | Mapping[str, Any]) -> tuple[Id, Future[Line]]:
        """The id that the request has, or else gets, and its reply to come. Raises why nothing can be asked any more,
        RequestFailed for a line that the process would not read, and ValueError or TypeError for an id that is none or
        in flight and for members that are no JSON."""
        with self._open():
            return self._ask(message)

    def abandon(self, id: Id, reply: Future[Line]) -> None:
        """Nobody waits for it any more. It is cancelled, and a stream that it opens all the same is stopped, without
        waiting for an answer, or minding whether anybody is there."""
        with contextlib.suppress(ClientError):
            self.ask(Cancel(target=id))
        reply.add_done_callback(self._stop_unowned)

    def say(self, line: bytes) -> None:
        """A line that has no reply."""
        with self._open():
            self._write(self._fitting(line))

    def room(self) -> "Future[None]":
        """Done when less than the limit waits to be written."""
        with self._open():
            return self._outgoing.room()

    def greeted(self, max_line_bytes: int) -> None:
        """The process speaks: from now on it must show signs of life."""
        self._max_line_bytes = max_line_bytes
        self._life.greeted(time.monotonic())

    def finish(self, seconds: float) -> None:
        """Close its input behind what was said, and bring it to its end, SIGTERM and SIGKILL coming after `seconds`."""
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

    def drop(self) -> bool:
        """Kill it: nobody holds its client any more. False where that needs no warning. A collector may run this within
        any call, so it takes no lock; and in a fork the process is another's."""
        if os.getpid() != self._app:
            return False
        was_closing, self._is_closing = self._is_closing, True
        self.child.signal_group(SIGKILL)
        return not was_closing and self.ended is None

    def join(self, timeout: float | None = None) -> bool:
        """Whether the process has ended, and everything it said was heard."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stderr(self) -> tuple[str, ...]:
        return tuple(self._stderr.lines())

    def _ask(self, message: Command | Mapping[str, Any]) -> tuple[Id, Future[Line]]:
        id = self._requests.name(message.get("id") if isinstance(message, Mapping) else None)
        line = self._fitting(encode(message, id))
        check_name(line)
        reply = self._requests.add(id, message)
        self._life.asked(time.monotonic())
        self._write(line)
        return id, reply

    def _stop_unowned(self, reply: Future[Line]) -> None:
        """Nobody has the stream that this opened, unless the app has begun it anew: then it is the app's."""
        ready = None if reply.exception() else reply.result()
        with contextlib.suppress(ClientError), self._open():
            if isinstance(ready, StreamReady) and self._requests.is_owner(ready.stream_id, reply):
                self._ask(StopStream(stream_id=ready.stream_id, mode="discard"))

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Locked. Raises why nothing can be said any more."""
        if os.getpid() != self._app:  # a fork: the thread, and whatever the lock waits for, are not in this process
            raise BridgeClosed("The speech bridge was started by another process than this one.")
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            if self._is_closing:
                raise BridgeClosed("The speech bridge is being stopped.")
            yield

    def _fitting(self, line: bytes) -> bytes:
        """The answer to a line that is too long would not name its request."""
        limit = self._max_line_bytes
        if limit is None or len(line) <= limit + 1:
            return line
        message = f"the request is longer than {limit} bytes"
        raise RequestFailed(ErrorReply(code="line_too_long", message=message, retryable=False, data={"limit": limit}))

    def _write(self, line: bytes) -> None:
        if self._ears.trace is not None:
            self._ears.trace("sent", line)
        if not self._outgoing:
            self._took()
        self._outgoing.put(line)
        self._pipes.wake()

    def _wake(self) -> None:
        with self._lock:
            if self.ended is None:  # its descriptor may be somebody else's by now
                self._pipes.wake()

    # On the thread

    def _run(self) -> None:
        pthread_sigmask(SIG_BLOCK, [SIGPIPE])  # whatever the app does with it: a broken pipe is an error of the write
        try:
            while self.child.exit() is None:
                seconds = self._tick if self._pipes.has_outputs else _END_SECONDS
                self._pipes.wait(seconds, closes_input=self._is_closing)
                self._look_at_the_clock()
            self._pipes.drain()
            self._stderr.end()
        finally:
            self._end()

    def _look_at_the_clock(self) -> None:
        due = self._life.due(time.monotonic(), waits=len(self._requests) > 0, writes=bool(self._outgoing))
        if due.ping:
            with contextlib.suppress(ClientError):
                self.ask(Ping())
        if due.signal is not None:
            self.child.signal_group(due.signal)

    def _took(self) -> None:
        self._life.took(time.monotonic())

    def _closed(self) -> None:
        self._life.pipe_closed(time.monotonic())

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
            self._life.blame(ProtocolError.at(self._line_count, str(problem)))
            self._life.kill_now()

    def _give_out(self, message: Line) -> None:
        if self._life.blamed is not None:
            return  # behind nonsense nothing is believed
        if isinstance(message, StreamReady):
            self._streams.add(message.stream_id)
        elif isinstance(message, StreamStopped):
            self._streams.discard(message.stream_id)
        if isinstance(message, Fatal):
            self._life.said_fatal(message, time.monotonic())
        elif not self._requests.answer(message):
            self._ears.event(message)

    def _end(self) -> None:
        self.child.signal_group(SIGKILL)  # only where this thread has failed is it still there
        self.exit = Exit.of(self.child.process.wait())
        loss = self._life.loss(self.exit, has_half_line=self._lines.has_rest, asked=self._is_closing)
        error: ClientError = loss or BridgeClosed("The speech bridge was stopped.")
        error.exit, error.stderr = self.exit, self.stderr[-STDERR_LINES:]
        with self._lock:
            self.ended = error
            replies = self._requests.clear()
            self._pipes.close()
        try:
            self._ears.end(self.exit, loss, tuple(sorted(self._streams)))
        finally:
            self._outgoing.fail(error)
            for reply in replies:
                reply.set_exception(error.again())
