"""One piece of audio between its acceptance and the delivery of its result: the only record of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, NamedTuple, TypeVar, cast

import numpy as np

from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, DecoderMode, Finalize, Provisional
from qwen3_asr_mlx_runtime.engines.transcript import Transcript, join_transcripts
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.languages import AUTO
from qwen3_asr_mlx_runtime.protocol import commands
from qwen3_asr_mlx_runtime.protocol.commands import (
    DECODER_MODES,
    BatchTranscribe,
    Boundary,
    Decoding,
    StartStream,
    Transcribe,
)
from qwen3_asr_mlx_runtime.protocol.transcripts import Source
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest
from qwen3_asr_mlx_runtime.settings import AlignDecoder, Settings
from qwen3_asr_mlx_runtime.terms import Term

Result = Transcript | Aligned | BridgeError
"""Aligned only where the text was known."""
JobKind = Literal["sequential", "batched", "align", "provisional"]
Value = TypeVar("Value")


class State(Enum):
    """`reading` → `queued` → `decoding` → `done` → `delivered`. A cancel ends each of the first three as `done`."""

    READING = "reading"  # nothing of its file is in memory yet
    QUEUED = "queued"  # it waits for a request to decode it, or for the engine
    DECODING = "decoding"  # the engine has it, or its first segments
    DONE = "done"  # it has its result
    DELIVERED = "delivered"  # its words may follow


class KnownText(NamedTuple):
    """A text whose words get times."""

    text: str
    language: str


class AppendedAudio(NamedTuple):
    """What the engine has of an open utterance: under which id, and how many samples."""

    id: int
    samples: int


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode, with nothing left open."""

    max_new_tokens: int
    language: str | None
    context: str
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    logprobs: bool = False
    words: bool = False
    segments: bool = False
    align_decoder: AlignDecoder = "viterbi"
    languages: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    def serve(self, requested: "Options") -> bool:
        """Whether a transcript decoded with these options also answers `requested`. The mode alone changes no text,
        except in a batch without the guard."""
        has_logprobs = self.takes_logprobs >= requested.takes_logprobs
        return self._text == requested._text and has_logprobs and self._is_exact >= requested._is_exact

    @property
    def _text(self) -> tuple[object, ...]:
        """What decides on the text."""
        return self.max_new_tokens, self.language, self.languages, self.context, self.terms

    @property
    def takes_logprobs(self) -> bool:
        """Whether the engine does: the confidence of a word is made of them."""
        return self.logprobs or self.words

    @property
    def _is_exact(self) -> bool:
        """Whether the text is that of `sequential`."""
        return self.drift_guard or self.decoder_mode == "sequential"


def resolve(settings: Settings, levels: Iterable[Decoding]) -> Options:
    """Each option from the first of `levels` that gives it, else from the process's settings."""
    process = Decoding(
        max_new_tokens=settings.token_budget,
        language=None if settings.languages else settings.language or AUTO,
        languages=[*settings.languages] or None,
        context=settings.context,
        terms=[*settings.terms],
        decoder_mode=DECODER_MODES[0],
        drift_guard=True,
        logprobs=False,
        words=False,
        segments=False,
    )
    every = [*levels, process]
    chooses = next(level for level in every if level.language is not None or level.languages is not None)
    return Options(
        max_new_tokens=_first(level.max_new_tokens for level in every),
        language=None if chooses.language == AUTO else chooses.language,
        languages=tuple(chooses.languages or ()),
        context=_first(level.context for level in every),
        decoder_mode=cast(DecoderMode, _first(level.decoder_mode for level in every)),
        drift_guard=_first(level.drift_guard for level in every),
        logprobs=_first(level.logprobs for level in every),
        words=_first(level.words for level in every),
        segments=_first(level.segments for level in every),
        align_decoder=settings.align_decoder,
        terms=tuple(_first(level.terms for level in every)),
    )


def _first(given: Iterable[Value | None]) -> Value:
    return next(value for value in given if value is not None)


@dataclass(slots=True, eq=False)
class StreamUtterance:
    """What makes a transcription an utterance of a stream.

    `boundary_request` is answered when the utterance is accepted; None once it is. `sample_count` is None until the
    audio is there. `decode_started`: a flush or the delay timer has asked for its decoding. `seq`: its place among all
    boundaries. `options`: of its boundary and its stream.
    `stream_start`: seconds from the stream's first sample to its own; None for audio that the boundary brought.
    `provisional`: what a `pause` was good for, None without one. `frames`, `dropped`: as in UtteranceQueued.
    """

    stream: StartStream
    boundary: Boundary
    options: Options
    utterance_id: str
    source: Source
    queued_at: float
    audio_gap: bool = False
    boundary_request: PendingRequest | None = None
    sample_count: int | None = None
    decode_started: bool = False
    finished_at: float | None = None
    stream_start: float | None = None
    provisional: Literal["ready", "running", "none"] | None = None
    frames: int | None = None
    dropped: int = 0
    seq: int = 0

    @property
    def stream_id(self) -> str:
        return self.stream.stream_id

    @property
    def group_key(self) -> Options | None:
        """Utterances with equal keys may share an event; None where no event delivers them."""
        return self.options if self.stream.auto_flush else None

    @property
    def is_accepted(self) -> bool:
        return self.boundary_request is None

    @property
    def is_read(self) -> bool:
        return self.sample_count is not None

    @property
    def due(self) -> float:
        """When its decoding starts although nobody has asked for it."""
        return self.queued_at + self.stream.max_batch_delay_ms / 1000

    @property
    def group_overrides(self) -> Decoding:
        """What its boundary sets for the whole group that it fills."""
        boundary = self.boundary
        return Decoding(
            max_new_tokens=boundary.max_new_tokens,
            decoder_mode=boundary.decoder_mode,
            drift_guard=boundary.drift_guard,
        )


@dataclass(slots=True, eq=False)
class FileRequest:
    """One `transcribe`, `batch_transcribe` or `align`: its request, and the transcription of each file in order."""

    request: PendingRequest
    command: Transcribe | BatchTranscribe | commands.Align
    transcriptions: "list[Transcription]" = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Job:
    """What the engine does at a time for a transcription.

    `samples`: float32 (N,), None once they are not needed any more. `in_engine`: what the engine has of them while the
    job waits; once it is running, the engine has all. `ends`: how often the engine ended while it was running.
    """

    id: int
    transcription: "Transcription"
    samples: Samples | None
    in_engine: AppendedAudio | None = None
    is_running: bool = False
    ends: int = 0

    @property
    def seconds(self) -> float:
        return 0.0 if self.samples is None else len(self.samples) / SAMPLE_RATE

    @property
    def kind(self) -> JobKind:
        """Jobs of one kind compete."""
        raise NotImplementedError

    def request(self, audio_id: int) -> Finalize | Align:
        """What ends it in the engine, which has all of its samples."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Segment(Job):
    """What is decoded by itself: an utterance, or at most `--max-chunk-seconds` of a file.

    The samples of a file are freed with the outcome, or with the words; those of an utterance after the delivery.
    `alignments`: of each segment that the engine made of it.
    """

    transcript: Transcript | None = None
    alignments: "list[Alignment]" = field(default_factory=list)
    is_provisional: bool = False  # computed while its utterance is open

    @property
    def kind(self) -> JobKind:
        return "provisional" if self.is_provisional else self.transcription.options.decoder_mode

    @property
    def words_pending(self) -> bool:
        return any(alignment.outcome is None for alignment in self.alignments)

    def provisional(self, audio: AppendedAudio) -> Provisional:
        """What transcribes it in the engine, which has the beginning of its samples, and perhaps more behind them."""
        options, samples = self.transcription.options, NO_SAMPLES if self.samples is None else self.samples
        return Provisional(
            id=self.id,
            audio_id=audio.id,
            samples=min(audio.samples, len(samples)),
            tail=samples[audio.samples :],
            language=options.language,
            context=options.context,
            max_new_tokens=options.max_new_tokens,
            logprobs=options.takes_logprobs,
            languages=options.languages,
            terms=options.terms,
        )

    def request(self, audio_id: int) -> Finalize:
        options = self.transcription.options
        return Finalize(
            id=self.id,
            audio_id=audio_id,
            language=options.language,
            context=options.context,
            max_new_tokens=options.max_new_tokens,
            logprobs=options.takes_logprobs,
            languages=options.languages,
            terms=options.terms,
            decoder_mode=options.decoder_mode,
            drift_guard=options.drift_guard,
            interactive=self.transcription.stream_id is not None,
        )


@dataclass(slots=True, eq=False)
class Alignment(Job):
    """The words of one text, or why they have no times."""

    text: str = ""
    language: str | None = None
    outcome: Aligned | BridgeError | None = None

    @property
    def kind(self) -> JobKind:
        return "align"

    def request(self, audio_id: int) -> Align:
        return Align(self.id, audio_id, self.text, self.language, self.transcription.options.align_decoder)

    def end(self, outcome: Aligned | BridgeError) -> None:
        self.outcome, self.samples = outcome, None


@dataclass(slots=True, eq=False)
class Transcription:
    """`origin`: what it is delivered to. `id` is that of its first job; decoding it again gives it a new one.

    `path` is None for audio that came over the wire. `known`: the text of a file that is only aligned. `is_read`: all
    `segments` are there. `is_cancelled`: it ends when the engine has ended what it decodes. `expires`: when it fails
    with `timeout`. `barriers`: how many the scheduler had when its decoding was requested.
    """

    id: int
    origin: StreamUtterance | FileRequest
    options: Options
    path: str | None = None
    known: KnownText | None = None
    state: State = State.QUEUED
    segments: list[Segment] = field(default_factory=list)
    is_read: bool = False
    is_cancelled: bool = False
    sample_count: int = 0
    decode_requested: bool = False
    barriers: int = 0
    expires: float | None = None
    warnings: tuple[str, ...] = ()
    read_seconds: float | None = None
    is_provisional: bool = False  # its utterance is open: nothing of it is delivered
    result: Result | None = None
    energy: float = 0.0  # the sum of the squares of its samples
    announced_seconds: float | None = None  # by the header of its file
    done_seconds: float = 0.0  # of its segments with a transcript

    @property
    def utterance(self) -> StreamUtterance:
        """Of a transcription that belongs to a stream."""
        if not isinstance(self.origin, StreamUtterance):
            raise TypeError("a file is no utterance of a stream")
        return self.origin

    @property
    def track(self) -> int:
        """Of the audio tracks of its file."""
        return 1 if isinstance(self.origin, StreamUtterance) else self.origin.command.track or 1

    @property
    def stream_id(self) -> str | None:
        """None for a file that no stream waits for."""
        return self.origin.stream_id if isinstance(self.origin, StreamUtterance) else None

    @property
    def is_unfinished(self) -> bool:
        return self.result is None

    @property
    def words_pending(self) -> bool:
        """Whether its text is there, and its words are not."""
        return self.result is not None and any(each.words_pending for each in self.segments)

    @property
    def alignments(self) -> "list[Alignment]":
        """In the order of the text. The first ones, while it is decoded."""
        return [alignment for segment in self.segments for alignment in segment.alignments]

    @property
    def seconds(self) -> float:
        return self.sample_count / SAMPLE_RATE

    @property
    def total_seconds(self) -> float | None:
        """The work spent on it: reading, features, tower and decoder; not the waiting."""
        if not isinstance(self.result, Transcript | Aligned):
            return None
        work = self.result.profile.total_seconds if isinstance(self.result, Transcript) else self.result.seconds
        measured = [s for s in (self.read_seconds, work) if s is not None]
        return round(sum(measured), 4) if measured else None

    @property
    def rms_dbfs(self) -> float | None:
        """How loud it is on the whole, 0 for a square wave at full scale; None for digital silence, which has no
        level."""
        power = self.energy / max(1, self.sample_count)
        return round(10 * math.log10(power), 1) if power else None

    @property
    def is_partly_read(self) -> bool:
        return bool(self.segments) and not self.is_read

    @property
    def held_segments(self) -> int:
        """Segments without a text whose samples are in memory."""
        return sum(segment.samples is not None and segment.transcript is None for segment in self.segments)

    @property
    def held_seconds(self) -> float:
        return sum(segment.seconds for segment in self.segments)

    def add_segment(self, id: int, samples: Samples, in_engine: AppendedAudio | None = None) -> Segment:
        """More of its audio."""
        segment = Segment(id, self, samples, in_engine)
        self.segments.append(segment)
        self.sample_count += len(samples)
        # np.dot would start threads of a BLAS
        self.energy += float(np.einsum("i,i->", samples, samples, dtype=np.float64))
        return segment

    def release(self) -> None:
        """Free its audio."""
        for segment in self.segments:
            segment.samples = None

    def close(self) -> None:
        """Nobody waits for it any more. Its jobs refer to it, and without them it is freed at once, not with the next
        garbage collection."""
        self.segments.clear()

    def joined(self) -> Transcript | None:
        """The transcript of the whole; None while one of a segment is missing."""
        transcripts = [segment.transcript for segment in self.segments if segment.transcript is not None]
        if not self.is_read or len(transcripts) < len(self.segments):
            return None
        return replace(join_transcripts(transcripts), warnings=self.warnings)
