"""Time and memory of the work, in the profile fields of the protocol.

Seconds are wall-clock and rounded to 0.1 ms. A value that was not measured is null, never 0.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from typing import Literal

import msgspec

MIB = 1024 * 1024


class ProcessMemory(msgspec.Struct, frozen=True):
    """Resident memory of a process, and what macOS charges it with, null elsewhere."""

    rss_bytes: int | None = None
    footprint_bytes: int | None = None


class Processes(msgspec.Struct, frozen=True):
    """`worker` is null while none runs."""

    bridge: ProcessMemory
    worker: ProcessMemory | None = None


class Memory(msgspec.Struct, frozen=True):
    """Resident memory, now and at its peak; what macOS charges, null elsewhere; and MLX's peak, active and cached
    buffers. Of a bridge, `rss` and `footprint` are the sum of its `process`es, the rest is the worker's; while there is
    none, `rss_peak` is the bridge's."""

    rss_bytes: int | None = None
    rss_mb: float | None = None
    footprint_bytes: int | None = None
    footprint_mb: float | None = None
    rss_peak_bytes: int | None = None
    rss_peak_mb: float | None = None
    mlx_peak_bytes: int | None = None
    mlx_peak_mb: float | None = None
    mlx_active_bytes: int | None = None
    mlx_active_mb: float | None = None
    mlx_cache_bytes: int | None = None
    mlx_cache_mb: float | None = None
    process: Processes | None = None

    @classmethod
    def read(cls) -> "Memory":
        """Of this process, now; MLX's only where it is imported."""
        from qwen3_asr_mlx_runtime import process_memory  # a client reads these types, and needs no psutil

        mx = sys.modules.get("mlx.core")
        return _memory(
            rss=process_memory.rss_bytes(),
            rss_peak=process_memory.rss_peak_bytes(),
            footprint=process_memory.footprint_bytes(),
            mlx_peak=None if mx is None else mx.get_peak_memory(),
            mlx_active=None if mx is None else mx.get_active_memory(),
            mlx_cache=None if mx is None else mx.get_cache_memory(),
        )

    @classmethod
    def of_bridge(cls, worker: "Memory | None", pid: int | None = None) -> "Memory":
        """Of this process and its worker. `worker`: its latest report; with `pid`, its size is read now."""
        from qwen3_asr_mlx_runtime import process_memory

        report = worker or cls()
        bridge = ProcessMemory(process_memory.rss_bytes(), process_memory.footprint_bytes())
        engine = None if worker is None else ProcessMemory(report.rss_bytes, report.footprint_bytes)
        if pid is not None:
            engine = ProcessMemory(process_memory.rss_bytes(pid), process_memory.footprint_bytes(pid))
        known = [each for each in (bridge, engine) if each is not None]
        return _memory(
            rss=_sum(each.rss_bytes for each in known),
            rss_peak=process_memory.rss_peak_bytes() if worker is None else report.rss_peak_bytes,
            footprint=_sum(each.footprint_bytes for each in known),
            mlx_peak=report.mlx_peak_bytes,
            mlx_active=report.mlx_active_bytes,
            mlx_cache=report.mlx_cache_bytes,
            process=Processes(bridge, engine),
        )


def _memory(process: Processes | None = None, **sizes: int | None) -> Memory:
    in_bytes = {f"{name}_bytes": size for name, size in sizes.items()}
    in_mb = {f"{name}_mb": None if size is None else round(size / MIB, 2) for name, size in sizes.items()}
    return msgspec.structs.replace(msgspec.convert(in_bytes | in_mb, Memory), process=process)


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


class QuantizedLayers(msgspec.Struct, frozen=True):
    """The number of layers of one part of the model that have weights of `bits` bits."""

    part: Literal["audio_tower", "decoder", "embedding"]
    bits: int
    group_size: int
    count: int


class Quantization(msgspec.Struct, frozen=True):
    """`bits` and `group_size` are the decoder's; `layers` counts the quantised layers of each part, `full_precision`
    the layers in full precision."""

    bits: int
    group_size: int
    layers: list[QuantizedLayers]
    full_precision: int


class Profile(msgspec.Struct, kw_only=True):
    """Where the time of one utterance, or of one batch, went. Lengths and shapes hold one entry per decoded segment.
    `quantization` is null where weights are in full precision."""

    stage: str
    batch_size: int = 1
    audio_samples: list[int] | None = None
    audio_seconds: float | None = None
    feature_extract_seconds: float | None = None
    prompt_assembly_seconds: float | None = None
    audio_tower_seconds: float | None = None
    batch_assembly_seconds: float | None = None
    prefill_seconds: float | None = None
    continuation_seconds: float | None = None
    decode_seconds: float | None = None
    total_seconds: float | None = None
    audio_feature_lengths: list[int] | None = None
    audio_output_lengths: list[int] | None = None
    input_features_shape: list[int] | None = None
    audio_embeddings_shape: list[int] | None = None
    generated_tokens: list[int] | None = None
    generated_tokens_total: int | None = None
    generated_tokens_per_second: float | None = None
    realtime_factor: float | None = None
    memory: Memory | None = None
    quantization: Quantization | None = None
    prepare: "Profile | None" = None


_SUMMED = (
    "audio_seconds",
    "feature_extract_seconds",
    "prompt_assembly_seconds",
    "audio_tower_seconds",
    "batch_assembly_seconds",
    "prefill_seconds",
    "continuation_seconds",
    "decode_seconds",
    "total_seconds",
)
_JOINED = ("audio_samples", "audio_feature_lengths", "audio_output_lengths", "generated_tokens")


def batch_profile(profiles: Sequence[Profile], stage: str, batch_size: int) -> Profile:
    """Sums over the successful items, with rates, and the memory after the last item."""
    profile = _summed_profile(profiles, stage, batch_size)
    prepared = [each.prepare for each in profiles if each.prepare is not None]
    profile.prepare = _summed_profile(prepared, "prepare", batch_size) if prepared else None
    profile.memory = profiles[-1].memory if profiles else None
    profile.generated_tokens_total = None if profile.generated_tokens is None else sum(profile.generated_tokens)
    profile.generated_tokens_per_second = _ratio(profile.generated_tokens_total, profile.decode_seconds)
    profile.realtime_factor = _ratio(profile.audio_seconds, profile.total_seconds)
    return profile


def _summed_profile(profiles: Sequence[Profile], stage: str, batch_size: int) -> Profile:
    """Seconds added, lists joined in the items' order; shapes are null, as no tensor held the whole batch."""
    profile = Profile(stage=stage, batch_size=batch_size)
    profile.quantization = profiles[-1].quantization if profiles else None
    for name in _SUMMED:
        setattr(profile, name, total(getattr(each, name) for each in profiles))
    for name in _JOINED:
        lists = [values for each in profiles if (values := getattr(each, name)) is not None]
        setattr(profile, name, list(chain.from_iterable(lists)) if lists else None)
    return profile


def total(seconds: Iterable[float | None]) -> float | None:
    """The sum of the measured values; None if there are none."""
    measured = [value for value in seconds if value is not None]
    return round(sum(measured), 4) if measured else None


def _ratio(dividend: float | None, divisor: float | None) -> float | None:
    return round(dividend / divisor, 2) if dividend is not None and divisor else None


def join_profiles(profiles: Sequence[Profile]) -> Profile:
    """The profile of consecutive segments, as if one job had decoded them all."""
    whole = batch_profile(profiles, "transcribe", 1)
    for profile in filter(None, (whole, whole.prepare)):
        profile.audio_samples = None if profile.audio_samples is None else [sum(profile.audio_samples)]
        profile.audio_embeddings_shape = _joined_shape([each.audio_embeddings_shape for each in profiles], axis=0)
        profile.input_features_shape = _joined_shape([each.input_features_shape for each in profiles], axis=2)
    if whole.generated_tokens_total is not None:
        whole.generated_tokens = [whole.generated_tokens_total]
    return whole


def _joined_shape(shapes: Sequence[list[int] | None], axis: int) -> list[int] | None:
    known = [shape for shape in shapes if shape is not None]
    if not known:
        return None
    joined = [*known[0]]
    joined[axis] = sum(shape[axis] for shape in known)
    return joined


@dataclass(slots=True)
class Reuse:
    """How many of the needed results were kept from before: mel frames, seconds of the convolutions, windows of the
    tower, positions of the decoder's cache; and accepted draft tokens, of all tokens."""

    frames: int = 0
    of_frames: int = 0
    seconds: int = 0
    of_seconds: int = 0
    windows: int = 0
    of_windows: int = 0
    positions: int = 0
    of_positions: int = 0
    tokens: int = 0
    of_tokens: int = 0

    def add(self, other: "Reuse") -> None:
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))


class Stopwatch:
    """Adds up the seconds spent in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that were measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def read(self, name: str) -> float | None:
        """The seconds of a stage, or None if it never ran."""
        seconds = self.seconds.get(name)
        return None if seconds is None else round(seconds, 4)

    @property
    def busy(self) -> float:
        """The seconds of all stages, without the time between them."""
        return round(sum(self.seconds.values()), 4)

    @property
    def total(self) -> float:
        return round(time.perf_counter() - self._started, 4)
