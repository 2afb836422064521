"""The notes that a monitor takes of a session: numbers, and words of fixed lists. A record holds them as JSON lines.

No field holds a path, an id, a name or audio; `text` is filled only with --show-text.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Union

import msgspec

from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.protocol.replies import Queues


class Note(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="what"):
    """Base. `at`: seconds since the monitor started."""

    at: float


class Began(Note, kw_only=True, frozen=True, tag="began"):
    """`time`: seconds since 1970."""

    time: float


class Traffic(Note, kw_only=True, frozen=True, tag="traffic"):
    """Since the previous note: lines and bytes to the bridge (`in`) and from it, chunks, and seconds of PCM in chunks
    and boundaries. `unseen_bytes`: relayed but not parsed, because the monitor was too slow."""

    lines_in: int = 0
    bytes_in: int = 0
    lines_out: int = 0
    bytes_out: int = 0
    chunks: int = 0
    audio_seconds: float = 0.0
    unseen_bytes: int = 0


class Waiting(Note, kw_only=True, frozen=True, tag="waiting"):
    """The current counts: requests without a reply, queued utterances without a result, open streams, and finals whose
    words have not come."""

    requests: int
    utterances: int
    streams: int
    words: int = 0


class Answered(Note, kw_only=True, frozen=True, tag="answered"):
    """A request of this type got its reply after `seconds`; `code`: of an error reply."""

    type: str
    seconds: float
    code: str | None = None


class Failed(Note, kw_only=True, frozen=True, tag="failed"):
    """An error that answers no request: a chunk was rejected, an item or an utterance failed, or the process ended."""

    code: str


class Partial(Note, kw_only=True, frozen=True, tag="partial"):
    """A partial. `stream`: the number of the stream, in the order of first partials."""

    stream: int
    seconds: float
    queue_seconds: float
    tokens: int
    verified_tokens: int
    text: str | None = None


class Outcome(Note, kw_only=True, frozen=True, tag="outcome"):
    """A transcript of a file or of an utterance; its fields have the same meaning as in a reply."""

    source: Literal["file", "utterance"]
    decode_seconds: float | None = None
    queue_seconds: float | None = None
    generated_tokens: int = 0
    verified_tokens: int = 0
    redecoded: int = 0
    finish_reason: str | None = None
    text: str | None = None


class Words(Note, kw_only=True, frozen=True, tag="words"):
    """The words of a transcript. `count` of them; `seconds`: of the aligner's work; `wait_seconds`: from its final to
    its `words_ready`; `reason`: why there are none."""

    count: int = 0
    seconds: float | None = None
    wait_seconds: float | None = None
    reason: str | None = None


class Work(Note, kw_only=True, frozen=True, tag="work"):
    """A profile: seconds of audio, seconds of work, and audio seconds per second of work."""

    audio_seconds: float
    total_seconds: float
    realtime_factor: float | None = None


class MemoryRead(Note, kw_only=True, frozen=True, tag="memory"):
    memory: Memory


class StateReported(Note, kw_only=True, frozen=True, tag="told"):
    """The state in a `status` or `pong` reply; only `status` has queues."""

    state: str
    queues: Queues | None = None


class LoadedModel(Note, kw_only=True, frozen=True, tag="loaded"):
    load_seconds: float


class Ended(Note, kw_only=True, frozen=True, tag="ended"):
    """`code`: the exit code; negative: the signal that ended it."""

    code: int


_NOTES = (
    Began, Traffic, Waiting, Answered, Failed, Partial, Outcome, Words, Work, MemoryRead, StateReported, LoadedModel,
    Ended,
)  # fmt: skip
_DECODER: msgspec.json.Decoder[Note] = msgspec.json.Decoder(Union[_NOTES])  # noqa: UP007 a tuple cannot be joined by bars
_ENCODER = msgspec.json.Encoder()


class Recorder:
    """Writes notes to a file that only its user can read. Raises OSError."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)  # an existing file may have been readable by others

    def write(self, note: Note) -> None:
        self._file.write(_ENCODER.encode(note) + b"\n")

    def flush(self) -> None:
        self._file.flush()


def read_record(path: Path) -> Iterator[Note]:
    """The notes of a record. An incomplete last line, as after a crash, is ignored. Raises OSError, or InvalidParams
    for a file that is no record, or with the number of a line that is no note."""
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            note = _note(line)
            if number == 1 and not isinstance(note, Began):
                raise InvalidParams(f"{path}: not a record of a monitor")
            if note is not None:
                yield note
            elif line.endswith(b"\n"):
                raise InvalidParams(f"{path}, line {number}: not a note of a monitor")
    if number == 0:
        raise InvalidParams(f"{path}: not a record of a monitor")


def _note(line: bytes) -> Note | None:
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
