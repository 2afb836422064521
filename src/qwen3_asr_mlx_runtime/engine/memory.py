"""The engine's share of the machine's memory: the only module that sets MLX's limits and decides what fits.

A job is estimated before it begins. On a CPU a failed allocation ends the process, and on a machine whose GPU shares
the memory an allocation that succeeds may push other processes into swap.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.engine import control_groups
from qwen3_asr_mlx_runtime.engine.job_memory import JobMemory
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.model.config import ModelConfig

MIB = 1024 * 1024
_GPU_CACHE = 512 * MIB
_CPU_CACHE = 32 * MIB  # MLX's own default: the C library keeps freed memory as well
_SHARE_FOR_CACHE = 16  # of a small machine's limit
_CPU_SHARE = 0.8
_CUDA_SHARE = 0.95
_SEGMENT_SAMPLES = 30 * SAMPLE_RATE


class MemoryLimits(NamedTuple):
    """The limits of the process; None chooses by the machine."""

    limit_bytes: int | None = None
    cache_limit_bytes: int | None = None
    wired_limit_bytes: int = 0


class Governor:
    """Created when the model is loaded, on the thread that owns MLX. Its limits hold for the process. `config`: None
    where no recogniser is loaded, only an aligner.

    `limit_bytes` bounds MLX's buffers, weights included; None takes the machine's recommendation. MLX does not enforce
    it, and only waits for running work when it is exceeded; `admit` rejects jobs. `cache_limit_bytes` bounds the
    freed buffers that MLX keeps; None is 512 MiB on a GPU, 32 MiB on a CPU, and at most a sixteenth of the limit.
    `wired_limit_bytes` is memory that macOS may not page out; 0, the default, wires nothing.
    """

    def __init__(
        self,
        config: ModelConfig | None,
        weight_bytes: int,
        *,
        limit_bytes: int | None,
        cache_limit_bytes: int | None,
        wired_limit_bytes: int = 0,
        dtype: mx.Dtype = mx.float32,
    ) -> None:
        self.limit_bytes = machine_limit() if limit_bytes is None else limit_bytes
        self.cache_limit_bytes = _cache_limit(self.limit_bytes) if cache_limit_bytes is None else cache_limit_bytes
        self._weight_bytes = weight_bytes
        self._jobs = None if config is None else JobMemory(config, dtype.size)
        self._trimming = process_memory.Trimming()
        self.evict: Callable[[], None] = lambda: None  # evicts what can be computed again
        self.evict_aligner: Callable[[], None] = lambda: None
        self.aligner_bytes = 0  # of its weights, while it is loaded
        mx.set_memory_limit(self.limit_bytes)
        mx.set_cache_limit(self.cache_limit_bytes)
        if mx.metal.is_available():
            mx.set_wired_limit(min(wired_limit_bytes, _recommended_working_set()))

    @property
    def _job_memory(self) -> JobMemory:
        if self._jobs is None:
            raise ValueError("no recogniser is loaded")
        return self._jobs

    @staticmethod
    def check_model(weight_bytes: int, limit_bytes: int | None = None) -> None:
        """Raise OutOfMemory if weights of so many bytes leave no room. Call it before they are read."""
        limit = machine_limit() if limit_bytes is None else limit_bytes
        _require("the model needs more memory than it may have", weight_bytes, limit)
        _require_available(weight_bytes)

    def admit(self, samples: int, positions: int, rows: int = 1) -> None:
        """Raise OutOfMemory unless a job fits beside what MLX holds now.

        `samples`: all that go through the tower at once. `positions`: keys and values reserved for each of `rows`.
        """
        wanted = self.estimate(samples, positions, rows)
        for evict in (self.evict, self.evict_aligner):
            try:
                return self.reserve(wanted)
            except OutOfMemory:
                evict()
        return self.reserve(wanted)

    def reserve(self, wanted: int, what: str = "the audio") -> None:
        """Raise OutOfMemory unless so many bytes fit beside what MLX holds now. Evicts nothing."""
        _require(f"{what} needs more memory than is left", self._held + wanted, self.limit_bytes)
        _require_available(wanted)

    @property
    def _held(self) -> int:
        return max(mx.get_active_memory(), self._weight_bytes)

    def estimate(self, samples: int, positions: int, rows: int = 1) -> int:
        """The peak bytes of a job beside the weights: an upper bound, not tight."""
        return self._job_memory.job(samples, positions, rows)

    @property
    def streaming_bytes(self) -> int:
        """The limit for the caches of open utterances: an eighth of the memory that the weights leave."""
        return (self.limit_bytes - self._weight_bytes - self.aligner_bytes) // 8

    def rows(self, capacity: int) -> int:
        """How many rows of `capacity` positions can be decoded together: 1 at least, MAX_BATCH_ROWS at most."""
        segment = self.estimate(_SEGMENT_SAMPLES, capacity)
        free = self.limit_bytes - self._weight_bytes - self.aligner_bytes - segment
        return max(1, min(MAX_BATCH_ROWS, 1 + free // self._row_bytes(capacity)))

    def has_room(self, rows: int, capacity: int) -> bool:
        """Whether so many rows of `capacity` positions can be decoded together, with the memory available now."""
        available = _available_on_cpu()
        fits = available is None or rows * self._row_bytes(capacity) <= available
        return fits and rows <= self.rows(capacity)

    def _row_bytes(self, capacity: int) -> int:
        copied = 2 * self._job_memory.row(capacity)  # rows that join or leave are copied
        return copied + self._job_memory.logits()

    def after_job(self) -> None:
        """Call after every job: release MLX's cache if it is more than half full, and the C library's free memory if
        the process has grown."""
        if mx.get_cache_memory() > self.cache_limit_bytes // 2:
            mx.clear_cache()
        self._trimming.after_growth()

    def on_idle(self) -> None:
        """Call when no job waits: release all cached memory."""
        mx.clear_cache()
        self._trimming.now()


def machine_limit() -> int:
    """The limit of MLX's buffers: on Metal the recommended working set, on CUDA nearly all of the card, on a CPU four
    fifths of the memory of the machine or the container."""
    if mx.metal.is_available():
        return _recommended_working_set()
    if mx.default_device() != mx.cpu:
        return int(_CUDA_SHARE * int(mx.device_info()["total_memory"]))
    everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(_CPU_SHARE * min(everything, control_groups.memory_limit() or everything))


def _require(message: str, needed: int, limit: int) -> None:
    if needed > limit:
        text = f"{message}: {-(-needed // MIB)} MiB of {limit // MIB}"
        raise OutOfMemory(text, needed_bytes=needed, limit_bytes=limit)


def _require_available(wanted: int) -> None:
    """Raise OutOfMemory if the machine lacks the memory, which would end the process on a CPU. Not checked on Metal:
    macOS compresses memory in use, so the available amount means little."""
    available = _available_on_cpu()
    if available is not None:
        _require("the machine has too little memory left", wanted, available)


def _available_on_cpu() -> int | None:
    available = _available() if mx.default_device() == mx.cpu else None
    return None if available is None else available + mx.get_cache_memory()


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _recommended_working_set() -> int:
    return int(mx.device_info()["max_recommended_working_set_size"])


def _cache_limit(limit_bytes: int) -> int:
    maximum = _CPU_CACHE if mx.default_device() == mx.cpu else _GPU_CACHE
    return min(maximum, limit_bytes // _SHARE_FOR_CACHE)
