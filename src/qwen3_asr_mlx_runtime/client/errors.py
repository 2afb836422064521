"""Errors between an app and the bridge, one class per stable code; docs/clients.md lists them.

ClientError
├── LaunchError   the process could not be started: BridgeNotFound, BridgeNotExecutable, BridgeStartFailed
├── LossError     the process ran and is gone: BridgeExited, BridgeFatal, BridgeHung, BridgePipeClosed,
│                 ProtocolError, ProtocolUnsupported, RestartLimit
├── BridgeClosed  the app itself ended the process
├── RequestTimeout
└── RequestFailed the bridge sent an error reply

A message is one sentence that can be shown to a user, and never quotes speech or a line.
"""

import copy
from typing import Any, ClassVar, Self

from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Fatal


class ClientError(Exception):
    """`exit` and `stderr` (its last lines) are set if a process has ended."""

    code: ClassVar[str] = "client_error"

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.exit: Exit | None = None
        self.stderr: tuple[str, ...] = ()

    @property
    def cause_code(self) -> str:
        """That of the bridge's own error where it sent one; otherwise `code`."""
        return self.code

    @property
    def line(self) -> str:
        """For a terminal: what happened, and the last line that the bridge wrote to stderr."""
        return ": ".join([self.cause_code, self.message, *self.stderr[-1:]])

    def again(self) -> Self:
        """A copy of this error, to raise in another place."""
        error = copy.copy(self).with_traceback(None)
        error.__cause__ = self.__cause__
        return error


class LaunchError(ClientError):
    pass


class BridgeNotFound(LaunchError):
    code = "bridge_not_found"


class BridgeNotExecutable(LaunchError):
    code = "bridge_not_executable"


class BridgeStartFailed(LaunchError):
    code = "bridge_start_failed"


class LossError(ClientError):
    """`retryable`: the next request starts the bridge again."""


class BridgeExited(LossError):
    code = "bridge_exited"


class BridgeFatal(LossError):
    """`fatal_code`: the `code` of the bridge's `fatal` line."""

    code = "bridge_fatal"
    fatal_code: str = "internal_error"

    @property
    def cause_code(self) -> str:
        return self.fatal_code

    @classmethod
    def of(cls, fatal: Fatal, *, retryable: bool) -> "BridgeFatal":
        error = cls(fatal.message, retryable=retryable)
        error.fatal_code = fatal.code
        return error


class BridgeHung(LossError):
    code = "bridge_hung"


class BridgePipeClosed(LossError):
    code = "bridge_pipe_closed"


class ProtocolError(LossError):
    """`position`: the number of the line, from 1."""

    code = "protocol_error"
    position: int = 0

    @classmethod
    def at(cls, position: int, problem: str) -> "ProtocolError":
        error = cls(f"The speech bridge sent a line that is not of its protocol ({problem}).", retryable=True)
        error.position = position
        return error


class ProtocolUnsupported(LossError):
    code = "protocol_unsupported"


class RestartLimit(LossError):
    """`__cause__` is the last loss."""

    code = "restart_limit"


class BridgeClosed(ClientError):
    code = "bridge_closed"


class RequestTimeout(ClientError):
    code = "request_timeout"


class RequestFailed(ClientError):
    """`wire_code` and `data` are those of the error reply."""

    code = "request_failed"

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message, retryable=reply.retryable)
        self.wire_code = reply.code
        self.data: dict[str, Any] = reply.data

    @property
    def cause_code(self) -> str:
        return self.wire_code

    def again(self) -> Self:
        return self
