"""The one door between the conversation half and the numeric half: jobs go in, outcomes come back.

The daemon holds an `Engine` and never more of it than this; a fake engine in tests has the same face, and a worker
process could have it too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.transcript import Transcript
from qwen3_asr_mlx_runtime.utterance import Utterance

DecoderMode = Literal["sequential", "batched"]
MAX_ROWS = 16  # segments of batched jobs that are decoded at a time


@dataclass(frozen=True, slots=True)
class Job:
    """One utterance to transcribe. `id` is unique in the process; the outcome carries it back.

    `decoder_mode`: `sequential`, one after the other in the order they came, or `batched`, together with other batched
    jobs. `drift_guard`: what in a batch might have become another text than alone is decoded again, alone. `live`:
    somebody speaks and waits for it, so it goes before jobs that are not, also before the next step of one that has
    begun; these still get one turn in five.
    """

    id: int
    utterance: Utterance
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    live: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready. `load_profile` holds what was loaded and how long each step took, in seconds."""

    model: str
    model_dir: str
    load_seconds: float
    load_profile: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadFailed:
    error: BridgeError


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load has come: a `stage` of `resolve`, `download`, `waiting_for_lock`, `verify`, `load`, `warmup`.

    `done` of `total`, in bytes, where the stage can tell; never less than the stage has told before.
    """

    stage: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    job_id: int
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Failed:
    job_id: int
    error: BridgeError


Outcome = Loaded | LoadFailed | Progress | Finished | Failed
Post = Callable[[Outcome], None]
OnProgress = Callable[[Progress], None]


class Engine(Protocol):
    """What the daemon asks of an engine. Every call returns at once; outcomes come through the `post` the engine was
    made with, on the engine's own thread: any number of Progress during a load, and exactly one other for each `load`
    and each `submit`."""

    @property
    def heartbeats(self) -> int:
        """Grows with every step the engine takes: as long as it does, the engine is not stuck. Read on any thread."""

    def load(self) -> None:
        """Load the model, or report again what is loaded. Loaded or LoadFailed, and nothing else, ends it."""

    def submit(self, job: Job) -> None:
        """Transcribe, after a successful load. Answered by Finished or Failed."""

    def cancel(self, job_id: int) -> None:
        """End a job at its next decoder step, or before it starts: Failed(Cancelled), unless it finished first."""

    def close(self) -> None:
        """Cancel everything and end the engine's thread. Nothing is posted once this has returned and `join` came
        back."""

    def join(self, timeout: float) -> bool:
        """Wait for the engine's thread at most `timeout` seconds; True if it has ended."""
