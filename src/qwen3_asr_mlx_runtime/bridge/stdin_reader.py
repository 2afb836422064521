"""The stdin thread: bytes → lines → requests, in order of arrival, and then the end of input."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.bridge.input_allowance import AUDIO_OVERHEAD_BYTES, LINE_OVERHEAD_BYTES, InputAllowance
from qwen3_asr_mlx_runtime.bridge.line_reader import Line, LineReader, LongLine
from qwen3_asr_mlx_runtime.errors import BridgeError, InvalidJson, InvalidUtf8, LineTooLong
from qwen3_asr_mlx_runtime.limits import MAX_LINE_BYTES
from qwen3_asr_mlx_runtime.protocol.commands import BatchTranscribe, Boundary
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request, decode_line


@dataclass(frozen=True, slots=True)
class Received:
    """A request, or the error of a line. `size` goes back to the allowance once it is handled."""

    request: Request | Rejected
    size: int


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """The input has ended."""


class StdinReader:
    """Reads on a thread named `stdin`, as far ahead of the replies as the allowance permits."""

    def __init__(self, fd: int, post: Callable[[Received | EndOfInput], None], allowance: InputAllowance) -> None:
        self._reader = LineReader(fd)
        self._post = post
        self._allowance = allowance
        self._thread = threading.Thread(target=self._run, name="stdin", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def partial_bytes(self) -> int:
        """The bytes read so far of an unfinished line."""
        return self._reader.partial_bytes

    def _run(self) -> None:
        for line in self._reader:
            request = _decode(line)
            size = _size(line, request)
            self._allowance.take(size)
            self._post(Received(request, size))
        self._post(EndOfInput())


def _size(line: Line | LongLine, request: Request | Rejected) -> int:
    """The memory that a line takes until it is answered; the samples of streams are counted elsewhere."""
    size = LINE_OVERHEAD_BYTES + (len(line.data) if isinstance(line, Line) else 0)
    match request:
        case Request(command=BatchTranscribe(audio=paths)):
            size += AUDIO_OVERHEAD_BYTES * len(paths)
        case Request(command=Boundary()):
            size += AUDIO_OVERHEAD_BYTES
    return size


def _decode(line: Line | LongLine) -> Request | Rejected:
    if isinstance(line, LongLine):
        message = f"a line of {line.length} bytes was skipped; the limit is {MAX_LINE_BYTES}"
        return Rejected(LineTooLong(message, limit=MAX_LINE_BYTES, bytes=line.length))
    try:
        decoded = decode_line(line.data)
    except Exception as error:  # noqa: BLE001 the boundary of decoding: no line may end the reader
        return Rejected(BridgeError(f"the line could not be decoded: {type(error).__name__}"))
    if not line.terminated and isinstance(decoded, Rejected) and isinstance(decoded.error, InvalidJson | InvalidUtf8):
        decoded.error.data["truncated"] = True
    return decoded
