"""One bridge after another: opens a process, notices its end, and says whether there may be a next one."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.connection import Connection, Ears
from qwen3_asr_mlx_runtime.client.errors import (
    BridgeClosed,
    ClientError,
    LaunchError,
    ProtocolError,
    ProtocolUnsupported,
    RequestFailed,
    RequestTimeout,
    RestartLimit,
)
from qwen3_asr_mlx_runtime.client.events import BridgeLost, Event, EventQueue
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.life import Limits
from qwen3_asr_mlx_runtime.client.messages import Direction, Unknown
from qwen3_asr_mlx_runtime.protocol.commands import WANTS, Cancel, Client, Command, Hello, Id, Stop
from qwen3_asr_mlx_runtime.protocol.replies import PROTOCOL, CapabilitiesReply, ErrorReply, Line
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, Progress, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import RealtimeBatchFinal, Stopped

State = Literal["new", "opening", "running", "stopping", "stopped", "lost", "failed"]
_EVENTS = (RealtimeBatchFinal, PartialResult, StreamError, Progress, Unknown)
_ENGINE_LOST = 4


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the bridge is started, and who listens. `on_stderr` and `trace` (which sees speech) run on the thread that
    reads, and must not wait."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None
    cwd: str | Path | None = None
    want: Sequence[str] = WANTS
    name: str = "qwen3-asr-mlx-runtime python client"
    version: str = __version__
    limits: Limits = field(default_factory=Limits)
    on_stderr: Callable[[str], None] | None = None
    trace: Callable[[Direction, bytes], None] | None = None


class Session:
    """What both clients are made of. Safe to use from any thread; `open`, `stop` and `kill` wait."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.state: State = "new"
        self.events = EventQueue(setup.limits.events)
        self.capabilities: CapabilitiesReply | None = None
        self.exit: Exit | None = None
        self.restarts = 0
        self.streams: set[str] = set()
        self.connection: Connection | None = None
        self._error: ClientError | None = None
        self._opening = threading.Lock()
        self._losses: deque[float] = deque()

    def open(self) -> CapabilitiesReply:
        """Start it, and greet. Raises a LaunchError or LossError."""
        with self._opening:
            if self.state == "running" and self.capabilities is not None:
                return self.capabilities
            if self.state == "stopping":
                raise BridgeClosed("The speech bridge is being stopped.")
            if self.state == "failed":
                self._losses.clear()
            return self._open()

    def connected(self) -> Connection:
        """The running process, which is started if need be. Raises why it cannot be."""
        if self.state == "running" and self.connection is not None:
            return self.connection
        with self._opening:
            if self.state in ("stopping", "stopped"):
                raise BridgeClosed("The speech bridge was stopped.")
            if self.state == "failed" and self._error is not None:
                raise self._error.again()
            if self.state != "running":
                self._open()
            assert self.connection is not None  # noqa: S101 it runs
            return self.connection

    def stop(self, mode: Literal["drain", "abort"], deadline_ms: int) -> Stopped | None:
        with self._opening:
            connection, was = self.connection, self.state
            self.state = "stopping" if was == "running" else "stopped"
        if connection is None or was != "running":
            self.events.end()
            return None
        reply: Future[Line] = Future()
        with contextlib.suppress(ClientError):
            _, reply = connection.ask(Stop(mode=mode, deadline_ms=deadline_ms))
        connection.finish(deadline_ms / 1000 + self.setup.limits.grace_seconds)
        connection.join()
        message = reply.result() if reply.done() and reply.exception() is None else None
        return message if isinstance(message, Stopped) else None

    def kill(self) -> None:
        connection = self.connection
        if self.state != "stopped":
            self.state = "stopping"
        if connection is not None:
            connection.kill()
            connection.join()
        self.state = "stopped"
        self.events.end()

    def send_cancel(self, target: Id) -> None:
        """Without waiting for the answer, or minding whether anybody is there to cancel."""
        connection = self.connection
        with contextlib.suppress(ClientError):
            if connection is not None:
                connection.ask(Cancel(target=target))

    def _open(self) -> CapabilitiesReply:
        self._pause()
        self.restarts += self.state == "lost"
        self.state, self._error = "opening", None
        self.events.begin()
        try:
            child = Child(self.setup.command, env=self.setup.env, cwd=self.setup.cwd)
        except LaunchError as error:
            self.state, self._error = "failed", error
            raise
        ears = Ears(self._hear, self._take_end, self.setup.on_stderr, self.setup.trace)
        self.connection = connection = Connection(child, ears, self.setup.limits)
        try:
            if self.state != "opening":
                raise BridgeClosed("The speech bridge was killed.")
            _, reply = connection.ask(self._hello())
            capabilities = self._greeted(connection, reply)
        except BaseException:  # whoever is interrupted leaves no process behind
            connection.kill()
            raise
        connection.greeted()
        self.capabilities, self.state = capabilities, "running"
        if connection.ended is not None:  # in between
            self.state = "lost" if connection.ended.retryable else "failed"
            raise connection.ended.again()
        return capabilities

    def _greeted(self, connection: Connection, reply: "Future[Line]") -> CapabilitiesReply:
        message = reply.result()
        if isinstance(message, CapabilitiesReply) and PROTOCOL in message.protocols:
            return message
        if isinstance(message, CapabilitiesReply):
            error: ClientError = ProtocolUnsupported("The speech bridge speaks another protocol than this app.")
        else:
            error = ProtocolError.at(1, "a greeting was expected")
        connection.kill(error)
        connection.join()
        raise (connection.ended or error).again()

    def _hello(self) -> Hello:
        client = Client(name=self.setup.name, version=self.setup.version)
        return Hello(want=[*self.setup.want], client=client, parent_pid=os.getpid(), protocols=[PROTOCOL])

    def _pause(self) -> None:
        """An engine that was lost is given time."""
        if self.state == "lost" and self.exit is not None and self.exit.code == _ENGINE_LOST and self._losses:
            time.sleep(max(0.0, self._losses[-1] + self.setup.limits.engine_pause_seconds - time.monotonic()))

    def _hear(self, message: Line) -> None:
        if isinstance(message, _EVENTS):
            event: Event = message
            self.events.put(event)

    def _take_end(self, exit: Exit, loss: ClientError | None) -> None:
        """On the thread of the connection."""
        self.exit = exit
        if self.state == "stopping" or loss is None:
            self.state = "stopped"
            self.events.end()
            return
        self._error = self._limited(loss)
        self.state = "lost" if self._error.retryable else "failed"
        streams, self.streams = tuple(sorted(self.streams)), set()
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


def checked(connection: Connection, message: Line, types: tuple[type[Line], ...]) -> Line:
    """A reply of one of these types, or of any if there are none. Raises RequestFailed for an error reply, and ends a
    process that answers by something else."""
    if isinstance(message, ErrorReply):
        raise RequestFailed(message)
    if not types or isinstance(message, types):
        return message
    error = ProtocolError.at(0, "a reply of another type than was asked for")
    connection.kill(error)
    raise error.again()


def result_in_time(session: Session, id: Id, reply: "Future[Line]", timeout: float | None) -> Line:
    """The reply; after `timeout` seconds its request is cancelled, and RequestTimeout raised."""
    try:
        return reply.result(timeout)
    except FutureTimeoutError:
        reply.cancel()
        session.send_cancel(id)
        raise timed_out(timeout) from None
    except ClientError:
        raise
    except BaseException:  # KeyboardInterrupt
        session.send_cancel(id)
        raise


def timed_out(timeout: float | None) -> RequestTimeout:
    return RequestTimeout(f"The speech bridge did not answer within {timeout:g} seconds.", retryable=True)


Message = Command | Mapping[str, Any]
