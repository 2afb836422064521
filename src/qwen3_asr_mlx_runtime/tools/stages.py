"""The stages of the work, by the names that people read."""

from qwen3_asr_mlx_runtime.engines.profile import Profile

STAGES = {
    "feature_extract_seconds": "features",
    "audio_tower_seconds": "audio tower",
    "prompt_assembly_seconds": "prompt",
    "batch_assembly_seconds": "batch assembly",
    "prefill_seconds": "prefill",
    "continuation_seconds": "decoder steps",
}


def stage_seconds(profile: Profile) -> dict[str, float]:
    """Of those that were measured, in the order they come in."""
    told = {name: getattr(profile, field) for field, name in STAGES.items()}
    return {name: seconds for name, seconds in told.items() if seconds is not None}
