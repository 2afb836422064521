"""What this build does, told without loading anything."""

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.protocol.commands import COMMANDS
from qwen3_asr_mlx_runtime.protocol.replies import CapabilitiesReply, Limits
from qwen3_asr_mlx_runtime.settings import MAX_CONTEXT_CHARACTERS, MAX_NEW_TOKENS, Settings
from qwen3_asr_mlx_runtime.wire.reader import MAX_LINE_BYTES

SAMPLE_RATE = 16_000  # utterance.SAMPLE_RATE, which a test holds equal: importing it would cost numpy
FEATURES = ["clean_text", "language", "context", "finish_reason", "error_codes", "item_errors", "id"]


def capabilities(settings: Settings) -> CapabilitiesReply:
    return CapabilitiesReply(
        version=__version__,
        model=settings.model,
        sample_rate=SAMPLE_RATE,
        messages=list(COMMANDS),
        features=list(FEATURES),
        languages=dict(LANGUAGE_CODES),
        limits=Limits(
            max_line_bytes=MAX_LINE_BYTES,
            max_new_tokens=MAX_NEW_TOKENS,
            max_context_characters=MAX_CONTEXT_CHARACTERS,
            max_audio_seconds=settings.max_audio_seconds,
        ),
    )
