"""The replies to `ping` and `status`. A member of `status` gets its value here, from the parts of the session."""

import platform
from functools import cache
from importlib import metadata

import msgspec

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.protocol.capabilities import limits
from qwen3_asr_mlx_runtime.protocol.replies import Counters, Pong, Queues, StatusReply, Versions
from qwen3_asr_mlx_runtime.session.session_state import SessionState


def pong(state: SessionState) -> Pong:
    busy_ms, progress_ms = _busy(state)
    return Pong(uptime_s=_uptime(state), state=state.state, busy_ms=busy_ms, last_progress_ms_ago=progress_ms)


def status(state: SessionState) -> StatusReply:
    health = state.health
    busy_ms, progress_ms = _busy(state)
    memory = Memory.of_bridge(health.worker_memory(), health.worker_pid())
    share = state.scheduler.slots.partial_share
    return StatusReply(
        state=state.state,
        uptime_s=_uptime(state),
        busy_ms=busy_ms,
        last_progress_ms_ago=progress_ms,
        timer_lag_ms=round(health.timer_lag * 1000, 1),
        partial_line_bytes=health.partial_line_bytes(),
        streams=len(state.streams.registry),
        queues=_queues(state),
        counters=_counters(state),
        rss_bytes=memory.rss_bytes,
        memory=memory,
        limits=limits(state.settings),
        versions=_versions(),
        engine_restarts=state.recovery.restarts,
        engine_last_end=state.recovery.last_reason,
        partial_share=None if share is None else round(share, 4),
    )


def _uptime(state: SessionState) -> float:
    return round(state.clock() - state.health.started_at, 3)


def _busy(state: SessionState) -> tuple[int | None, int | None]:
    now, busy_since = state.clock(), state.scheduler.slots.busy_since
    if busy_since is None:
        return None, None
    return _milliseconds(now - busy_since), _milliseconds(now - max(state.health.progress_at, busy_since))


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _queues(state: SessionState) -> Queues:
    scheduler = state.scheduler
    return Queues(
        requests=state.replies.unanswered,
        utterances_waiting=len(state.utterances.waiting),
        utterances_in_batches=state.utterances.delivery.utterances,
        files_unread=scheduler.files.unread,
        files_reading=scheduler.files.reading,
        files_stuck=scheduler.files.stuck,
        ready=scheduler.ready,
        decoding=len(scheduler.slots),
        listening=scheduler.slots.partials,
        pending_audio_seconds=state.budget.seconds,
    )


def _counters(state: SessionState) -> Counters:
    counters = state.replies.counters
    return msgspec.structs.replace(
        counters,
        transcripts=state.scheduler.transcripts,
        audio_seconds=round(state.scheduler.audio_seconds, 3),
        chunks=state.streams.registry.chunks,
        errors=dict(counters.errors),
    )


@cache
def _versions() -> Versions:
    try:
        mlx = metadata.version("mlx")
    except metadata.PackageNotFoundError:
        mlx = None
    return Versions(runtime=__version__, python=platform.python_version(), mlx=mlx)
