"""Files on their way into memory: which is read next, and which take too long. No thread: others read."""

from collections import Counter, deque
from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.session.tasks import Task

READ_AHEAD = 4  # files that are read at a time
MAX_HELD: dict[DecoderMode, int] = {"sequential": READ_AHEAD, "batched": MAX_BATCH_ROWS + READ_AHEAD}
MAX_HELD_SECONDS = 1200.0  # of audio: with more of it in memory no batch is worth more than READ_AHEAD files
MAX_STUCK = 4  # files whose reading was given up and has not come back
READ_SECONDS = 30.0


class Reading:
    """Those of streams are read first, and wait for no file to be decoded; of the others few are held at a time, from
    the beginning of their reading to their outcome."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unread: dict[DecoderMode | None, deque[Task]] = {None: deque(), "sequential": deque(), "batched": deque()}
        self._began: dict[int, float] = {}
        self._stuck: set[int] = set()
        self._held: dict[int, Task] = {}

    @property
    def unread(self) -> int:
        return sum(task.outcome is None for tasks in self._unread.values() for task in tasks)

    @property
    def reading(self) -> int:
        return len(self._began)

    @property
    def stuck(self) -> int:
        return len(self._stuck)

    @property
    def is_stuck(self) -> bool:
        """Whether so many are that no other is tried."""
        return len(self._stuck) >= MAX_STUCK

    @property
    def deadline(self) -> float | None:
        """When the next reading is to be given up."""
        return min((began + READ_SECONDS for began in self._began.values()), default=None)

    def add(self, task: Task) -> None:
        """A task with a file."""
        self._unread[task.options.decoder_mode if task.lane is None else None].append(task)

    def take(self) -> Task | None:
        """The next one that is to be read now."""
        for mode, tasks in self._unread.items():
            while tasks and tasks[0].outcome is not None:
                tasks.popleft()
            if tasks and len(self._began) < READ_AHEAD and (mode is None or self._has_room(mode)):
                return tasks.popleft()
        return None

    def begin(self, task: Task) -> None:
        self._began[task.id] = self._clock()
        if task.lane is None:
            self._held[task.id] = task

    def end(self, job_id: int) -> None:
        """It was read, or could not be."""
        self._began.pop(job_id, None)
        self._stuck.discard(job_id)
        if job_id in self._held and self._held[job_id].outcome is not None:
            del self._held[job_id]

    def release(self, job_id: int) -> None:
        """Its audio is held no more, unless its thread still reads it."""
        if job_id not in self._began:
            self._held.pop(job_id, None)

    def give_up(self) -> list[int]:
        """Those that were not read in time. Their threads are stuck."""
        now = self._clock()
        late = [job_id for job_id, began in self._began.items() if began + READ_SECONDS <= now]
        for job_id in late:
            del self._began[job_id]
            self._stuck.add(job_id)
        return late

    def _has_room(self, mode: DecoderMode) -> bool:
        held = Counter(task.options.decoder_mode for task in self._held.values())
        seconds = sum(task.seconds for task in self._held.values())
        return held[mode] < (MAX_HELD[mode] if seconds < MAX_HELD_SECONDS else READ_AHEAD)
