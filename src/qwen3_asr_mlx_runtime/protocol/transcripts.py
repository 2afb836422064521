"""Lines that carry transcripts: of files, of the utterances of streams, and of utterances left at the end."""

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import Confidence
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Reply

WORDS_UNAVAILABLE = "words_unavailable: "  # a warning begins so, and goes on with the reason


def words_reason(warnings: Iterable[str]) -> str | None:
    """Why a result has no words, if a warning says so."""
    found = (each for each in warnings if each.startswith(WORDS_UNAVAILABLE))
    return next((each.removeprefix(WORDS_UNAVAILABLE) for each in found), None)


class Word(msgspec.Struct, kw_only=True):
    """A word with its punctuation.

    `start` and `end` in seconds from the first sample of the file or utterance. `text` is `char_start` to `char_end`
    of the transcript, in code points, without the whitespace around it; the ranges of all words cover the transcript.
    `confidence`: the geometric mean of the probabilities of its tokens, null where they are not known.
    `time_confidence`: the probability of the less certain of its two times; null where a whole segment is one word,
    because its words have no times.
    """

    text: str
    start: float
    end: float
    char_start: int
    char_end: int
    confidence: float | None
    time_confidence: float | None


class Segment(msgspec.Struct, kw_only=True):
    """What was decoded by itself. `start` and `end` in seconds from the first sample of the file or utterance.
    `repaired`: with the one before or behind it, it stands for a segment that had ended in a loop."""

    start: float
    end: float
    text: str
    finish_reason: str
    repaired: Literal[True] | UnsetType = UNSET


class Aligner(msgspec.Struct, kw_only=True):
    """What gave the words their times. `seconds`: of work. `decoder`: `viterbi` or `official`."""

    model: str
    seconds: float
    decoder: str


class TranscriptReply(Reply, kw_only=True, tag="transcript"):
    """One transcribed file.

    `text` is clean, `raw_text` is the model's output, `language` is null if there is no speech, or none of `languages`.
    `language_probabilities`, by the names of `languages`, is present if that was set; what is missing to 1 is the
    probability of none of them. It is null if nothing was decoded. `finish_reason`: `stop`, `length` or `repetition`.
    `rms_dbfs`: the loudness of the whole, null for digital silence. `decode_seconds`: of the decoder; `total_seconds`:
    of reading, features, tower and decoder; `load_seconds`: of the load that this request caused, 0.0 if it caused
    none. `redecoded` counts the segments that were decoded in a batch and then again alone. `token_logprobs` (natural
    logarithms, one for each of `generated_token_ids`) and `confidence` are present if `logprobs` was requested;
    `confidence` is null if there are no tokens. `words` and `aligner` are present if `words` was requested, `segments`
    if `segments` was; `words` is null beside a warning `words_unavailable`, which says why. `context_echo`: weak audio
    had a text that was mostly `context` or `terms`; it was dropped, and the text is that of decoding without them.
    `repaired` is present where a segment ended in a loop and was decoded again in two parts: `raw_text` has the loop,
    all else is of the parts.
    """

    audio: str
    text: str
    language: str | None
    language_probabilities: dict[str, float] | UnsetType | None = UNSET
    raw_text: str
    finish_reason: str
    generated_tokens: int
    generated_token_ids: list[int]
    audio_embeddings_shape: list[int]
    audio_output_lengths: list[int]
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    words: list[Word] | UnsetType | None = UNSET
    aligner: Aligner | UnsetType = UNSET
    segments: list[Segment] | UnsetType = UNSET
    context_echo: Literal[True] | UnsetType = UNSET
    repaired: Literal[True] | UnsetType = UNSET
    rms_dbfs: float | None
    decode_seconds: float | None
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    decoder_mode: str
    redecoded: int
    profile: Profile


class Aligned(Reply, kw_only=True, tag="aligned"):
    """When each word of a known text is said.

    `words` as in a `transcript`, each with a `confidence` of null; none for a text without letters and digits.
    `confidence`: the mean of their `time_confidence`, null without words. A warning `text_doubtful` says that the text
    hardly belongs to the audio. `total_seconds`: of reading and aligning; `load_seconds` as in a `transcript`.
    """

    audio: str
    language: str
    words: list[Word]
    confidence: float | None
    aligner: Aligner
    audio_seconds: float
    total_seconds: float | None
    load_seconds: float


class ItemError(msgspec.Struct, kw_only=True):
    code: str
    message: str


class BatchItem(msgspec.Struct, kw_only=True):
    """One file of a batch; its fields have the same meaning as in a `transcript`. With an `error`, `text` is null and
    the other results of the model are absent. `generated_token_ids` are present together with `token_logprobs`."""

    audio: str
    text: str | None
    language: str | UnsetType | None = UNSET
    language_probabilities: dict[str, float] | UnsetType | None = UNSET
    raw_text: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    generated_tokens: int | UnsetType = UNSET
    generated_token_ids: list[int] | UnsetType = UNSET
    audio_embeddings_shape: list[int] | UnsetType = UNSET
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    words: list[Word] | UnsetType | None = UNSET
    aligner: Aligner | UnsetType = UNSET
    segments: list[Segment] | UnsetType = UNSET
    context_echo: Literal[True] | UnsetType = UNSET
    repaired: Literal[True] | UnsetType = UNSET
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
    partials. `language_probabilities`, `words`, `aligner`, `segments`, `context_echo` and `repaired` as in a
    `transcript`; `words_pending`: `words` is null, and follows in `words_ready`. `stream_start`: seconds from the first
    sample of the stream to that of the utterance, present with `words` or `segments` if the audio came in chunks.
    `provisional`: whether the final was `ready` at the boundary, was being computed, or neither; present after a
    `pause` of the utterance.
    """

    job: int
    stream_id: str
    utterance_id: str
    source: Source
    samples: int | None
    text: str | None = None
    language: str | None = None
    language_probabilities: dict[str, float] | UnsetType | None = UNSET
    raw_text: str | None = None
    finish_reason: str | None = None
    generated_tokens: int | None = None
    generated_token_ids: list[int] | UnsetType = UNSET
    audio_embeddings_shape: list[int] | None = None
    token_logprobs: list[float] | UnsetType = UNSET
    confidence: Confidence | UnsetType | None = UNSET
    words: list[Word] | UnsetType | None = UNSET
    words_pending: Literal[True] | UnsetType = UNSET
    provisional: Literal["ready", "running", "none"] | UnsetType = UNSET
    aligner: Aligner | UnsetType = UNSET
    segments: list[Segment] | UnsetType = UNSET
    context_echo: Literal[True] | UnsetType = UNSET
    repaired: Literal[True] | UnsetType = UNSET
    stream_start: float | UnsetType = UNSET
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
    waited at the end of the session. `utterance_id` is that of the boundary that it answers. `dropped_samples`: of the
    rest that this boundary dropped, or of all streams in the last line of a session without events. `decoder_mode` is
    the requested one; `redecoded` is the sum over the items.
    """

    event: Literal[True] | UnsetType = UNSET
    n: int | UnsetType = UNSET
    reason: Literal["flush", "batch_size", "delay", "pause", "end_of_input"]
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
