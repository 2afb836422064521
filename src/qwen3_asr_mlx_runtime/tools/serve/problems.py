"""Errors as answers: OpenAI's form, with the codes of the bridge."""

from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from qwen3_asr_mlx_runtime import errors
from qwen3_asr_mlx_runtime.client import BridgeClosed, ClientError, RequestFailed

INVALID, SERVER = "invalid_request_error", "server_error"
RETRY_AFTER_SECONDS = 1
CLIENT_GONE = 499  # for the metrics: nobody reads it


@dataclass
class Problem(Exception):
    """`param`: the field of the form that is at fault. `may_retry`: whether the same request can succeed later, where
    the status does not say so to a client."""

    status: int
    code: str
    message: str
    param: str | None = None
    may_retry: bool | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.may_retry is not None:  # the official clients obey this, and send again on every 5xx otherwise
            headers["x-should-retry"] = "true" if self.may_retry else "false"
        if self.may_retry or self.status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return JSONResponse({"error": self.members}, self.status, headers)

    @property
    def members(self) -> dict[str, str | None]:
        """Of OpenAI's error object."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    @property
    def type(self) -> str:
        return INVALID if self.status < 500 else SERVER


def invalid(message: str, param: str | None, code: str = errors.InvalidParams.code) -> Problem:
    return Problem(400, code, message, param)


def of_client(error: ClientError) -> Problem:
    """The audio is at fault, or a field: 400. It may succeed later: 503. Otherwise 500."""
    if isinstance(error, RequestFailed):
        return _of_reply(error.wire_code, error.message, error.data, may_retry=error.retryable)
    if isinstance(error, BridgeClosed):
        return Problem(503, errors.ShuttingDown.code, "the server is being stopped", may_retry=True)
    return Problem(500, error.cause_code, error.message, may_retry=False)


def _of_reply(code: str, message: str, data: dict[str, Any], *, may_retry: bool) -> Problem:
    if may_retry:
        return Problem(503, code, message, may_retry=True)
    if code in _OF_THE_AUDIO:
        return invalid(message, "file", code)
    if code == errors.InvalidParams.code:
        name = data.get("field")
        return invalid(message, _FIELDS.get(name, name) if isinstance(name, str) else None, code)
    return Problem(500, code, message, may_retry=False)


_OF_THE_AUDIO = {each.code for each in errors.AudioError.__subclasses__()} | {errors.AudioError.code}
_FIELDS = {"context": "prompt", "audio": "file"}
