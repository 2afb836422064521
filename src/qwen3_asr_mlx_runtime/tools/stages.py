"""The stages of the work, with display names."""

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
    """The seconds of each measured stage, in the order of the work."""
    seconds_by_stage = {name: getattr(profile, field) for field, name in STAGES.items()}
    return {name: seconds for name, seconds in seconds_by_stage.items() if seconds is not None}
