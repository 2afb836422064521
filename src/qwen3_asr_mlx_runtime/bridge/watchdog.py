"""Detects that the engine is stuck or has ended."""

import faulthandler
import os
import re
from collections.abc import Callable

from qwen3_asr_mlx_runtime.bridge.stdio import diagnose
from qwen3_asr_mlx_runtime.engines.api import Engine, Failed, Loaded, LoadFailed, Outcome
from qwen3_asr_mlx_runtime.errors import EngineError, EngineLost, EngineStalled, EngineUnavailable
from qwen3_asr_mlx_runtime.settings import SLOW_ON_A_CPU

STALL_SECONDS = 30.0  # plus the length of the audio; without a heartbeat for so long the engine is stuck
SLEPT_SECONDS = 5.0  # the loop checks every second: after a longer pause the process was suspended
_STACK_BYTES = 16 * 1024
_FOLDER = re.compile(r'"[^"]*/')


class Watchdog:
    """Watches the heartbeats of an engine. Times are of the given clock."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self.progress_at = clock()  # the engine's last progress
        self._engine = engine
        self._clock = clock
        self._heartbeats = engine.heartbeats
        self._last_check = clock()

    def check(self) -> None:
        """Record progress. Time in which the process was suspended or the model loads does not count."""
        now = self._clock()
        slept = now - self._last_check
        if slept > SLEPT_SECONDS:
            self.progress_at += slept
        self._last_check = now
        heartbeats = self._engine.heartbeats
        if self._engine.is_loading or heartbeats != self._heartbeats:
            self._heartbeats, self.progress_at = heartbeats, now

    def trouble(self, busy_since: float | None, audio_seconds: float) -> EngineError | None:
        """The engine's failure, if any. `busy_since`: start of its current work, of `audio_seconds`; None if idle."""
        if self._engine.join(0.0):
            return EngineUnavailable("the engine has ended")
        if busy_since is None:
            return None
        idle = self._clock() - max(self.progress_at, busy_since)
        if idle <= STALL_SECONDS + audio_seconds:
            return None
        return EngineStalled(f"the engine has not moved for {idle:.0f} seconds", seconds=round(idle))


def loss_of_engine(outcome: Outcome) -> EngineLost | None:
    """The EngineLost of an outcome, after which the engine cannot compute any more."""
    error = outcome.error if isinstance(outcome, Failed | LoadFailed) else None
    return error if isinstance(error, EngineLost) else None


def log_load(outcome: Outcome) -> None:
    """Log the result of a load to stderr."""
    if isinstance(outcome, Loaded):
        diagnose(f"model loaded in {outcome.load_seconds:.2f} s")
        if outcome.load_profile.get("quantization") and outcome.load_profile.get("device") == "cpu":
            diagnose(f"quantised weights are {SLOW_ON_A_CPU}")
    elif isinstance(outcome, LoadFailed):
        diagnose(f"loading failed: {outcome.error.code}")


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
