"""The jobs that the engine has, and how many more it may get."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
SHARE_SECONDS = 10.0  # over which the share of partials is measured


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: JobKind
    is_file: bool
    seconds: float


class Pace:
    """Holds partials to a share of the time, by a rest behind each. `free_at`: when the next may start."""

    def __init__(self, share: float) -> None:
        self.free_at = float("-inf")
        self._rest = 1 / share - 1  # of each second of work

    def spend(self, ended_at: float, seconds: float) -> None:
        """A partial has ended, after `seconds` of work."""
        self.free_at = ended_at + seconds * self._rest


class _Partial(NamedTuple):
    """`seconds`: of audio in one step. `pace`: of its stream."""

    seconds: float
    pace: Pace


class EngineSlots:
    """Jobs and partials in the engine, each from its start until its outcome arrives, also after a cancel.

    Partials take at most `partial_share` of the engine's time, and of each stream the share of its pace.
    """

    def __init__(self, clock: Callable[[], float], partial_share: float, engines: int = 1) -> None:
        """`engines`: how many decode beside each other, the servers of a remote engine."""
        self.busy_since: float | None = None  # start of the current work without a pause
        self._clock = clock
        self._engines = engines
        self._jobs: dict[int, _Entry] = {}
        self._partials: dict[int, _Partial] = {}
        self._pace = Pace(partial_share)
        self._work: list[tuple[float, float]] | None = None  # the end of each recent partial, and its seconds of work
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

    def partial_free_at(self, pace: Pace) -> float:
        """The earliest time at which a partial of a stream with this pace may start."""
        return max(self._pace.free_at, pace.free_at)

    @property
    def partial_share(self) -> float | None:
        """The share of the last 10 s in which the engine worked on partials; None before the first has ended."""
        if self._work is None:
            return None
        begin = self._clock() - SHARE_SECONDS
        return sum(min(seconds, ended_at - begin) for ended_at, seconds in self._recent) / SHARE_SECONDS

    @property
    def seconds(self) -> float:
        """The maximal audio that one step may process: of the longest partial or job that is not batched, of all
        batched jobs, or of alignments that share a pass."""
        batched, aligned = self._total("batched"), self._total("align")
        alone = [entry.seconds for entry in self._jobs.values() if entry.kind != "batched"]
        partials = [partial.seconds for partial in self._partials.values()]
        return max([batched, min(aligned, MAX_STEP_SECONDS), *alone, *partials])

    def _total(self, kind: JobKind) -> float:
        return sum(entry.seconds for entry in self._jobs.values() if entry.kind == kind)

    def admits(self, job: Job) -> bool:
        """Whether there is room for this one."""
        if self._is_alone:
            return False
        alike = [entry for entry in self._jobs.values() if entry.kind == job.kind]
        if len(alike) >= MAX_JOBS[job.kind] * self._engines:
            return False
        files = sum(entry.is_file for entry in alike)
        return job.transcription.stream_id is not None or files < MAX_FILES[job.kind] * self._engines

    def start(self, job: Job) -> None:
        self._begin()
        self._jobs[job.id] = _Entry(job.kind, job.transcription.stream_id is None, job.seconds)

    def start_partial(self, job_id: int, seconds: float, pace: Pace) -> None:
        """`seconds`: of the utterance so far. `pace`: of its stream."""
        self._begin()
        self._partials[job_id] = _Partial(min(seconds, MAX_STEP_SECONDS), pace)

    def has_partial(self, job_id: int) -> bool:
        return job_id in self._partials

    def free(self, job_id: int) -> None:
        self._jobs.pop(job_id, None)
        self._note_empty()

    def free_partial(self, job_id: int, seconds: float) -> None:
        """`seconds`: of work on it."""
        now, partial = self._clock(), self._partials.pop(job_id)
        for pace in (self._pace, partial.pace):
            pace.spend(now, seconds)
        self._work = [*self._recent, (now, seconds)]
        self._note_empty()

    def keep_alone(self) -> None:
        """Nothing else starts until what is under way has ended."""
        self._is_alone = True

    def clear(self) -> None:
        """The engine has ended, and all its work."""
        self._jobs.clear()
        self._partials.clear()
        self.busy_since, self._is_alone = None, False

    @property
    def _recent(self) -> list[tuple[float, float]]:
        begin = self._clock() - SHARE_SECONDS
        return [each for each in self._work or () if each[0] > begin]

    def _note_empty(self) -> None:
        if self.is_empty:
            self.busy_since, self._is_alone = None, False

    def _begin(self) -> None:
        if self.busy_since is None:
            self.busy_since = self._clock()
