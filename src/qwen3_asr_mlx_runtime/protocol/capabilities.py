"""What this build does, told without loading anything."""

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.errors import error_codes
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.limits import (
    MAX_CHUNK_SECONDS,
    MAX_CONTEXT_CHARACTERS,
    MAX_LINE_BYTES,
    MAX_NEW_TOKENS,
    MAX_OUTPUT_QUEUE_BYTES,
    MAX_READ_AHEAD_BYTES,
    MAX_STREAM_RATE,
    MIN_STREAM_RATE,
)
from qwen3_asr_mlx_runtime.protocol.commands import COMMANDS
from qwen3_asr_mlx_runtime.protocol.replies import AudioInput, CapabilitiesReply, Limits, Rates, Server
from qwen3_asr_mlx_runtime.settings import Settings

SAMPLE_RATE = 16_000  # utterance.SAMPLE_RATE, which a test holds equal: importing it would cost numpy
FEATURES = [
    "clean_text",
    "language",
    "context",
    "finish_reason",
    "error_codes",
    "item_errors",
    "id",
    "ping",
    "status",
    "cancel",
    "timeout_ms",
    "events",
    "progress",
    "auto_flush",
    "inline_pcm16",
    "seq_check",
    "audio_gap",
    "on_limit",
    "restart",
    "stop_modes",
    "parent_pid",
    "batched_decoding",
    "drift_guard",
    "logprobs",
    "resample",
    "partials",
]


def capabilities(settings: Settings) -> CapabilitiesReply:
    return CapabilitiesReply(
        version=__version__,
        server=Server(version=__version__),
        model=settings.model,
        sample_rate=SAMPLE_RATE,
        audio=AudioInput(stream_rates=Rates(minimum=MIN_STREAM_RATE, maximum=MAX_STREAM_RATE)),
        messages=list(COMMANDS),
        features=list(FEATURES),
        error_codes=error_codes(),
        languages=dict(LANGUAGE_CODES),
        limits=limits(settings),
    )


def limits(settings: Settings) -> Limits:
    return Limits(
        max_line_bytes=MAX_LINE_BYTES,
        max_read_ahead_bytes=MAX_READ_AHEAD_BYTES,
        max_output_queue_bytes=MAX_OUTPUT_QUEUE_BYTES,
        max_pending_requests=settings.max_pending_requests,
        max_pending_audio_seconds=settings.max_pending_audio_seconds,
        max_pending_utterances=settings.max_pending_utterances,
        max_streams=settings.max_streams,
        max_utterance_seconds=settings.max_utterance_seconds,
        max_chunk_seconds=MAX_CHUNK_SECONDS,
        max_new_tokens=MAX_NEW_TOKENS,
        max_context_characters=MAX_CONTEXT_CHARACTERS,
        max_audio_seconds=settings.max_audio_seconds,
    )
