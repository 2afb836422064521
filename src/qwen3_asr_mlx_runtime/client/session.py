"""One bridge process after another: starts it, notices its end, and decides about a restart."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.connection import Connection, Handlers
from qwen3_asr_mlx_runtime.client.errors import (
    BridgeClosed,
    BridgeStartFailed,
    ClientError,
    LaunchError,
    ProtocolError,
    ProtocolUnsupported,
    RestartLimit,
)
from qwen3_asr_mlx_runtime.client.events import BridgeLost, Event, EventQueue
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.life import Limits
from qwen3_asr_mlx_runtime.client.messages import Direction, Unknown
from qwen3_asr_mlx_runtime.protocol.commands import WANTS, Client, Hello, Stop
from qwen3_asr_mlx_runtime.protocol.replies import PROTOCOL, CapabilitiesReply, Line
from qwen3_asr_mlx_runtime.protocol.streams import EngineRestarting, PartialResult, Progress, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal, Stopped

State = Literal["new", "opening", "running", "stopping", "stopped", "lost", "failed"]
_EVENTS = (RealtimeBatchFinal, PartialResult, StreamError, Progress, EngineRestarting, Unknown)
_ENGINE_LOST = 4
_PARENT = "--parent-pid"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How to start the bridge, and the callbacks. `env` replaces the whole environment; None keeps this process's.
    `on_stderr` and `trace` run on the threads that read and that send requests; they must neither wait nor raise.
    `trace` gets audio and transcripts."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: str | Path | None = None
    want: Sequence[str] = WANTS
    name: str = "qwen3-asr-mlx-runtime python client"
    version: str = __version__
    limits: Limits = field(default_factory=Limits)
    on_stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or not self.command:
            raise ValueError("expected a command line as a list: the program, and each of its arguments")


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
        self._error: ClientError | None = None
        self._opening = threading.Lock()  # held while a process is opened
        self._changing = threading.Lock()  # held while `state` is read and changed
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
            return self._open()

    def connected(self) -> Connection:
        """The running process, started if needed. Raises the ClientError that prevents it."""
        if self.state == "running" and self.connection is not None:
            return self.connection
        with self._opening:
            if self.state in ("stopping", "stopped"):
                raise BridgeClosed("The speech bridge was stopped.")
            if self.state == "failed" and self._error is not None:
                raise self._error.again()
            if self.state != "running":
                self._open()
            assert self.connection is not None  # noqa: S101 set by _open
            return self.connection

    def stop(self, mode: Literal["drain", "abort"], deadline_ms: int) -> Stopped | None:
        with self._opening, self._changing:
            was, self.state = self.state, "stopping"
        connection = self.connection
        reply: Future[Line] = Future()
        if connection is not None and was == "running":
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
        if self.connection is not None:
            self.connection.kill()

    def _join(self) -> None:
        if self.connection is not None:
            self.connection.join()
        with self._changing:
            if self.state == "stopping":  # it was not opened meanwhile
                self.state = "stopped"
                self.events.end()

    def _open(self) -> CapabilitiesReply:
        if self.connection is not None:
            self.connection.join()  # one process after another
        with self._changing:
            was, self.state, self._error = self.state, "opening", None
        self.restarts += was == "lost"
        self._pause(was)
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
            child = Child(_with_parent(self.setup.command), env=self.setup.env, cwd=self.setup.cwd)
            try:
                handlers = Handlers(self._take_event, self._take_end, self.setup.on_stderr, self.setup.trace)
                return Connection(child, handlers, self.setup.limits)
            except (OSError, RuntimeError) as error:  # no descriptor or thread is available
                child.abandon()
                raise BridgeStartFailed(
                    "The speech bridge could not be started: no descriptor or thread is available."
                ) from error
        except LaunchError as error:
            with self._changing:
                if self.state == "opening":
                    self.state, self._error = "failed", error
            raise

    def _run(self, connection: Connection, capabilities: CapabilitiesReply) -> None:
        """Raises the ClientError of a process that was killed or has ended meanwhile."""
        connection.greeted(capabilities.limits.max_line_bytes)
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
            time.sleep(max(0.0, self._losses[-1] + self.setup.limits.engine_pause_seconds - time.monotonic()))

    def _take_event(self, message: Line) -> None:
        if isinstance(message, _EVENTS):
            event: Event = message
            self.events.put(event)

    def _take_end(self, exit: Exit, loss: ClientError | None, streams: tuple[str, ...]) -> None:
        """On the thread of the connection."""
        self.exit = exit
        with self._changing:
            if self.state == "stopping" or loss is None:
                self.state = "stopped"
                self.events.end()
                return
            self._error = self._limited(loss)
            self.state = "lost" if self._error.retryable else "failed"
            self.events.put(BridgeLost(self._error, streams, will_restart=self.state == "lost"))

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


def _with_parent(command: Sequence[str]) -> list[str]:
    """Add the parent's pid to the command line. If this process dies early, the bridge sees only its adopter's pid."""
    named = any(word == _PARENT or word.startswith(f"{_PARENT}=") for word in command)
    return [*command, *(() if named else (_PARENT, str(os.getpid())))]


def _why_not(connection: Connection) -> ClientError:
    """Why the process does not run: it has ended already, or was killed meanwhile."""
    return (connection.ended or BridgeClosed("The speech bridge was killed.")).again()
