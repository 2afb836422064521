"""Replies about streams, and the lines that answer no request."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.protocol.replies import PROTOCOL, Line, Reply
from qwen3_asr_mlx_runtime.protocol.transcripts import Aligner, ItemError, Word


class StreamReady(Reply, kw_only=True, tag="stream_ready"):
    """The stream is open, and the model is loaded. `dropped_samples`: audio that a restart dropped. `partials`,
    `partial_interval_ms` and `final_policy` are absent unless partials were requested."""

    protocol: str = PROTOCOL
    stream_id: str
    sample_rate: int
    batch_size: int
    max_batch_delay_ms: int
    auto_flush: bool
    decoder_mode: str
    on_limit: str
    dropped_samples: int
    partials: bool | UnsetType = UNSET
    partial_interval_ms: int | UnsetType = UNSET
    final_policy: str | UnsetType = UNSET
    asr_backend: str = "mlx"
    vad_backend: str = "external-boundary"
    note: str = "the client ends utterances with end_utterance or vad_boundary"


class Gap(msgspec.Struct, kw_only=True):
    """A later `seq` arrived than the expected one."""

    expected: int
    got: int


class Split(msgspec.Struct, kw_only=True):
    """An utterance that was ended because it would have become too long."""

    utterance_id: str
    samples: int


class PartialResult(Reply, kw_only=True, tag="partial_result"):
    """The reply to a chunk, which is ignored if `duplicate`; as an event (`event` true, numbered `n`): a partial.

    `samples_buffered` and `chunks` of the open utterance. `text`: its latest hypothesis, of its first `audio_seconds`;
    empty, and the fields that belong to it absent, unless the stream has `partials`. `revision` counts the hypotheses
    of the utterance from 1, 0 before the first. `stable_text` only grows within an utterance. `changed_from`: the first
    code point of `text` that differs from the last partial that was written for this utterance. `settled_ms`: audio
    since `text` last changed. `ends_sentence`: `text` ends with a sentence mark, which has
    `ends_sentence_probability`. `trailing_silence_ms`: at the end of the audio that has come. Only events have
    `seconds` (of work), `queue_seconds` (from the chunk that made it due), `tokens`, and `verified_tokens` (those of
    them accepted from the draft). `interval_ms`: of audio before the next partial, where a remote engine sustains no
    shorter one than this; otherwise absent.
    """

    event: Literal[True] | UnsetType = UNSET
    n: int | UnsetType = UNSET
    stream_id: str
    utterance_id: str | UnsetType = UNSET
    revision: int | UnsetType = UNSET
    stable_text: str | UnsetType = UNSET
    text: str = ""
    changed_from: int | UnsetType = UNSET
    language: str | UnsetType | None = UNSET
    audio_seconds: float | UnsetType = UNSET
    settled_ms: int | UnsetType = UNSET
    ends_sentence: bool | UnsetType = UNSET
    ends_sentence_probability: float | UnsetType | None = UNSET
    trailing_silence_ms: int | UnsetType = UNSET
    samples_buffered: int
    chunks: int
    is_final: bool = False
    seconds: float | UnsetType = UNSET
    queue_seconds: float | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    verified_tokens: int | UnsetType = UNSET
    interval_ms: int | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    gap: Gap | UnsetType = UNSET
    split: Split | UnsetType = UNSET


class Paused(Reply, kw_only=True, tag="paused"):
    """`samples`: PCM frames of the utterance, whose final is computed if the engine has time."""

    stream_id: str
    utterance_id: str
    samples: int


class UtteranceQueued(Reply, kw_only=True, tag="utterance_queued"):
    """`samples` at 16 kHz. `frames`: PCM frames at the stream's rate; `dropped_samples`: of the rest that was dropped;
    both only with `samples` or after a `pause`. `queued`: the utterances that wait for a batch, in all streams."""

    stream_id: str
    utterance_id: str
    samples: int
    frames: int | UnsetType = UNSET
    dropped_samples: int | UnsetType = UNSET
    queued: int
    batch_size: int


class StreamStopped(Reply, kw_only=True, tag="stream_stopped"):
    """`dropped_samples`: audio after the last boundary. `queued`: utterances of the stream that the next `flush`
    delivers. `cancelled_utterances`: those cancelled by `discard` that no other line names."""

    stream_id: str
    dropped_samples: int
    queued: int
    cancelled_utterances: list[str]


class Event(Line, kw_only=True):
    """Base of lines that answer no request, and are sent only if wanted. `n` counts them, from 1."""

    event: Literal[True] = True
    n: int = 0


class Progress(Event, kw_only=True, tag="progress"):
    """The progress of a load, or, with `stage` `transcribe`, of a file. `request_id`: the request that caused the load,
    or that of the file; absent if it had no id. `done` of `total`: bytes of a load, milliseconds of a file; null where
    unknown."""

    request_id: str | int | UnsetType = UNSET
    stage: str
    done: int | None
    total: int | None


class EngineRestarting(Event, kw_only=True, tag="engine_restarting"):
    """The engine has ended, and another is started: what had no outcome is decoded again. `reason`: the name of the
    signal that ended it, `exit_N`, `stalled`, `corrupt_frame`, `gpu_ignored` or `non_finite_output`. `attempt` counts
    starts without a finished job between."""

    reason: str
    attempt: int


class WordsReady(Event, kw_only=True, tag="words_ready"):
    """The words of a `final_result` that was sent with `words_pending`: `words`, or the `error` that prevents them."""

    job: int
    stream_id: str
    utterance_id: str
    words: list[Word] | UnsetType = UNSET
    aligner: Aligner | UnsetType = UNSET
    warnings: list[str] = msgspec.field(default_factory=list)
    error: ItemError | UnsetType = UNSET


class StreamError(Event, kw_only=True, tag="stream_error"):
    """A chunk without `id` was rejected. `stream_id` and `seq` are null if unknown. `dropped_samples`: the number of
    its samples, 0 if unknown."""

    stream_id: str | None
    seq: int | None
    dropped_samples: int
    code: str
    message: str
    retryable: bool
    data: dict[str, Any]
