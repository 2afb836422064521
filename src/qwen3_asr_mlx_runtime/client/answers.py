"""What a reply means to whoever asked."""

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.errors import ClientError, ProtocolError, RequestFailed, RequestTimeout
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Line


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


def result_in_time(connection: Connection, id: Id, reply: "Future[Line]", timeout: float | None) -> Line:
    """The reply; after `timeout` seconds its request is abandoned, and RequestTimeout raised."""
    try:
        return reply.result(timeout)
    except FutureTimeoutError:
        connection.abandon(id, reply)
        raise timed_out(timeout) from None
    except ClientError:
        raise
    except BaseException:  # KeyboardInterrupt
        connection.abandon(id, reply)
        raise


def timed_out(timeout: float | None) -> RequestTimeout:
    return RequestTimeout(f"The speech bridge did not answer within {timeout:g} seconds.", retryable=True)
