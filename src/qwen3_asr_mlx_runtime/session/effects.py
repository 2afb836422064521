"""What the session wants done. It decides; the loop does."""

from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import Request
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError


@dataclass(frozen=True, slots=True)
class ReadAudio:
    """Read a file off the main thread; AudioRead or AudioFailed comes back."""

    job_id: int
    path: str


@dataclass(frozen=True, slots=True)
class WatchParent:
    """End when this process ends."""

    pid: int


Effect = Request | ReadAudio | WatchParent
"""A Request goes to the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioRead:
    """A file was read in `seconds`. `samples`: float32 (N,), mono, 16 kHz."""

    job_id: int
    samples: Samples
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class AudioFailed:
    job_id: int
    error: BridgeError
