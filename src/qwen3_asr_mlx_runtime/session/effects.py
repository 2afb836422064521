"""Effects that the session requests and the loop performs."""

import math
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import Request
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError


@dataclass(frozen=True, slots=True)
class ReadAudio:
    """Read a file, or its first segment, on another thread, which posts AudioRead or AudioFailed. `max_seconds`: the
    limit of this file, besides that of all. `track`: of its audio tracks, from 1."""

    job_id: int
    path: str
    whole: bool
    max_seconds: float = math.inf
    track: int = 1


@dataclass(frozen=True, slots=True)
class ReadMore:
    """Read the next segment; the reader posts AudioRead or AudioFailed."""

    job_id: int


@dataclass(frozen=True, slots=True)
class StopReading:
    """Read no more segments. A running read still posts its result."""

    job_id: int


@dataclass(frozen=True, slots=True)
class WatchParent:
    """End the bridge when this process ends."""

    pid: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Free the memory of the model; the engine posts Unloaded."""


Effect = Request | ReadAudio | ReadMore | StopReading | WatchParent | Unload
"""A Request goes to the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioRead:
    """A file, or the next segment of it, was read in `seconds`. `samples`: float32 (N,), mono, 16 kHz. `warnings` are
    complete with the last. `announced_seconds`: the length of the file by its header, None if that is not known."""

    job_id: int
    samples: Samples
    warnings: tuple[str, ...]
    seconds: float
    is_last: bool = True
    announced_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AudioFailed:
    job_id: int
    error: BridgeError
