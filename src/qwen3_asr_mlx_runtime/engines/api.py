"""The interface between session and engine: jobs go in, outcomes come back.

The daemon holds an `Engine` and never more of it than this; a fake engine in tests has the same face, and a worker
process could have it too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError

DecoderMode = Literal["sequential", "batched"]


@dataclass(frozen=True, slots=True)
class Job:
    """One utterance to transcribe. `id` is unique in the process; the outcome carries it back.

    `decoder_mode`: `sequential`, one after the other in the order they came, or `batched`, together with other batched
    jobs. `drift_guard`: a row whose text may differ from that of `sequential` is decoded again, alone. `interactive`: a
    speaker waits for it, so it goes before jobs that are not, also before the next step of one that has begun; these
    still get one turn in five. `live_id`: the number under which the engine has partials of it, whose text is a draft
    that the final verifies.
    """

    id: int
    utterance: Utterance
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    interactive: bool = False
    live_id: int | None = None

    @property
    def lane(self) -> str | None:
        """Its lane in a FairQueue of the engine."""
        return "interactive" if self.interactive else None


@dataclass(frozen=True, slots=True, eq=False)
class PartialJob:
    """More of an open utterance, of whose text so far a hypothesis is wanted.

    `id` is unique among jobs; the outcome carries it back. `live_id` is the number of the utterance, unique in the
    process; of each no more than one PartialJob waits for its outcome. `samples`: float32 (N,), from the utterance's
    `start`th on: what follows those of the PartialJob before, whatever became of that. `language`, `context` and
    `max_new_tokens` as in Utterance: always the same.
    """

    id: int
    live_id: int
    samples: Samples
    start: int = 0
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0


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
class PartialDone:
    """The hypothesis of a partial job."""

    job_id: int
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Failed:
    job_id: int
    error: BridgeError


Outcome = Loaded | LoadFailed | Progress | Finished | PartialDone | Failed
Post = Callable[[Outcome], None]
OnProgress = Callable[[Progress], None]


class Engine(Protocol):
    """What the daemon asks of an engine. Every call returns at once; outcomes come through the `post` the engine was
    made with, on the engine's own thread: any number of Progress during a load, and exactly one other for each `load`,
    each `submit` and each `partial`."""

    @property
    def heartbeats(self) -> int:
        """Grows with every step the engine takes: as long as it does, the engine is not stuck. Read on any thread."""

    @property
    def is_loading(self) -> bool:
        """Whether the engine reads the model, for the first time or again, which takes no steps and may take long. Read
        on any thread."""

    def load(self) -> None:
        """Load the model, or report again what is loaded. Loaded or LoadFailed, and nothing else, ends it."""

    def submit(self, job: Job) -> None:
        """Transcribe, after a successful load. Answered by Finished or Failed."""

    def partial(self, job: PartialJob) -> None:
        """Compute a hypothesis of an open utterance, after a successful load and when nothing more urgent is to be
        done. Answered by PartialDone or Failed; by Failed(Cancelled) as soon as a job of its `live_id` is submitted, or
        it is forgotten."""

    def forget(self, live_id: int) -> None:
        """Drop an open utterance: no job comes of it."""

    def cancel(self, job_id: int) -> None:
        """End a job or a PartialJob at its next decoder step, or before it starts: Failed(Cancelled), unless it
        finished first."""

    def close(self) -> None:
        """Cancel everything and end the engine's thread. Nothing is posted once this has returned and `join` came
        back."""

    def join(self, timeout: float) -> bool:
        """Wait for the engine's thread at most `timeout` seconds; True if it has ended."""
