"""What the process accepts at most. Each limit that a client can read stands here once, with its name on the wire."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

Number = TypeVar("Number", int, float)


class Limit(NamedTuple):
    """`meaning`: what is counted. `beyond`: what happens with more. `code`: that of the error, None where it is none.

    `bounds`: of the command line option, which has the name of the limit; None without an option.
    """

    default: int | float
    meaning: str
    beyond: str
    code: str | None
    bounds: tuple[float, float] | None


LIMITS: dict[str, Limit] = {}  # in the order in which `capabilities` and `status` send them


def _limit(
    name: str,
    default: Number,
    meaning: str,
    beyond: str,
    code: str | None = None,
    *,
    bounds: tuple[float, float] | None = None,
) -> Number:
    LIMITS[name] = Limit(default, meaning, beyond, code, bounds)
    return default


def option_of(limit: str) -> str:
    """The command line option of a limit."""
    return "--" + limit.replace("_", "-")


_MIB = 1024 * 1024
_DAY = 24 * 3600

MAX_LINE_BYTES = _limit("max_line_bytes", 8 * _MIB, "one line of input", "the line is skipped", "line_too_long")
MAX_READ_AHEAD_BYTES = _limit(
    "max_read_ahead_bytes",
    64 * _MIB,
    "requests that are read and not answered",
    "the process stops reading until answers are read",
)
MAX_OUTPUT_QUEUE_BYTES = _limit(
    "max_output_queue_bytes",
    16 * _MIB,
    "lines that the client has not read",
    "no work starts until they are read; none is dropped",
)


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """The limits that a process may set for itself, as fields of Settings. One with `bounds` is an option."""

    max_pending_requests: int = _limit(
        "max_pending_requests",
        256,
        "requests with an `id` that have no reply",
        "a request for work is refused, with `retry_after_ms`; without `id` the pipe fills",
        "busy",
    )
    max_pending_audio_seconds: float = _limit(
        "max_pending_audio_seconds",
        3600.0,
        "audio of all streams without an outcome",
        "the chunk or boundary is refused",
        "limit_exceeded",
    )
    max_pending_utterances: int = _limit(
        "max_pending_utterances",
        1024,
        "utterances that may wait for their outcome",
        "a boundary with an `id`, or of a stream with `auto_flush`, is refused and its audio stays in the buffer; for"
        " others the pipe fills",
        "limit_exceeded",
        bounds=(1, 1_000_000),
    )
    max_streams: int = _limit(
        "max_streams",
        64,
        "streams that may be open at a time",
        "a request that would open another is refused",
        "limit_exceeded",
        bounds=(1, 1_000_000),
    )
    max_utterance_seconds: float = _limit(
        "max_utterance_seconds",
        1200.0,
        "one utterance",
        "the next chunk is refused, or with `on_limit` `split` begins a new utterance",
        "limit_exceeded",
    )
    max_audio_seconds: float = _limit(
        "max_audio_seconds",
        1200.0,
        "one file; at least `--max-chunk-seconds`",
        "the file fails",
        "audio_too_long",
        bounds=(0.1, _DAY),
    )
    gpu_share: float = _limit(
        "gpu_share",
        1.0,
        "the share of the engine's time for partials",
        "the next partial waits",
        bounds=(0.05, 1),
    )


MAX_AUDIO_SECONDS = ProcessLimits.max_audio_seconds
MAX_CHUNK_SECONDS = _limit("max_chunk_seconds", 30.0, "one chunk", "the chunk is refused", "invalid_params")
MAX_NEW_TOKENS = _limit("max_new_tokens", 4096, "the budget of one segment", "the request is refused", "invalid_params")
MAX_CONTEXT_CHARACTERS = _limit(
    "max_context_characters", 16_384, "one `context`", "the request is refused", "invalid_params"
)
MAX_LANGUAGES = _limit("max_languages", 30, "names in `languages`", "the request is refused", "invalid_params")
MAX_TERMS = _limit("max_terms", 100, "entries in `terms`", "the request is refused", "invalid_params")
MAX_TERM_CHARACTERS = _limit(
    "max_term_characters", 64, "the `text` of one of `terms`", "the request is refused", "invalid_params"
)
MAX_ALIGN_SECONDS = _limit(
    "max_align_seconds", 300.0, "the audio of one `align`", "the request fails", "audio_too_long"
)
MAX_ALIGN_CHARACTERS = _limit(
    "max_align_characters", 16_384, "the `text` of one `align`", "the request is refused", "invalid_params"
)
MAX_BATCH_SIZE = _limit("max_batch_size", 16, "`batch_size` of a stream", "`start_stream` is refused", "invalid_params")
MAX_BATCH_ROWS = _limit("max_batch_rows", 16, "segments that are decoded together", "a segment waits for a free row")
MAX_BATCH_ITEMS = _limit("max_batch_items", 256, "files of one request", "the request is refused", "invalid_params")
MIN_PARTIAL_INTERVAL_MS = _limit(
    "min_partial_interval_ms",
    100,
    "the shortest `partial_interval_ms`",
    "`start_stream` with less is refused",
    "invalid_params",
)
MAX_PARTIAL_INTERVAL_MS = _limit(
    "max_partial_interval_ms",
    60_000,
    "the longest `partial_interval_ms`",
    "`start_stream` is refused",
    "invalid_params",
)
MAX_KEEP_ALIVE_SECONDS = _limit(
    "max_keep_alive_seconds", _DAY, "`keep_alive_seconds` of `start`", "`start` is refused", "invalid_params"
)

# Bounds of single members, part of the schema.
MAX_BATCH_DELAY_MS = 60_000
MAX_ID_CHARACTERS = 128
MAX_UTTERANCE_ID_CHARACTERS = MAX_ID_CHARACTERS + 20  # also those that are made of a stream's name and a number
MAX_MILLISECONDS = _DAY * 1000
MAX_PATH_CHARACTERS = 4096
MAX_TERM_WEIGHT = 4
DEFAULT_TERM_WEIGHT = 1.0
MAX_TRACKS = 99
MIN_STREAM_RATE, MAX_STREAM_RATE = 8_000, 192_000  # Hz
