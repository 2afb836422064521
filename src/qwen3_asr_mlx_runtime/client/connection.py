"""One process and the exchange with it, from start to end. One thread reads, writes and watches the time limits."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from signal import SIG_BLOCK, SIGKILL, SIGPIPE, pthread_sigmask
from typing import Any

from qwen3_asr_mlx_runtime.client.child import STDERR_LINES, Child, StderrTail
from qwen3_asr_mlx_runtime.client.errors import BridgeClosed, ClientError, ProtocolError, RequestFailed
from qwen3_asr_mlx_runtime.client.events import UtteranceLost
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.kept import Kept
from qwen3_asr_mlx_runtime.client.life import Life, Limits
from qwen3_asr_mlx_runtime.client.messages import Direction, LineBuffer, check_name, decode, encode, members_of
from qwen3_asr_mlx_runtime.client.outgoing import Outgoing
from qwen3_asr_mlx_runtime.client.pipes import Pipes, Sinks
from qwen3_asr_mlx_runtime.client.requests import Requests
from qwen3_asr_mlx_runtime.protocol.commands import Cancel, Command, Id, Ping, StopStream
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Fatal, Line
from qwen3_asr_mlx_runtime.protocol.streams import StreamReady, StreamStopped

_TICK_SECONDS = 0.5  # longest delay before an end is seen, if another process holds the pipes
_END_SECONDS = 0.02  # poll interval once the process has closed its outputs


@dataclass(frozen=True)
class Handlers:
    """Callbacks, called on the connection's thread. `event`: a message that answers no request. `stderr`: a line.
    `end`: the exit, its error (None if the app ended the process), and the streams that were open; returns the ids of
    requests that a later process answers. `trace`: every block received, and every line sent; the latter on the thread
    that sends it."""

    event: Callable[[Line | UtteranceLost], None]
    end: Callable[[Exit, ClientError | None, tuple[str, ...]], Collection[object]]
    stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None


class Connection:
    """Requests are sent in the order of the calls, from any thread. Only `join` waits."""

    def __init__(self, child: Child, handlers: Handlers, limits: Limits, kept: Kept | None = None) -> None:
        self.child = child
        self.exit: Exit | None = None
        self.ended: ClientError | None = None  # why no request can be sent any more
        self._app = os.getpid()
        self._handlers = handlers
        self._streams: set[str] = set()
        self._max_line_bytes: int | None = None  # the longest line that the process reads
        self._life = Life(limits, time.monotonic())
        self._kept = kept
        self._requests = Requests() if kept is None else kept.requests
        self._outgoing = Outgoing(limits.unwritten_bytes)
        self._stderr = StderrTail(limits.stderr_bytes, handlers.stderr)
        sinks = Sinks(self._receive, self._stderr.add, self._on_written, self._on_closed)
        self._pipes = Pipes(child, self._outgoing, sinks)
        self._lock = threading.Lock()
        self._is_closing = False
        self._tick = min(_TICK_SECONDS, limits.hang_seconds / 4, limits.grace_seconds / 4)
        self._lines, self._line_count = LineBuffer(limits.line_bytes), 0
        self._thread = threading.Thread(target=self._run, name="qwen3-asr-bridge", daemon=True)
        self._thread.start()

    # From any thread

    def ask(self, message: Command | Mapping[str, Any]) -> tuple[Id, Future[Line]]:
        """Send a request; return its id, which the app chose or which is new, and the future of its reply.

        Raises the ClientError that ended the connection, RequestFailed for a line that is too long for the process, and
        ValueError or TypeError for an id that is invalid or in flight and for members that JSON cannot hold."""
        with self._open():
            return self._ask(message)

    def abandon(self, id: Id, reply: Future[Line]) -> None:
        """Cancel a request whose reply no caller waits for. If it opens a stream all the same, the stream is stopped.
        Waits for no reply, and ignores a connection that has ended."""
        with contextlib.suppress(ClientError):
            self.ask(Cancel(target=id))
        reply.add_done_callback(self._stop_abandoned)

    def send(self, message: Command) -> None:
        """Send a message that has no reply."""
        with self._open():
            self._write(self._kept_line(members_of(message), self._check_length))

    def resend(self) -> None:
        """Send what the processes before this one have left."""
        with self._open():
            for line in () if self._kept is None else self._kept.lines():
                self._write(line)

    def room(self) -> "Future[None]":
        """A future that is done when fewer bytes than the limit wait to be written."""
        with self._open():
            return self._outgoing.room()

    def greeted(self, max_line_bytes: int) -> None:
        """The process has greeted: from now on a process that stays silent counts as hung."""
        self._max_line_bytes = max_line_bytes
        self._life.greeted(time.monotonic())

    def finish(self, seconds: float) -> None:
        """Close its input once all lines are written. If it runs on after `seconds`, send SIGTERM, then SIGKILL."""
        self._is_closing = True
        self._life.end_within(seconds, time.monotonic())
        self._wake()

    def kill(self, why: ClientError | None = None) -> None:
        """`why`: the error that is reported; None if the app asks for the kill."""
        if why is None:
            self._is_closing = True
        else:
            self._life.blame(why)
        self._life.kill_now()
        self._wake()

    def drop(self) -> bool:
        """Kill a process whose client was garbage-collected. Returns whether to warn. The collector may run this within
        any call, so it takes no lock. In a fork it does nothing: the process belongs to the parent."""
        if os.getpid() != self._app:
            return False
        was_closing, self._is_closing = self._is_closing, True
        self.child.signal_group(SIGKILL)
        return not was_closing and self.ended is None

    def join(self, timeout: float | None = None) -> bool:
        """Wait. Returns whether the process has ended and all its output was read."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stderr(self) -> tuple[str, ...]:
        return tuple(self._stderr.lines())

    def _ask(self, message: Command | Mapping[str, Any]) -> tuple[Id, Future[Line]]:
        id = self._requests.name(message.get("id") if isinstance(message, Mapping) else None)
        line = self._kept_line({**members_of(message), "id": id}, self._check_request)
        reply = self._requests.add(id, message)
        self._life.request_sent(time.monotonic())
        self._write(line)
        return id, reply

    def _stop_abandoned(self, reply: Future[Line]) -> None:
        """Stop the stream that an abandoned request opened, unless the app has restarted it meanwhile."""
        ready = None if reply.exception() else reply.result()
        with contextlib.suppress(ClientError), self._open():
            if isinstance(ready, StreamReady) and self._requests.is_owner(ready.stream_id, reply):
                self._ask(StopStream(stream_id=ready.stream_id, mode="discard"))

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock. Raises the ClientError that ended the connection."""
        if os.getpid() != self._app:  # a fork: the thread and the lock's holder are not in this process
            raise BridgeClosed("The speech bridge was started by another process than this one.")
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            if self._is_closing:
                raise BridgeClosed("The speech bridge is being stopped.")
            yield

    def _kept_line(self, members: dict[str, Any], check: Callable[[bytes], None]) -> bytes:
        """The line to write. With `resend` it is kept. Raises what `check` raises."""
        if self._kept is not None:
            return self._kept.add(members, check)
        line = encode(members)
        check(line)
        return line

    def _check_request(self, line: bytes) -> None:
        self._check_length(line)
        check_name(line)

    def _check_length(self, line: bytes) -> None:
        """Raises RequestFailed for a line that is too long: the bridge's own error would not name its request."""
        limit = self._max_line_bytes
        if limit is not None and len(line) > limit + 1:
            problem = f"the request is longer than {limit} bytes"
            data = {"limit": limit}
            raise RequestFailed(ErrorReply(code="line_too_long", message=problem, retryable=False, data=data))

    def _write(self, line: bytes) -> None:
        if self._handlers.trace is not None:
            self._handlers.trace("sent", line)
        if not self._outgoing:
            self._on_written()
        self._outgoing.put(line)
        self._pipes.wake()

    def _wake(self) -> None:
        with self._lock:
            if self.ended is None:  # later the number of its descriptor may be in use again
                self._pipes.wake()

    # On the thread

    def _run(self) -> None:
        pthread_sigmask(SIG_BLOCK, [SIGPIPE])  # a broken pipe raises in the write, whatever the app does with SIGPIPE
        try:
            while self.child.exit() is None:
                seconds = self._tick if self._pipes.has_outputs else _END_SECONDS
                self._pipes.wait(seconds, closes_input=self._is_closing)
                self._check_time()
            self._pipes.drain()
            self._stderr.end()
        finally:
            self._end()

    def _check_time(self) -> None:
        due = self._life.due(time.monotonic(), waits=len(self._requests) > 0, writes=bool(self._outgoing))
        if due.ping:
            with contextlib.suppress(ClientError):
                self.ask(Ping())
        if due.signal is not None:
            self.child.signal_group(due.signal)

    def _on_written(self) -> None:
        self._life.input_taken(time.monotonic())

    def _on_closed(self) -> None:
        self._life.pipe_closed(time.monotonic())

    def _receive(self, data: bytes) -> None:
        self._life.output_received(time.monotonic())
        if self._handlers.trace is not None:
            self._handlers.trace("received", data)
        try:
            for line in self._lines.feed(data):
                self._line_count += 1
                if line.strip():
                    self._dispatch(decode(line))
        except ValueError as problem:
            self._life.blame(ProtocolError.at(self._line_count, str(problem)))
            self._life.kill_now()

    def _dispatch(self, message: Line) -> None:
        if self._life.blamed is not None:
            return  # ignore all output after a protocol error
        if isinstance(message, StreamReady):
            self._streams.add(message.stream_id)
        elif isinstance(message, StreamStopped):
            self._streams.discard(message.stream_id)
        for lost in () if self._kept is None else self._kept.received(message):
            self._handlers.event(lost)
        if isinstance(message, Fatal):
            self._life.fatal_received(message, time.monotonic())
        elif not self._requests.answer(message):
            self._handlers.event(message)

    def _end(self) -> None:
        self.child.signal_group(SIGKILL)  # it still runs only if this thread has failed
        self.exit = Exit.of(self.child.process.wait())
        loss = self._life.loss(self.exit, has_half_line=self._lines.has_rest, is_closing=self._is_closing)
        error: ClientError = loss or BridgeClosed("The speech bridge was stopped.")
        error.exit, error.stderr = self.exit, self.stderr[-STDERR_LINES:]
        with self._lock:
            self.ended = error
            self._pipes.close()
        resent: Collection[object] = ()
        try:
            resent = self._handlers.end(self.exit, loss, tuple(sorted(self._streams)))
        finally:
            self._outgoing.fail(error)
            for reply in self._requests.clear(resent):
                reply.set_exception(error.again())
