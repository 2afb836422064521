"""The reply to a request as its caller gets it: a result or an exception."""

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.errors import ClientError, ProtocolError, RequestFailed, RequestTimeout
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Line

Abandon = Callable[[Id, "Future[Line]"], None]


def checked(connection: Connection, message: Line, types: tuple[type[Line], ...]) -> Line:
    """Return a reply of one of `types`, or of any type if `types` is empty. Raises RequestFailed for an error reply.
    Kills the process if the reply has another type."""
    if isinstance(message, ErrorReply):
        raise RequestFailed(message)
    if not types or isinstance(message, types):
        return message
    error = ProtocolError.at(0, "a reply of an unexpected type")
    connection.kill(error)
    raise error.again()


def result_in_time(abandon: Abandon, id: Id, reply: "Future[Line]", timeout: float | None) -> Line:
    """The reply; after `timeout` seconds its request is abandoned, and RequestTimeout raised."""
    try:
        return reply.result(timeout)
    except FutureTimeoutError:
        abandon(id, reply)
        raise timed_out(timeout) from None
    except ClientError:
        raise
    except BaseException:  # KeyboardInterrupt
        abandon(id, reply)
        raise


def timed_out(timeout: float | None) -> RequestTimeout:
    return RequestTimeout(f"The speech bridge did not answer within {timeout:g} seconds.", retryable=True)
