"""Lines in and out: messages of the bridge as types, requests as lines."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Literal, Union

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.client import results
from qwen3_asr_mlx_runtime.errors import RequestError
from qwen3_asr_mlx_runtime.protocol.commands import Command, Id
from qwen3_asr_mlx_runtime.protocol.decode import decode_id
from qwen3_asr_mlx_runtime.protocol.json_text import parse_object
from qwen3_asr_mlx_runtime.protocol.replies import Line
from qwen3_asr_mlx_runtime.protocol.schema import EVENTS, REPLIES

MAX_LINE_BYTES = 64 * 1024 * 1024


class Unknown(Line, kw_only=True):
    """A message of a type, or with members, that this client does not know; `message` holds all of it."""

    id: Id | UnsetType | None = UNSET
    event: bool | UnsetType = UNSET
    message: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.message["type"])


class _Envelope(msgspec.Struct):
    type: str
    id: Id | UnsetType | None = UNSET
    event: bool | UnsetType = UNSET


_RESULTS: dict[object, type[Line]] = {
    each.__struct_config__.tag: each
    for each in (
        results.RealtimeBatchFinal,
        results.Stopped,
        results.TranscriptReply,
        results.BatchTranscript,
        results.Aligned,
    )
}
_TYPES = tuple(_RESULTS.get(each.__struct_config__.tag, each) for each in dict.fromkeys((*REPLIES, *EVENTS)))
_LINE: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Union[_TYPES])  # noqa: UP007 a tuple cannot be joined by bars
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def decode(line: bytes) -> Line:
    """The message on a line; unknown members are ignored. Raises ValueError with a reason that quotes nothing of the
    line."""
    try:
        return _decoded(line)
    except msgspec.ValidationError:
        raise ValueError("a line is no message") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("a line is no JSON") from None


def _decoded(line: bytes) -> Line:
    try:
        return _LINE.decode(line)
    except msgspec.ValidationError:  # of a later version: the app may know it
        envelope = _ENVELOPE.decode(line)
        return Unknown(id=envelope.id, event=envelope.event, message=_OBJECT.decode(line))


def members_of(message: Command | Mapping[str, Any]) -> dict[str, Any]:
    """The members of a message that are not None."""
    members = msgspec.to_builtins(message) if isinstance(message, Command) else message
    return {name: value for name, value in members.items() if value is not None}


def encode(message: Command | Mapping[str, Any], id: Id | None = None) -> bytes:
    """A line with its newline. Members that are None are omitted. Raises UnicodeEncodeError for half a surrogate pair,
    as in a path that is not UTF-8: the bridge would repeat it, and no reader of JSON takes it."""
    members = members_of(message)
    if id is not None:
        members["id"] = id
    line = json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    if b"\\ud" in line:  # a pair, or half of one
        json.dumps(members, ensure_ascii=False).encode()
    return line


def check_name(line: bytes) -> None:
    """Raises ValueError for a request that the bridge could not answer by its id."""
    try:
        decode_id(parse_object(line.removesuffix(b"\n")))
    except RequestError as error:
        raise ValueError(f"this is no request: {error}") from None


def encoded_pcm(pcm16: bytes | bytearray | memoryview) -> str:
    """Little-endian 16-bit samples as base64. Raises ValueError for half a sample."""
    if len(pcm16) % 2:
        raise ValueError("expected whole 16-bit samples, got an odd number of bytes")
    return base64.b64encode(pcm16).decode("ascii")


class LineBuffer:
    """Cuts blocks of bytes into lines, at the newline byte only."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._blocks: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines completed by `data`, without newlines. Raises ValueError for a line over the limit."""
        *lines, rest = data.split(b"\n")
        if lines and self._blocks:
            lines[0] = b"".join((*self._blocks, lines[0]))
            self._blocks, self._size = [], 0
        if rest:
            self._blocks.append(rest)
            self._size += len(rest)
        if max([self._size, *map(len, lines)]) > self._limit:
            raise ValueError(f"a line is longer than {self._limit} bytes")
        return lines

    @property
    def has_rest(self) -> bool:
        """Whether a line has begun and not ended."""
        return self._size > 0


Direction = Literal["sent", "received"]
