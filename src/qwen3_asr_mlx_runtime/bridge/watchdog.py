"""Detects that the engine is stuck or has ended."""

import faulthandler
import os
import re
from collections.abc import Callable

from qwen3_asr_mlx_runtime.diagnostics import diagnose
from qwen3_asr_mlx_runtime.engines.api import Engine, EngineEnded, Loaded, LoadFailed, Outcome, Unloaded
from qwen3_asr_mlx_runtime.settings import SLOW_ON_A_CPU

LOAD_STALL_SECONDS = 120.0  # of a load, which reports each block, layer and look at a download
SILENT_STAGES = {"start": 900.0, "warmup": 900.0}  # of it: the imports and the first decode report nothing within
STALL_SECONDS = 30.0  # and the length of the audio; without a sign of life for so long it is stuck
SLEPT_SECONDS = 5.0  # the loop looks at least once a second: a longer pause was a sleep, or a stop, of the process
_STACK_BYTES = 16 * 1024
_FOLDER = re.compile(r'"[^"]*/')


class Watchdog:
    """Watches the heartbeats of an engine. Times are of the given clock."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self.progress_at = clock()  # the engine's last progress
        self._engine = engine
        self._clock = clock
        self._heartbeats = engine.heartbeats
        self._load_stage: str | None = None
        self._last_check = clock()

    def check(self) -> None:
        """Record progress. Time in which this process was suspended does not count."""
        now = self._clock()
        slept = now - self._last_check
        if slept > SLEPT_SECONDS:
            self.progress_at += slept
        self._last_check = now
        heartbeats, load_stage = self._engine.heartbeats, self._engine.load_stage
        if heartbeats != self._heartbeats or load_stage != self._load_stage:
            self._heartbeats, self._load_stage, self.progress_at = heartbeats, load_stage, now

    def is_stuck(self, busy_since: float | None, audio_seconds: float) -> bool:
        """`busy_since`: since when the engine has had work, of so long audio; None if it has none."""
        if self._load_stage is not None:
            limit = SILENT_STAGES.get(self._load_stage, LOAD_STALL_SECONDS)
            return self._clock() - self.progress_at > stall_seconds(limit)
        if busy_since is None:
            return False
        return self._clock() - max(self.progress_at, busy_since) > stall_seconds(STALL_SECONDS) + audio_seconds


def stall_seconds(limit: float) -> float:
    """The limit, which tests lower."""
    return float(os.environ.get("QWEN3_ASR_MLX_TEST_STALL_SECONDS") or limit)


def log_outcome(outcome: Outcome) -> None:
    """How a load went, and that the model or the engine is gone, to stderr."""
    if isinstance(outcome, Loaded):
        diagnose(f"model loaded in {outcome.load_seconds:.2f} s")
        if outcome.load_profile.get("quantization") and outcome.load_profile.get("device") == "cpu":
            diagnose(f"quantised weights are {SLOW_ON_A_CPU}")
    elif isinstance(outcome, LoadFailed):
        diagnose(f"loading failed: {outcome.error.code}")
    elif isinstance(outcome, Unloaded):
        diagnose(f"model unloaded: {outcome.freed_bytes / 2**20:.0f} MiB are free")
    elif isinstance(outcome, EngineEnded):
        diagnose(f"the engine has ended: {outcome.reason}")


def log_stacks() -> None:
    """Log the stacks of all threads to stderr: functions and lines, no values, no folders."""
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        os.set_blocking(read_end, False)
        faulthandler.dump_traceback(write_end)
        stacks = os.read(read_end, _STACK_BYTES).decode("ascii", "replace")
    except OSError:
        return
    finally:
        os.close(read_end)
        os.close(write_end)
    for line in stacks.splitlines():
        diagnose(_FOLDER.sub('"', line))
