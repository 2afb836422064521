"""Lines that carry transcripts: of files, of the utterances of streams, and of utterances left at the end."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import Confidence
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Reply


class TranscriptReply(Reply, kw_only=True, tag="transcript"):
    """One transcribed file.

    `text` is clean, `raw_text` is the model's output, `language` is null if there is no speech. `finish_reason`:
    `stop`, `length` or `repetition`. `rms_dbfs`: the loudness of the whole, null for digital silence. `decode_seconds`:
    of the decoder; `total_seconds`: of reading, features, tower and decoder; `load_seconds`: of the load that this
    request caused, 0.0 if it caused none. `redecoded` counts the segments that were decoded in a batch and then again
    alone. `token_logprobs` (natural logarithms, one for each of `generated_token_ids`) and `confidence` are present if
    `logprobs` was requested; `confidence` is null if there are no tokens.
    """

    audio: str
    text: str
    language: str | None
    raw_text: str
    finish_reason: str
    generated_tokens: int
    generated_token_ids: list[int]
    audio_embeddings_shape: list[int]
    audio_output_lengths: list[int]
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    rms_dbfs: float | None
    decode_seconds: float | None
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    decoder_mode: str
    redecoded: int
    profile: Profile


class ItemError(msgspec.Struct, kw_only=True):
    code: str
    message: str


class BatchItem(msgspec.Struct, kw_only=True):
    """One file of a batch; its fields have the same meaning as in a `transcript`. With an `error`, `text` is null and
    the other results of the model are absent. `generated_token_ids` are present together with `token_logprobs`."""

    audio: str
    text: str | None
    language: str | UnsetType | None = UNSET
    raw_text: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    generated_tokens: int | UnsetType = UNSET
    generated_token_ids: list[int] | UnsetType = UNSET
    audio_embeddings_shape: list[int] | UnsetType = UNSET
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    rms_dbfs: float | UnsetType | None = UNSET
    decode_seconds: float | UnsetType | None = UNSET
    redecoded: int | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET
    error: ItemError | UnsetType = UNSET


class BatchTranscript(Reply, kw_only=True, tag="batch_transcript"):
    """One item for each requested file, in order; `failed` of them have an `error` instead of a text. `redecoded` is
    the sum over the items."""

    count: int
    failed: int
    items: list[BatchItem]
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    decoder_mode: str
    redecoded: int
    profile: Profile


Source = Literal["audio", "pcm16", "buffer"]


class FinalResult(msgspec.Struct, kw_only=True, tag_field="type", tag="final_result"):
    """The outcome of an utterance.

    `job` is unique in the process. `source`: a file, inline PCM, or the stream's buffer; `samples` at 16 kHz, null if
    the file was never read. With an `error`, `text` and the other results of the model are null. `audio_gap`: a chunk
    of it was rejected or is missing. `queue_seconds`: from the boundary to the outcome, decoding included.
    `generated_token_ids`, `token_logprobs` and `confidence` are absent unless `logprobs` was requested. `final_policy`
    and `verified_tokens` (tokens of the last partial that the final accepted from the draft) are absent without
    partials.
    """

    job: int
    stream_id: str
    utterance_id: str
    source: Source
    samples: int | None
    text: str | None = None
    language: str | None = None
    raw_text: str | None = None
    finish_reason: str | None = None
    generated_tokens: int | None = None
    generated_token_ids: list[int] | UnsetType = UNSET
    audio_embeddings_shape: list[int] | None = None
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    rms_dbfs: float | None = None
    decode_seconds: float | None = None
    redecoded: int | None = None
    final_policy: str | UnsetType = UNSET
    verified_tokens: int | UnsetType = UNSET
    queue_seconds: float
    audio_gap: bool
    warnings: list[str] = msgspec.field(default_factory=list)
    error: ItemError | UnsetType = UNSET


class RealtimeBatchFinal(Reply, kw_only=True, tag="realtime_batch_final"):
    """Utterances in the order of their boundaries; `failed` of them have an `error` instead of a text.

    As an event (`event` true, numbered `n`) it delivers utterances of streams with `auto_flush`, and those that still
    waited at the end of the session. `utterance_id` is that of the boundary that it answers. `dropped_samples` is
    present only in the last line of a session without events. `decoder_mode` is the requested one; `redecoded` is the
    sum over the items.
    """

    event: Literal[True] | UnsetType = UNSET
    n: int | UnsetType = UNSET
    reason: Literal["flush", "batch_size", "delay", "end_of_input"]
    utterance_id: str | UnsetType = UNSET
    count: int
    failed: int
    items: list[FinalResult]
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    decoder_mode: str
    redecoded: int
    asr_backend: str = "mlx"
    vad_backend: str = "external-boundary"
    profile: Profile
    dropped_samples: int | UnsetType = UNSET


class Unfinished(msgspec.Struct, kw_only=True):
    """An utterance (by its names) or a request (by its `id`) that the end left without a result. Its outcome, or its
    reply, was the error of this `code`."""

    stream_id: str | UnsetType = UNSET
    utterance_id: str | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    code: str


class Stopped(Reply, kw_only=True, tag="stopped"):
    """The last line.

    `reason`: `stop`, `abort`, `deadline`, `end_of_input`, `signal`, or the code of the error that ended the engine.
    `completed`: transcripts since the process started. `items`: the outcomes of utterances that still waited for a
    `flush`. `dropped_samples`: audio after the last boundary of each stream.
    """

    reason: str
    completed: int
    unfinished: list[Unfinished]
    dropped_samples: int
    items: list[FinalResult]
