"""What a client gets to read, and the way from it to a line of bytes."""

import json
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.info import EngineInfo
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.limits import LIMITS
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES, Id

RUNTIME = "qwen3-asr-mlx"
PROTOCOL = "qwen3-asr-mlx-jsonl-v1"

State = Literal["unloaded", "downloading", "loading", "ready", "busy", "draining", "failed"]


class Line(msgspec.Struct, kw_only=True, tag_field="type"):
    """Base of all lines out."""


class Reply(Line, kw_only=True):
    """Base of all that answer a request. `id` is its own, null where the line could not be read, or absent.

    `warnings` is absent where nothing was ignored or mended.
    """

    id: Id | UnsetType | None = UNSET
    warnings: list[str] | UnsetType = UNSET


if TYPE_CHECKING:

    class Limits(msgspec.Struct, kw_only=True):
        """A member for each of `limits.LIMITS`."""

        def __init__(self, **values: float) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    Limits = msgspec.defstruct(
        "Limits",
        [(name, type(limit.default)) for name, limit in LIMITS.items()],
        kw_only=True,
        module=__name__,
        namespace={"__doc__": "Over `max_pending_requests` a request with an `id` is `busy`; over others it fails."},
    )


class Models(msgspec.Struct, kw_only=True):
    efficiency: str = "Qwen/Qwen3-ASR-0.6B"
    accuracy_candidate: str = "Qwen/Qwen3-ASR-1.7B"


class Server(msgspec.Struct, kw_only=True):
    """The process that answers. `pid` is null where no conversation is held."""

    name: str = RUNTIME
    version: str
    pid: int | None = None


class Rates(msgspec.Struct, kw_only=True):
    """Hz, all whole numbers between them."""

    minimum: int
    maximum: int


class AudioInput(msgspec.Struct, kw_only=True):
    """`formats`: the containers of files that can be read, by libsndfile's names; null where no conversation is held.
    `stream_rates`: of the PCM of streams."""

    formats: list[str] | None = None
    stream_rates: Rates


class CapabilitiesReply(Reply, kw_only=True, tag="capabilities"):
    """What this build does. `features` holds what the first runtime of this protocol did not do.

    `engine`: what decodes. `aligner`: what gives words their times, null for nothing. `session` is random in each
    process, null from `--print-capabilities`; `want`: the events that the client gets.
    """

    runtime: str = RUNTIME
    version: str
    server: Server
    session: str | None = None
    protocol: str = PROTOCOL
    protocols: list[str] = msgspec.field(default_factory=lambda: [PROTOCOL])
    model: str
    aligner: str | None
    sample_rate: int
    audio_format: str = "path of a file that libsndfile reads, any rate, any channels; or PCM16 mono in base64"
    audio: AudioInput
    vad_boundary_source: str = "external"
    use_cache: bool = True
    decoder_modes: tuple[str, ...] = DECODER_MODES
    messages: list[str]
    features: list[str]
    want: list[str] = msgspec.field(default_factory=list)
    error_codes: list[str]
    languages: dict[str, str]
    limits: Limits
    models: Models = msgspec.field(default_factory=Models)
    engine: EngineInfo | UnsetType = UNSET


class Pong(Reply, kw_only=True, tag="pong"):
    """`busy_ms`: how long the engine has had work without a pause. `last_progress_ms_ago`: since it was last seen to
    move, a decoder step or an outcome. Both are null while it has nothing to do."""

    uptime_s: float
    state: State
    busy_ms: int | None
    last_progress_ms_ago: int | None


class Counters(msgspec.Struct, kw_only=True):
    """Since the process started. `errors` counts error replies, failed items and stream errors by their code."""

    requests: int = 0
    transcripts: int = 0
    audio_seconds: float = 0.0
    chunks: int = 0
    events: int = 0
    errors: dict[str, int] = msgspec.field(default_factory=dict)


class Queues(msgspec.Struct, kw_only=True):
    """Requests without a reply; utterances that wait to start, and those whose result is not delivered; files not yet
    read, being read, and stuck; jobs that wait for the engine, and those it has; partials that it computes; seconds of
    stream audio in memory."""

    requests: int
    utterances_waiting: int
    utterances_in_batches: int
    files_unread: int
    files_reading: int
    files_stuck: int
    ready: int
    decoding: int
    listening: int
    pending_audio_seconds: float


class Versions(msgspec.Struct, kw_only=True):
    """null: not installed."""

    runtime: str
    python: str
    mlx: str | None


class StatusReply(Reply, kw_only=True, tag="status"):
    """Numbers alone: no text, no path, no name. `memory` is as of now; `timer_lag_ms`: how late the last timer was;
    `partial_share`: how much of the last 10 s the engine worked on partials, null before the first."""

    state: State
    uptime_s: float
    busy_ms: int | None
    last_progress_ms_ago: int | None
    timer_lag_ms: float
    partial_line_bytes: int
    streams: int
    queues: Queues
    counters: Counters
    rss_bytes: int | None
    memory: Memory
    limits: Limits
    versions: Versions
    engine_restarts: int
    engine_last_end: str | None
    partial_share: float | None


class CancelResult(Reply, kw_only=True, tag="cancel_result"):
    """`cancelled`: it will be answered so. `cancelling`: it is being decoded, and may still win. `already_done`: it was
    answered before. `unknown`: nothing of that name is or was there, as far as is remembered. `dropped_samples`: of an
    open utterance; otherwise absent."""

    state: Literal["cancelled", "cancelling", "already_done", "unknown"]
    dropped_samples: int | UnsetType = UNSET


class Ready(Reply, kw_only=True, tag="ready"):
    """The model is loaded. `load_seconds` and `load_profile` tell of that one load, however often `start` is sent.
    `load`: what this request waited for, a load from disk (`cold`), one from the page cache (`warm`), or none.
    `engine`: what a remote engine has found; absent for a local one."""

    runtime: str = RUNTIME
    protocol: str = PROTOCOL
    model: str
    model_dir: str
    use_cache: bool = True
    load_seconds: float
    load_profile: dict[str, Any]
    load: Literal["cold", "warm", "none"]
    engine: EngineInfo | UnsetType = UNSET


class Unloaded(Reply, kw_only=True, tag="unloaded"):
    """The model is out of memory. `freed_bytes`: what its process took, 0 if no model was loaded."""

    freed_bytes: int


class ErrorReply(Reply, kw_only=True, tag="error"):
    """The request failed. `code` never changes its meaning; `retryable`: the same request may succeed later."""

    code: str
    message: str
    retryable: bool
    data: dict[str, Any]


class Fatal(Reply, kw_only=True, tag="fatal"):
    """The process cannot go on, and ends: a line that answers no request."""

    code: str
    message: str
    retryable: bool = False


def error_reply(error: BridgeError) -> ErrorReply:
    return ErrorReply(code=error.code, message=error.message, retryable=error.retryable, data=dict(error.data))


def encode_line(line: Line) -> bytes:
    """ASCII JSON with its newline. Raises ValueError for a number that JSON does not have."""
    members = msgspec.to_builtins(line)
    return json.dumps(members, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def encode_any_line(line: Line) -> bytes:
    """As `encode_line`; in the place of a line that JSON cannot carry, an internal error."""
    try:
        return encode_line(line)
    except (TypeError, ValueError):
        failure = error_reply(BridgeError("the result holds a value that JSON cannot carry"))
        if isinstance(line, Reply):
            failure.id = line.id
        return encode_line(failure)
