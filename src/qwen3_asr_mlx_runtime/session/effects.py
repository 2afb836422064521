"""What the session wants done. It decides; the loop does."""

from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import Request
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError


@dataclass(frozen=True, slots=True)
class ReadAudio:
    """Read a file, or its first segment, off the main thread; AudioRead or AudioFailed comes back."""

    job_id: int
    path: str
    whole: bool


@dataclass(frozen=True, slots=True)
class ReadMore:
    """Read the next segment; AudioRead or AudioFailed comes back."""

    job_id: int


@dataclass(frozen=True, slots=True)
class StopReading:
    """No more segments are wanted. A read that is under way still comes back."""

    job_id: int


@dataclass(frozen=True, slots=True)
class WatchParent:
    """End when this process ends."""

    pid: int


Effect = Request | ReadAudio | ReadMore | StopReading | WatchParent
"""A Request goes to the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioRead:
    """A file, or the next segment of it, was read in `seconds`. `samples`: float32 (N,), mono, 16 kHz. `warnings` are
    complete with the last."""

    job_id: int
    samples: Samples
    warnings: tuple[str, ...]
    seconds: float
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class AudioFailed:
    job_id: int
    error: BridgeError
