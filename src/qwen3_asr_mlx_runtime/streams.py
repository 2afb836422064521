"""Streams of PCM: chunks in, utterances cut off at their boundaries. Nothing is changed before all of it is checked."""

import base64
import binascii
from dataclasses import dataclass

from msgspec import UNSET

from qwen3_asr_mlx_runtime.errors import (
    BadBase64,
    InvalidParams,
    OddPcmLength,
    SeqOutOfOrder,
    UnsupportedSampleRate,
)
from qwen3_asr_mlx_runtime.protocol.capabilities import MAX_CHUNK_SECONDS
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk, StartStream
from qwen3_asr_mlx_runtime.protocol.streams import Gap, PartialResult
from qwen3_asr_mlx_runtime.utterance import SAMPLE_RATE

BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, slots=True)
class Cut:
    """The PCM of one utterance. `gap`: a chunk of it was refused, or never came."""

    pcm: bytes
    gap: bool


class Stream:
    """What is known of one stream, and the audio behind its last boundary: in one piece, so that a chunk costs no more
    than its samples."""

    def __init__(self, command: StartStream) -> None:
        self.command = command
        self._pcm = bytearray()
        self._chunks = 0
        self._gap = False
        self._last_seq: int | None = None
        self._utterances = 0

    @property
    def id(self) -> str:
        return self.command.stream_id

    @property
    def samples(self) -> int:
        return len(self._pcm) // BYTES_PER_SAMPLE

    def restarted(self, command: StartStream) -> "Stream":
        """A new stream in the place of this one, which goes on counting its utterances."""
        stream = Stream(command)
        stream._utterances = self._utterances
        return stream

    def next_utterance_id(self) -> str:
        self._utterances += 1
        return f"{self.id}-{self._utterances}"

    def is_duplicate(self, chunk: AudioChunk) -> bool:
        """Whether it is the last chunk again. Raises SeqOutOfOrder for one that is older still."""
        if chunk.seq is None or self._last_seq is None or chunk.seq > self._last_seq:
            return False
        if chunk.seq < self._last_seq:
            message = f"`seq`: expected more than {self._last_seq}, got {chunk.seq}; the chunk was not taken"
            raise SeqOutOfOrder(message, expected=self._last_seq + 1, got=chunk.seq)
        return True

    def mark_gap(self) -> None:
        """A chunk was refused: the utterance that is being spoken is not whole."""
        self._gap = True

    def append(self, chunk: AudioChunk, pcm: bytes) -> Gap | None:
        """Take a checked chunk; the gap before it, if one shows."""
        gap = None
        if chunk.seq is not None:
            if self._last_seq is not None and chunk.seq > self._last_seq + 1:
                gap = Gap(expected=self._last_seq + 1, got=chunk.seq)
                self._gap = True
            self._last_seq = chunk.seq
        self._pcm += pcm
        self._chunks += 1
        return gap

    def cut(self) -> Cut:
        """Take out what is buffered: the utterance has ended."""
        cut = Cut(bytes(self._pcm), self._gap)
        self._pcm, self._chunks, self._gap = bytearray(), 0, False
        return cut

    def partial(self) -> PartialResult:
        return PartialResult(stream_id=self.id, samples_buffered=self.samples, chunks=self._chunks)

    def duplicate(self) -> PartialResult:
        reply = self.partial()
        reply.duplicate = True
        return reply

    def taken(self, gap: Gap | None) -> PartialResult:
        reply = self.partial()
        reply.gap = UNSET if gap is None else gap
        return reply


def checked_pcm(text: str, sample_rate: int | None, max_seconds: float = MAX_CHUNK_SECONDS) -> bytes:
    """The bytes of a `pcm16` field. Raises the RequestError that says why they cannot be taken."""
    if sample_rate is not None:
        check_sample_rate(sample_rate)
    pcm = _decoded(text)
    if len(pcm) % BYTES_PER_SAMPLE:
        raise OddPcmLength(f"`pcm16`: expected 16-bit samples, got {len(pcm)} bytes", field="pcm16")
    if len(pcm) > max_seconds * SAMPLE_RATE * BYTES_PER_SAMPLE:
        message = f"`pcm16`: expected at most {max_seconds:g} seconds of audio, got {_seconds(pcm):.1f}"
        raise InvalidParams(message, field="pcm16", limit_seconds=max_seconds)
    return pcm


def count_samples(text: str) -> int:
    """How many samples a `pcm16` field holds, 0 if that cannot be told."""
    try:
        return len(_decoded(text)) // BYTES_PER_SAMPLE
    except BadBase64:
        return 0


def check_sample_rate(sample_rate: int) -> None:
    if sample_rate != SAMPLE_RATE:
        message = f"`sample_rate`: expected {SAMPLE_RATE}, got {sample_rate}"
        raise UnsupportedSampleRate(message, field="sample_rate", supported=[SAMPLE_RATE])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadBase64("`pcm16`: expected standard base64 without spaces", field="pcm16") from None


def _seconds(pcm: bytes) -> float:
    return len(pcm) / BYTES_PER_SAMPLE / SAMPLE_RATE
