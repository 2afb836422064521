"""Lines that carry transcripts: of files, of the utterances of streams, and of what was left at the end."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import Confidence
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Reply


class TranscriptReply(Reply, kw_only=True, tag="transcript"):
    """One transcribed file.

    `text` is clean, `raw_text` what the model wrote, `language` null where it heard none. `finish_reason`: `stop`,
    `length` or `repetition`. `rms_dbfs`: how loud it is on the whole, null for digital silence. `decode_seconds` of the
    decoder; `total_seconds` of reading, features, tower and decoder; `load_seconds` of the load that this request
    caused, 0.0 if it caused none. `redecoded` counts the pieces of audio that a batch decoded and that were decoded
    again, alone. `token_logprobs` (natural logarithms, one for each of `generated_token_ids`) and `confidence` stand
    there where `logprobs` was asked for; `confidence` is null where no token was written.
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
    """One file of a batch; its fields mean what they mean in a `transcript`. With an `error`, `text` is null and all
    that the model would have told is absent. `generated_token_ids` stand beside `token_logprobs`."""

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
    """As many items as were asked for, in their order; `failed` of them have an `error` in place of a text.
    `redecoded` is the sum over the items."""

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
    """The one outcome of an utterance.

    `job` is unique in the process. `source`: a file, inline PCM, or the stream's buffer; `samples` at 16 kHz, null if
    the file was never read. With an `error`, `text` and all that the model would have told are null. `audio_gap`: a
    chunk of it was refused or never came. `queue_seconds`: from the boundary to the outcome, decoding included.
    `generated_token_ids`, `token_logprobs` and `confidence` are absent unless `logprobs` was asked for. `final_policy`
    and `verified_tokens`, those of its tokens that a partial had and the final only verified, are
    absent unless it was listened to then.
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
    """Utterances in the order of their boundaries; `failed` of them have an `error` in place of a text.

    As an event (`event` true, numbered `n`) it tells of streams with `auto_flush`, and of what still waited when the
    conversation ended. `utterance_id` is that of the boundary that it answers, and `dropped_samples` stands only in the
    line that ends a conversation without events. `decoder_mode` is what was asked for; `redecoded` is the sum over the
    items.
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
    """What the end kept from its result: an utterance by its names, or a request by its `id`. Its outcome, or its
    reply, was the error of this `code`."""

    stream_id: str | UnsetType = UNSET
    utterance_id: str | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    code: str


class Stopped(Reply, kw_only=True, tag="stopped"):
    """The last line.

    `reason`: `stop`, `abort`, `deadline`, `end_of_input`, `signal`, or the code of what ended the engine. `completed`:
    transcripts made since the process started. `items`: the outcomes of utterances that still waited for a `flush`.
    `dropped_samples`: audio behind the last boundary of each stream.
    """

    reason: str
    completed: int
    unfinished: list[Unfinished]
    dropped_samples: int
    items: list[FinalResult]
