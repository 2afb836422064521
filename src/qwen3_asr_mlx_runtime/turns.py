"""Whose turn it is: the streams one after the other, and before files; but files are not forgotten."""

from collections import deque

from qwen3_asr_mlx_runtime.tasks import Task

LIVE_BEFORE_A_FILE = 4


class Turns:
    """Tasks that may be decoded. Within a stream, and among files, they keep their order.

    A file waits until no stream has a task, or until LIVE_BEFORE_A_FILE tasks of streams went before it.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Task]] = {}  # in the order of their turns
        self._files: deque[Task] = deque()
        self._here: set[int] = set()  # the ids of all
        self._live_in_a_row = 0

    def __len__(self) -> int:
        return len(self._here)

    @property
    def files(self) -> int:
        return len(self._files)

    def put(self, task: Task) -> None:
        self._here.add(task.id)
        if task.lane is None:
            self._files.append(task)
        else:
            self._lanes.setdefault(task.lane, deque()).append(task)

    def remove(self, task: Task) -> None:
        """Take a task out, if it is here."""
        if task.id in self._here:
            self._here.remove(task.id)
            (self._files if task.lane is None else self._lanes[task.lane]).remove(task)
            self._forget_if_empty(task.lane)

    def take(self) -> Task | None:
        task = self._next()
        if task is not None:
            self._here.remove(task.id)
        return task

    def _next(self) -> Task | None:
        if self._lanes and not (self._files and self._live_in_a_row >= LIVE_BEFORE_A_FILE):
            self._live_in_a_row += 1
            return self._next_live()
        self._live_in_a_row = 0
        return self._files.popleft() if self._files else None

    def _next_live(self) -> Task:
        lane = next(iter(self._lanes))
        waiting = self._lanes.pop(lane)
        task = waiting.popleft()
        if waiting:
            self._lanes[lane] = waiting  # behind the others
        return task

    def _forget_if_empty(self, lane: str | None) -> None:
        if lane is not None and not self._lanes[lane]:
            del self._lanes[lane]
