"""The jobs that the engine has, and how many more it may get."""

from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.session.transcription import Job, JobKind

# Jobs in the engine keep their order; waiting jobs can still be reordered. One sequential job is decoded at a time, and
# the next ones go through the audio tower together. Batched jobs are decoded together, so they may take all rows. Short
# alignments share a pass.
MAX_JOBS: dict[JobKind, int] = {"sequential": 4, "batched": MAX_BATCH_ROWS, "align": 8, "provisional": 2}
MAX_FILES: dict[JobKind, int] = {
    "sequential": 2,
    "batched": MAX_BATCH_ROWS - 4,
    "align": 4,
    "provisional": 0,
}  # the rest is for streams
MAX_STEP_SECONDS = 30.0  # of audio in one step of a partial, however long the utterance is, or of several alignments


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: JobKind
    is_file: bool
    seconds: float


class EngineSlots:
    """Jobs and partials in the engine, each from its start until its outcome arrives, also after a cancel."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.busy_since: float | None = None  # start of the current work without a pause
        self._clock = clock
        self._jobs: dict[int, _Entry] = {}
        self._partials: dict[int, float] = {}  # seconds of audio
        self._is_alone = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def job_ids(self) -> list[int]:
        """In the order in which they were started."""
        return [*self._jobs]

    @property
    def is_empty(self) -> bool:
        return not self._jobs and not self._partials

    @property
    def partials(self) -> int:
        return len(self._partials)

    @property
    def may_start_partial(self) -> bool:
        """Whether a partial would start at once. One that waits in the engine misses the audio that comes meanwhile."""
        waits = any(not entry.is_file and entry.kind != "align" for entry in self._jobs.values())
        return not self._is_alone and not self._partials and not waits

    @property
    def seconds(self) -> float:
        """The maximal audio that one step may process: of the longest partial or job that is not batched, of all
        batched jobs, or of alignments that share a pass."""
        batched, aligned = self._total("batched"), self._total("align")
        alone = [entry.seconds for entry in self._jobs.values() if entry.kind != "batched"]
        return max([batched, min(aligned, MAX_STEP_SECONDS), *alone, *self._partials.values()])

    def _total(self, kind: JobKind) -> float:
        return sum(entry.seconds for entry in self._jobs.values() if entry.kind == kind)

    def admits(self, job: Job) -> bool:
        """Whether there is room for this one."""
        if self._is_alone:
            return False
        alike = [entry for entry in self._jobs.values() if entry.kind == job.kind]
        if len(alike) >= MAX_JOBS[job.kind]:
            return False
        return job.transcription.stream_id is not None or sum(entry.is_file for entry in alike) < MAX_FILES[job.kind]

    def start(self, job: Job) -> None:
        self._begin()
        self._jobs[job.id] = _Entry(job.kind, job.transcription.stream_id is None, job.seconds)

    def start_partial(self, job_id: int, seconds: float) -> None:
        """`seconds`: of the utterance so far."""
        self._begin()
        self._partials[job_id] = min(seconds, MAX_STEP_SECONDS)

    def has_partial(self, job_id: int) -> bool:
        return job_id in self._partials

    def free(self, job_id: int) -> None:
        self._jobs.pop(job_id, None)
        self._partials.pop(job_id, None)
        if self.is_empty:
            self.busy_since, self._is_alone = None, False

    def keep_alone(self) -> None:
        """Nothing else starts until what is under way has ended."""
        self._is_alone = True

    def clear(self) -> None:
        """The engine has ended, and all its work."""
        self._jobs.clear()
        self._partials.clear()
        self.busy_since, self._is_alone = None, False

    def _begin(self) -> None:
        if self.busy_since is None:
            self.busy_since = self._clock()
