"""What a client gets to read, and the way from it to a line of bytes."""

import json
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES, MAX_BATCH_ITEMS, Id
from qwen3_asr_mlx_runtime.telemetry import Profile

RUNTIME = "qwen3-asr-mlx"
PROTOCOL = "qwen3-asr-mlx-jsonl-v1"


class Reply(msgspec.Struct, kw_only=True, tag_field="type"):
    """Base of all lines out. `id` is the request's own, null where the line could not be read, absent where none came.

    `warnings` is absent where nothing was ignored or mended.
    """

    id: Id | UnsetType | None = UNSET
    warnings: list[str] | UnsetType = UNSET


class Limits(msgspec.Struct, kw_only=True):
    max_line_bytes: int
    max_new_tokens: int
    max_context_characters: int
    max_audio_seconds: float
    max_batch_items: int = MAX_BATCH_ITEMS


class Models(msgspec.Struct, kw_only=True):
    efficiency: str = "Qwen/Qwen3-ASR-0.6B"
    accuracy_candidate: str = "Qwen/Qwen3-ASR-1.7B"


class CapabilitiesReply(Reply, kw_only=True, tag="capabilities"):
    """What this build does. `features` holds what the first runtime of this protocol did not do."""

    runtime: str = RUNTIME
    version: str
    protocol: str = PROTOCOL
    model: str
    sample_rate: int
    audio_format: str = "path of a file that libsndfile reads, any rate, any channels"
    vad_boundary_source: str = "external"
    use_cache: bool = True
    decoder_modes: tuple[str, ...] = DECODER_MODES
    messages: list[str]
    features: list[str]
    languages: dict[str, str]
    limits: Limits
    models: Models = msgspec.field(default_factory=Models)


class Ready(Reply, kw_only=True, tag="ready"):
    """The model is loaded. `load_seconds` and `load_profile` tell of that one load, however often `start` is sent."""

    runtime: str = RUNTIME
    protocol: str = PROTOCOL
    model: str
    model_dir: str
    use_cache: bool = True
    load_seconds: float
    load_profile: dict[str, Any]


class TranscriptReply(Reply, kw_only=True, tag="transcript"):
    """One transcribed file.

    `text` is clean, `raw_text` what the model wrote, `language` null where it heard none. `finish_reason`: `stop`,
    `length` or `repetition`. `decode_seconds` of the decoder; `total_seconds` of reading, features, tower and decoder;
    `load_seconds` of the load that this request caused, 0.0 if it caused none.
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
    decode_seconds: float | None
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    profile: Profile


class ItemError(msgspec.Struct, kw_only=True):
    code: str
    message: str


class BatchItem(msgspec.Struct, kw_only=True):
    """One transcribed file of a batch; its fields mean what they mean in a `transcript`."""

    audio: str
    text: str
    language: str | None
    raw_text: str
    finish_reason: str
    generated_tokens: int
    audio_embeddings_shape: list[int]
    decode_seconds: float | None
    warnings: list[str]


class FailedItem(msgspec.Struct, kw_only=True):
    """A file of a batch that could not be transcribed, in its place."""

    audio: str
    text: None = None
    error: ItemError


class BatchTranscript(Reply, kw_only=True, tag="batch_transcript"):
    """As many items as were asked for, in their order; `failed` of them have an `error` in place of a text."""

    count: int
    failed: int
    items: list[BatchItem | FailedItem]
    total_seconds: float | None
    load_seconds: float
    use_cache: bool = True
    decoder_mode: str
    profile: Profile


class ErrorReply(Reply, kw_only=True, tag="error"):
    """The request failed. `code` never changes its meaning; `retryable`: the same request may succeed later."""

    code: str
    message: str
    retryable: bool
    data: dict[str, Any]


class Stopped(Reply, tag="stopped"):
    """The last line."""


class Fatal(Reply, kw_only=True, tag="fatal"):
    """The process cannot go on, and ends: a line that answers no request."""

    code: str
    message: str
    retryable: bool = False


def error_reply(error: BridgeError) -> ErrorReply:
    return ErrorReply(code=error.code, message=error.message, retryable=error.retryable, data=dict(error.data))


def encode_reply(reply: Reply) -> bytes:
    """One line of ASCII JSON with its newline. Raises ValueError for a number that JSON does not have."""
    members = msgspec.to_builtins(reply)
    return json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
