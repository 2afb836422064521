"""What the engine has before it, and what more it may get."""

from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.session.tasks import Task

# What the engine has can change places no more; what waits for it can. One sequential job is decoded, and those behind
# it go through the audio tower together. A batched job is decoded as soon as it is there, so all rows may be taken.
MAX_JOBS: dict[DecoderMode, int] = {"sequential": 4, "batched": MAX_BATCH_ROWS}
MAX_FILES: dict[DecoderMode, int] = {"sequential": 2, "batched": MAX_BATCH_ROWS - 4}  # the rest is for streams
MAX_TICK_SECONDS = 30.0  # of audio that one step of a Listen may have to do with, however long the utterance is


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: DecoderMode
    is_file: bool
    seconds: float


class Occupancy:
    """The jobs of the engine, and the Listens: there until the outcome comes back, also where they were given up."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.busy_since: float | None = None  # since when it has had work without a pause
        self._clock = clock
        self._entries: dict[int, _Entry] = {}
        self._listens: dict[int, float] = {}  # seconds of audio

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task: Task) -> bool:
        return task.id in self._entries

    @property
    def listening(self) -> int:
        return len(self._listens)

    @property
    def may_listen(self) -> bool:
        """Whether a Listen would begin at once: what waits in the engine hears nothing of what is said meanwhile."""
        return not self._listens and all(entry.is_file for entry in self._entries.values())

    @property
    def seconds(self) -> float:
        """The most audio that one step may have to do with: of the longest sequential job or Listen, or of all batched
        jobs."""
        alone = [entry.seconds for entry in self._entries.values() if entry.mode == "sequential"]
        together = sum(entry.seconds for entry in self._entries.values() if entry.mode == "batched")
        return max([together, *alone, *self._listens.values()])

    def admits(self, task: Task) -> bool:
        """Whether there is room for this one."""
        mode = task.options.decoder_mode
        alike = [entry for entry in self._entries.values() if entry.mode == mode]
        if len(alike) >= MAX_JOBS[mode]:
            return False
        return task.lane is not None or sum(entry.is_file for entry in alike) < MAX_FILES[mode]

    def enter(self, task: Task) -> None:
        self._begin()
        self._entries[task.id] = _Entry(task.options.decoder_mode, task.lane is None, task.seconds)

    def listen(self, job_id: int, seconds: float) -> None:
        """A Listen to an utterance that has so many seconds by now."""
        self._begin()
        self._listens[job_id] = min(seconds, MAX_TICK_SECONDS)

    def listens(self, job_id: int) -> bool:
        return job_id in self._listens

    def leave(self, job_id: int) -> None:
        self._entries.pop(job_id, None)
        self._listens.pop(job_id, None)
        if not self._entries and not self._listens:
            self.busy_since = None

    def _begin(self) -> None:
        if self.busy_since is None:
            self.busy_since = self._clock()
