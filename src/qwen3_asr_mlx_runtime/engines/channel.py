"""What bridge and worker send each other: messages of engines/api as msgpack, each behind its length.

A frame has at most 1 MiB; a larger message continues in the next frame. Samples cross as float32, in messages of their
own, so that a cancel never waits behind much of them.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from qwen3_asr_mlx_runtime.engines.api import Append, Outcome, Request
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError, error_classes
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term

MAX_FRAME_BYTES = 1024 * 1024
MAX_APPEND_SAMPLES = MAX_FRAME_BYTES // 8  # half a frame
READ_BYTES = 64 * 1024

MAX_MESSAGE_BYTES = 256 * MAX_FRAME_BYTES

_LENGTH = struct.Struct(">I")
_CONTINUES = 1 << 31  # in the length of a frame: the message goes on in the next
Message = TypeVar("Message")


class CorruptFrame(ValueError):
    """The other side has sent something that is not a message."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """The first message to a worker. `text`: the settings as JSON in ASCII, which has a form for paths of any bytes."""

    text: str

    @classmethod
    def of(cls, settings: Settings) -> "Configure":
        return cls(json.dumps(asdict(settings), default=_json_value))

    @property
    def settings(self) -> Settings:
        fields = json.loads(self.text)
        for name in ("cache_dir", "state_dir", "engine_token_file"):
            fields[name] = fields[name] and Path(fields[name])
        for name in ("languages", "engine"):
            fields[name] = tuple(fields[name])
        fields["terms"] = msgspec.convert(fields["terms"], tuple[Term, ...])
        return Settings(**fields)


def _json_value(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, Term) else str(value)


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Steps that the decoder loop has taken so far, and the memory of its process."""

    steps: int
    memory: Memory


class Ending(msgspec.Struct, frozen=True, tag=True):
    """Why the worker ends itself now."""

    reason: str


ToWorker = Request | Configure
ToBridge = Outcome | Beat | Ending


def encode(message: ToWorker | ToBridge) -> bytes:
    """Its frames. Raises ValueError for text that no encoding has, or for more than MAX_MESSAGE_BYTES."""
    body = _encoder().encode(message)
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is too large")
    frames = [body[start : start + MAX_FRAME_BYTES] for start in range(0, len(body), MAX_FRAME_BYTES)]
    last = len(frames) - 1
    marks = (0 if number == last else _CONTINUES for number in range(len(frames)))
    return b"".join(_LENGTH.pack(len(frame) | mark) + frame for frame, mark in zip(frames, marks, strict=True))


def parts(request: ToWorker) -> Iterator[ToWorker]:
    """A request as it crosses: samples in frames of their own."""
    if not isinstance(request, Append) or len(request.samples) <= MAX_APPEND_SAMPLES:
        yield request
        return
    for start in range(0, len(request.samples), MAX_APPEND_SAMPLES):
        yield Append(request.audio_id, request.samples[start : start + MAX_APPEND_SAMPLES])


class Decoder(Generic[Message]):
    """Bytes as they arrive → messages of one direction."""

    def __init__(self, kinds: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kinds, dec_hook=_decode_value)
        self._buffer = bytearray()
        self._begun = b""  # of a message that goes on

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises CorruptFrame."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (word,) = _LENGTH.unpack_from(self._buffer)
            length, goes_on = word & ~_CONTINUES, word & _CONTINUES
            if length > MAX_FRAME_BYTES or len(self._begun) > MAX_MESSAGE_BYTES:
                raise CorruptFrame(f"a frame of {length} bytes")
            stop = _LENGTH.size + length
            if len(self._buffer) < stop:
                return
            self._begun += bytes(self._buffer[_LENGTH.size : stop])
            del self._buffer[:stop]
            if not goes_on:
                body, self._begun = self._begun, b""
                yield self._decode(body)

    def _decode(self, body: bytes) -> Message:
        try:
            message: Message = self._decoder.decode(body)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise CorruptFrame(f"a frame that is no message: {type(error).__name__}") from None
        return message


def to_worker() -> Decoder[ToWorker]:
    return Decoder(ToWorker)


def to_bridge() -> Decoder[ToBridge]:
    return Decoder(ToBridge)


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    return msgspec.msgpack.Encoder(enc_hook=_encode_value)


def _encode_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, np.float32).tobytes()
    if isinstance(value, BridgeError):
        return {"class": type(value).__name__, "message": value.message, "data": value.data}
    raise NotImplementedError(type(value).__name__)


def _decode_value(kind: Any, value: Any) -> Any:
    if kind is BridgeError:
        return _errors()[value["class"]](value["message"], **value["data"])
    samples: Samples = np.frombuffer(value, np.float32)
    return samples


@cache
def _errors() -> dict[str, type[BridgeError]]:
    return {known.__name__: known for known in error_classes()}
