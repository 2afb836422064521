"""What the session wants done. It decides; the loop does."""

from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import Job, PartialJob
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.errors import BridgeError


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Ask the engine to load; Loaded or LoadFailed comes back."""


@dataclass(frozen=True, slots=True)
class ReadAudio:
    """Read a file off the main thread; AudioRead or AudioFailed comes back."""

    job_id: int
    path: str


@dataclass(frozen=True, slots=True)
class Submit:
    """Give the engine a job; Finished or Failed comes back."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """Have the engine end a job; its outcome comes back all the same."""

    job_id: int


@dataclass(frozen=True, slots=True)
class StartPartial:
    """Have the engine compute a partial; PartialDone or Failed comes back."""

    job: PartialJob


@dataclass(frozen=True, slots=True)
class Forget:
    """The engine drops what it keeps of an open utterance: no job comes of it."""

    live_id: int


@dataclass(frozen=True, slots=True)
class WatchParent:
    """End when this process ends."""

    pid: int


Effect = LoadModel | ReadAudio | Submit | Cancel | StartPartial | Forget | WatchParent


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
