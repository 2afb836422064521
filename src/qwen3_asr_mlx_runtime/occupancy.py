"""What the engine has before it, and what more it may get."""

from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.jobs import MAX_ROWS, DecoderMode
from qwen3_asr_mlx_runtime.tasks import Task

# What the engine has can change places no more; what waits for it can. One sequential job is decoded, and those behind
# it go through the audio tower together. A batched job is decoded as soon as it is there, so all rows may be taken.
MAX_JOBS: dict[DecoderMode, int] = {"sequential": 4, "batched": MAX_ROWS}
MAX_FILES: dict[DecoderMode, int] = {"sequential": 2, "batched": MAX_ROWS - 4}  # the rest is kept free for streams


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: DecoderMode
    is_file: bool
    seconds: float


class Occupancy:
    """The jobs of the engine. One that was given up is there until its outcome comes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.busy_since: float | None = None  # since when it has had work without a pause
        self._clock = clock
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task: Task) -> bool:
        return task.id in self._entries

    @property
    def seconds(self) -> float:
        """The most audio that one step may have to do with: of the longest sequential job, or of all batched ones."""
        alone = [entry.seconds for entry in self._entries.values() if entry.mode == "sequential"]
        together = sum(entry.seconds for entry in self._entries.values() if entry.mode == "batched")
        return max([together, *alone])

    def admits(self, task: Task) -> bool:
        """Whether there is room for this one."""
        mode = task.options.decoder_mode
        alike = [entry for entry in self._entries.values() if entry.mode == mode]
        if len(alike) >= MAX_JOBS[mode]:
            return False
        return task.lane is not None or sum(entry.is_file for entry in alike) < MAX_FILES[mode]

    def enter(self, task: Task) -> None:
        if self.busy_since is None:
            self.busy_since = self._clock()
        self._entries[task.id] = _Entry(task.options.decoder_mode, task.lane is None, task.seconds)

    def leave(self, job_id: int) -> None:
        self._entries.pop(job_id, None)
        if not self._entries:
            self.busy_since = None
