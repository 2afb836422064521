"""One bridge process after another: starts it, notices its end, and decides about a restart."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future
from typing import Literal, get_args

from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.connection import Connection, Handlers
from qwen3_asr_mlx_runtime.client.errors import (
    BridgeClosed,
    BridgeStartFailed,
    ClientError,
    LaunchError,
    LossError,
    ProtocolError,
    ProtocolUnsupported,
    RestartLimit,
)
from qwen3_asr_mlx_runtime.client.events import BridgeLost, Event, EventQueue, PendingWords, UtteranceLost
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.kept import Kept
from qwen3_asr_mlx_runtime.client.results import Stopped
from qwen3_asr_mlx_runtime.client.setup import Setup
from qwen3_asr_mlx_runtime.protocol.commands import Client, Hello, Stop
from qwen3_asr_mlx_runtime.protocol.replies import PROTOCOL, CapabilitiesReply, Line

State = Literal["new", "opening", "running", "stopping", "stopped", "lost", "failed"]
_EVENTS = get_args(Event)
_ENGINE_LOST = 4


class Session:
    """The base of both clients. Safe to use from any thread; `open`, `stop` and `kill` wait."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.state: State = "new"
        self.events = EventQueue(setup.limits.events)
        self.capabilities: CapabilitiesReply | None = None
        self.exit: Exit | None = None
        self.restarts = 0
        self.connection: Connection | None = None
        self.is_dropped = False  # the client was garbage-collected
        self.kept = Kept(setup.limits.kept_bytes) if setup.resend else None
        self._error: ClientError | None = None
        self._words = PendingWords()  # of the running process, whose thread alone uses it
        self._opening = threading.Lock()  # held while a process is opened
        self._changing = threading.Lock()  # held while `state` is read and changed
        self._is_ending = threading.Event()  # no process is started
        self._losses: deque[float] = deque()

    def open(self) -> CapabilitiesReply:
        """Start the process and exchange greetings. Raises a LaunchError or LossError."""
        with self._opening:
            if self.state == "running" and self.capabilities is not None:
                return self.capabilities
            if self.state == "stopping":
                raise BridgeClosed("The speech bridge is being stopped.")
            if self.state == "failed":
                self._losses.clear()
            return self._open(self.state)

    def connected(self) -> Connection:
        """The running process, started if needed. Raises the ClientError that prevents it."""
        while True:
            try:
                return self._connected()
            except LossError:
                goes_on = self.kept is not None and not self.kept.is_empty
                if not goes_on or self.state not in ("lost", "opening", "running"):
                    raise

    def _connected(self) -> Connection:
        if self.state == "running" and self.connection is not None:
            return self.connection
        with self._opening:
            seen = self.state
            if seen in ("stopping", "stopped"):
                raise _stopped()
            if seen == "failed" and self._error is not None:
                raise self._error.again()
            if seen != "running":
                self._open(seen)
            assert self.connection is not None  # noqa: S101 set by _open
            return self.connection

    def goes_on(self, connection: Connection) -> bool:
        """Whether the next process takes what this one no longer does (`resend`). `connected` starts it, or raises."""
        return self.kept is not None and isinstance(connection.ended, LossError)

    def answering(self, connection: Connection) -> Connection:
        """The process that answers what was sent to `connection`."""
        goes_on = self.goes_on(connection) and self.state == "running"
        return self.connection if goes_on and self.connection is not None else connection

    def stop(self, mode: Literal["drain", "abort"], deadline_ms: int) -> Stopped | None:
        if self.kept is None:
            with self._opening:  # what waits is sent first
                was = self._begin_to_stop()
        else:
            was = self._begin_to_stop()
        connection = self.connection
        reply: Future[Line] = Future()
        if connection is not None and was == "opening":
            connection.kill()
        elif connection is not None and was == "running":
            with contextlib.suppress(ClientError):
                _, reply = connection.ask(Stop(mode=mode, deadline_ms=deadline_ms))
            connection.finish(deadline_ms / 1000 + self.setup.limits.grace_seconds)
        self._join()
        message = reply.result() if reply.done() and reply.exception() is None else None
        return message if isinstance(message, Stopped) else None

    def kill(self) -> None:
        self.kill_soon()
        self._join()

    def kill_soon(self) -> None:
        """Like `kill`, without waiting."""
        with self._changing:
            self.state = "stopped" if self.state == "stopped" else "stopping"
            self._is_ending.set()
        if self.connection is not None:
            self.connection.kill()

    def _begin_to_stop(self) -> State:
        with self._changing:
            was, self.state = self.state, "stopping"
            self._is_ending.set()
        return was

    def _join(self) -> None:
        if self.kept is not None:
            with self._opening:  # a thread that starts the next process sees the stop, and ends it
                pass
        if self.connection is not None:
            self.connection.join()
        with self._changing:
            if self.state == "stopping":  # it was not opened meanwhile
                self.state = "stopped"
                self._give_up(_stopped())
                self.events.end()

    def _open(self, seen: State) -> CapabilitiesReply:
        """`seen`: the state that allows it."""
        if self.connection is not None:
            self.connection.join()  # one process after another
        with self._changing:
            if self.state != seen and self.state in ("stopping", "stopped"):
                raise _stopped()
            was, self.state, self._error = self.state, "opening", None
            self._is_ending.clear()
        self.restarts += was == "lost"
        self._pause(was)
        if self._is_ending.is_set():
            raise _stopped()
        self.events.begin()
        connection = self.connection = self._started()
        try:
            capabilities = self._greeted(connection)
            self._run(connection, capabilities)
        except BaseException:  # an interrupt leaves no process behind
            connection.kill()
            connection.join()
            raise
        return capabilities

    def _started(self) -> Connection:
        """Raises a LaunchError."""
        try:
            child = Child(self.setup.argv, env=self.setup.env, cwd=self.setup.cwd)
            try:
                handlers = Handlers(self._take_event, self._take_end, self.setup.on_stderr, self.setup.trace)
                return Connection(child, handlers, self.setup.limits, self.kept)
            except (OSError, RuntimeError) as error:  # no descriptor or thread is available
                child.abandon()
                raise BridgeStartFailed(
                    "The speech bridge could not be started: no descriptor or thread is available."
                ) from error
        except LaunchError as error:
            with self._changing:
                if self.state == "opening":
                    self.state, self._error = "failed", error
                    if self.kept is not None and self.kept.is_needed:  # perhaps nobody waits for a reply
                        self.events.put(BridgeLost(error, (*self.kept.streams,), will_restart=False))
                    self._give_up(error)
            raise

    def _run(self, connection: Connection, capabilities: CapabilitiesReply) -> None:
        """Raises the ClientError of a process that was killed or has ended meanwhile."""
        connection.greeted(capabilities.limits.max_line_bytes)
        connection.resend()
        with self._changing:
            if self.state == "opening" and connection.ended is None:
                self.capabilities, self.state = capabilities, "running"
                return
        raise _why_not(connection)

    def _greeted(self, connection: Connection) -> CapabilitiesReply:
        if self.state != "opening":
            raise _why_not(connection)
        _, reply = connection.ask(self._hello())
        message = reply.result()
        if isinstance(message, CapabilitiesReply) and PROTOCOL in message.protocols:
            return message
        if isinstance(message, CapabilitiesReply):
            error: ClientError = ProtocolUnsupported("The speech bridge uses another protocol than this app.")
        else:
            error = ProtocolError.at(1, "a greeting was expected")
        connection.kill(error)
        connection.join()
        raise (connection.ended or error).again()

    def _hello(self) -> Hello:
        client = Client(name=self.setup.name, version=self.setup.version)
        return Hello(want=[*self.setup.want], client=client, parent_pid=os.getpid(), protocols=[PROTOCOL])

    def _pause(self, was: State) -> None:
        """Wait before a restart after the engine was lost."""
        if was == "lost" and self.exit is not None and self.exit.code == _ENGINE_LOST and self._losses:
            self._is_ending.wait(self._losses[-1] + self.setup.limits.engine_pause_seconds - time.monotonic())

    def _take_event(self, message: Line | UtteranceLost) -> None:
        if isinstance(message, _EVENTS):
            event: Event = message
            self._words.take(event)
            self.events.put(event)

    def _take_end(self, exit: Exit, loss: ClientError | None, streams: tuple[str, ...]) -> Collection[object]:
        """On the thread of the connection. Returns the ids of the requests that the next process answers."""
        self.exit = exit
        with self._changing:
            if self.state == "stopping" or loss is None:
                self.state = "stopped"
                self._lose_words(loss or _stopped())
                self.events.end()
                return self._keep_none(_stopped())
            self._error = self._limited(loss)
            self.state = "lost" if self._error.retryable else "failed"
            if self.kept is not None and self.state == "lost":
                return self._keep(self.kept, self._error, streams)
            self.events.put(BridgeLost(self._error, streams, will_restart=self.state == "lost"))
            self._lose_words(loss)
            return self._keep_none(loss)

    def _lose_words(self, error: ClientError) -> None:
        """No later process has the words of what this one has delivered."""
        for event in self._words.lose(error):
            self.events.put(event)

    def _keep_none(self, error: ClientError) -> Collection[object]:
        if self.kept is not None:
            self.kept.clear(error)
        return ()

    def _keep(self, kept: Kept, error: ClientError, streams: tuple[str, ...]) -> Collection[object]:
        utterances = kept.lost(error)
        gone = tuple(name for name in streams if name not in kept.streams)
        self.events.put(BridgeLost(error, gone, will_restart=True))
        self._lose_words(error)
        for each in utterances:
            self.events.put(each)
        if kept.is_needed:
            threading.Thread(target=self._resend, name="qwen3-asr-bridge-resend", daemon=True).start()
        return kept.ids

    def _resend(self) -> None:
        """Start the next process, without a request."""
        with contextlib.suppress(ClientError):
            self.connected()
        if self.is_dropped and self.connection is not None:
            self.connection.drop()

    def _give_up(self, error: ClientError) -> None:
        """No process will answer what is kept."""
        self._keep_none(error)
        for reply in () if self.kept is None else self.kept.requests.clear():
            reply.set_exception(error.again())

    def _limited(self, loss: ClientError) -> ClientError:
        limits, now = self.setup.limits, time.monotonic()
        self._losses.append(now)
        while self._losses and now - self._losses[0] > limits.restart_seconds:
            self._losses.popleft()
        if not loss.retryable or len(self._losses) <= limits.restarts:
            return loss
        error = RestartLimit(f"The speech bridge was lost {len(self._losses)} times and is not started again.")
        error.__cause__, error.exit, error.stderr = loss, loss.exit, loss.stderr
        loss.retryable = False
        return error


def _stopped() -> BridgeClosed:
    return BridgeClosed("The speech bridge was stopped.")


def _why_not(connection: Connection) -> ClientError:
    """Why the process does not run: it has ended already, or was killed meanwhile."""
    return (connection.ended or BridgeClosed("The speech bridge was killed.")).again()
