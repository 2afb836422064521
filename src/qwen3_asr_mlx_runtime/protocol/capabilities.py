"""What this build does. Nothing is loaded for it."""

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.engines.info import ENGINE_FEATURES, EngineInfo, remote_features
from qwen3_asr_mlx_runtime.errors import error_codes
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.limits import LIMITS, MAX_STREAM_RATE, MIN_STREAM_RATE
from qwen3_asr_mlx_runtime.model_name import chosen_aligner
from qwen3_asr_mlx_runtime.packages import has_media
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
    "engine_restart",
    "partials",
    "unload",
    "keep_alive",
    "words",
    "segments",
    "align",
    "changed_from",
    "endpoint_hints",
    "pause",
    "languages",
    "media",
    "file_progress",
    "effort",
    "terms",
    "context_echo",
    "repaired",
    "engine",
]


def capabilities(settings: Settings) -> CapabilitiesReply:
    info = _engine(settings)
    return CapabilitiesReply(
        version=__version__,
        server=Server(version=__version__),
        model=settings.model,
        aligner=settings.aligner if settings.engine else chosen_aligner(settings.aligner, settings.model),
        sample_rate=SAMPLE_RATE,
        audio=AudioInput(stream_rates=Rates(minimum=MIN_STREAM_RATE, maximum=MAX_STREAM_RATE)),
        messages=list(COMMANDS),
        features=features(info),
        error_codes=error_codes(),
        languages=dict(LANGUAGE_CODES),
        limits=limits(settings),
        engine=info,
    )


def features(engine: EngineInfo) -> list[str]:
    """Those of this process with this engine."""
    absent = {*ENGINE_FEATURES} - {*engine.features} | ({"media"} if not has_media() else set())
    return [name for name in FEATURES if name not in absent]


def _engine(settings: Settings) -> EngineInfo:
    """As far as is known without a load."""
    if settings.engine:
        has_aligner = settings.aligner is not None
        known = remote_features(has_aligner=has_aligner, forces_language=False)
        return EngineInfo(kind="remote", exact=False, features=known)
    return EngineInfo(kind="local", model=settings.model, features=[*ENGINE_FEATURES], forced_language="prompt")


def limits(settings: Settings) -> Limits:
    """Those of this process."""
    return Limits(**{name: getattr(settings, name, limit.default) for name, limit in LIMITS.items()})
