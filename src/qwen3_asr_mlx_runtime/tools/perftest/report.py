"""Passes over files → the performance of a model on this machine."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import msgspec

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.profile import Profile, batch_profile
from qwen3_asr_mlx_runtime.tools.perftest.performance import Item, Pass, Plan
from qwen3_asr_mlx_runtime.tools.score.word_times import References, WordFigures, word_figures

NO_REFERENCES: References = MappingProxyType({})


class Performance(msgspec.Struct, kw_only=True, frozen=True):
    """The object that --json writes. Seconds are wall-clock. `run_seconds`: of the engine for all files, the median of
    `runs` (the lower of two), without `read_seconds` for reading the files; `items` and `profile` belong to that run. A
    real-time factor is seconds of audio for each second of work. `warmup_seconds`: a few tokens of the first file,
    before the first run. `words`, and the time it took to load their aligner, are null without --words.
    `align_seconds`: wall-clock, of the same run."""

    version: str
    model: str
    model_dir: str
    device: str
    decoder_mode: str
    batch_size: int
    max_new_tokens: int
    language: str | None
    quantize: str | None
    files: int
    failed: int
    load_seconds: float
    warmup_seconds: float
    read_seconds: float
    run_seconds: float
    runs: list[float]
    audio_seconds: float | None
    realtime_factor: float | None
    realtime_factor_with_load: float | None
    generated_tokens: int | None
    generated_tokens_per_second: float | None
    load_profile: dict[str, Any]
    profile: Profile
    aligner_load_seconds: float | None
    align_seconds: float | None
    words: WordFigures | None
    items: list[Item]


def report(
    model: str,
    quantize: str | None,
    recognizer: Recognizer,
    plan: Plan,
    before: tuple[float, float],
    passes: list[Pass],
    aligner_load_seconds: float | None = None,
    references: References = NO_REFERENCES,
) -> Performance:
    """`before`: the seconds of load and warm-up. `aligner_load_seconds` is None without words; `references` are the
    words of the manifest."""
    chosen = median(passes)
    profiles = [item.profile for item in chosen.items if item.profile is not None]
    profile = batch_profile(profiles, f"batch_{plan.decoder_mode}", plan.batch_size)
    load, warmed = before
    return Performance(
        version=__version__,
        model=model,
        model_dir=recognizer.model_dir,
        device="gpu" if mx.default_device() == mx.gpu else "cpu",
        decoder_mode=plan.decoder_mode,
        batch_size=plan.batch_size,
        max_new_tokens=plan.max_new_tokens,
        language=plan.language,
        quantize=quantize,
        files=len(chosen.items),
        failed=len(chosen.items) - len(profiles),
        load_seconds=load,
        warmup_seconds=warmed,
        read_seconds=chosen.read_seconds,
        run_seconds=chosen.seconds,
        runs=[run.seconds for run in passes],
        audio_seconds=profile.audio_seconds,
        realtime_factor=_factor(profile, chosen.seconds),
        realtime_factor_with_load=_factor(profile, chosen.seconds + load),
        generated_tokens=profile.generated_tokens_total,
        generated_tokens_per_second=profile.generated_tokens_per_second,
        load_profile=recognizer.load_profile,
        profile=profile,
        aligner_load_seconds=aligner_load_seconds,
        align_seconds=None if aligner_load_seconds is None else chosen.align_seconds,
        words=word_figures(chosen.items, references),
        items=chosen.items,
    )


def median(passes: Sequence[Pass]) -> Pass:
    """The median pass; of an even number, the lower of the two in the middle."""
    return sorted(passes, key=lambda run: run.seconds)[(len(passes) - 1) // 2]


def _factor(profile: Profile, seconds: float) -> float | None:
    return round(profile.audio_seconds / seconds, 2) if profile.audio_seconds is not None and seconds else None
