"""The state of the process, for `ping` and `status`."""

import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.protocol.replies import Counters, Limits, Pong, Queues, State, StatusReply, Versions
from qwen3_asr_mlx_runtime.session.model_state import Recovery


@dataclass(slots=True)
class ProcessHealth:
    """Facts that only the loop around the session knows. Times are of its clock, in seconds.

    `progress_at`: the engine's last progress. `timer_lag`: how late the last timer was.
    """

    started_at: float
    progress_at: float
    timer_lag: float = 0.0
    partial_line_bytes: Callable[[], int] = int
    session: str | None = None
    pid: int | None = None
    worker_memory: Callable[[], Memory | None] = lambda: None
    worker_pid: Callable[[], int | None] = lambda: None

    @contextmanager
    def timed(self, seconds: float) -> Iterator[None]:
        """Wraps a wait for a timer due in `seconds`; measures how late it was, unless the wait ended early."""
        due = running_in_sleep() + seconds
        try:
            yield
        finally:
            lag = running_in_sleep() - due
            if lag >= 0:
                self.timer_lag = lag


def running_in_sleep() -> float:
    """Seconds of a clock that runs while the machine sleeps, unlike `time.monotonic`."""
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)
    else:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def pong(health: ProcessHealth, now: float, state: State, busy_since: float | None) -> Pong:
    busy_ms, progress_ms = _busy(health, now, busy_since)
    return Pong(
        uptime_s=round(now - health.started_at, 3), state=state, busy_ms=busy_ms, last_progress_ms_ago=progress_ms
    )


def status(
    health: ProcessHealth,
    now: float,
    state: State,
    busy_since: float | None,
    *,
    streams: int,
    queues: Queues,
    counters: Counters,
    limits: Limits,
    recovery: Recovery,
) -> StatusReply:
    busy_ms, progress_ms = _busy(health, now, busy_since)
    memory = Memory.of_bridge(health.worker_memory(), health.worker_pid())
    return StatusReply(
        state=state,
        uptime_s=round(now - health.started_at, 3),
        busy_ms=busy_ms,
        last_progress_ms_ago=progress_ms,
        timer_lag_ms=round(health.timer_lag * 1000, 1),
        partial_line_bytes=health.partial_line_bytes(),
        streams=streams,
        queues=queues,
        counters=counters,
        rss_bytes=memory.rss_bytes,
        memory=memory,
        limits=limits,
        versions=_versions(),
        engine_restarts=recovery.restarts,
        engine_last_end=recovery.last_reason,
    )


def _busy(health: ProcessHealth, now: float, busy_since: float | None) -> tuple[int | None, int | None]:
    if busy_since is None:
        return None, None
    return _milliseconds(now - busy_since), _milliseconds(now - max(health.progress_at, busy_since))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


@cache
def _versions() -> Versions:
    try:
        mlx = metadata.version("mlx")
    except metadata.PackageNotFoundError:
        mlx = None
    return Versions(runtime=__version__, python=platform.python_version(), mlx=mlx)
