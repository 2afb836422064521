"""Whose turn it is: the streams one after the other, and before files; but files are not forgotten."""

from collections import Counter, deque
from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.session.tasks import Task

LIVE_BEFORE_A_FILE = 4

Admits = Callable[[Task], bool]


class Turns:
    """Tasks that may be decoded. Within a stream, and among files of one mode, they keep their order.

    A file waits until no stream has a task for which there is room, or until LIVE_BEFORE_A_FILE tasks of streams went
    before it in its mode.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Task]] = {}  # in the order of their turns
        self._files: dict[DecoderMode, deque[Task]] = {"sequential": deque(), "batched": deque()}
        self._here: set[int] = set()  # the ids of all
        self._live_in_a_row: Counter[DecoderMode] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def put(self, task: Task) -> None:
        self._here.add(task.id)
        if task.lane is None:
            self._files[task.options.decoder_mode].append(task)
        else:
            self._lanes.setdefault(task.lane, deque()).append(task)

    def remove(self, task: Task) -> None:
        """Take a task out, if it is here."""
        if task.id not in self._here:
            return
        self._here.remove(task.id)
        if task.lane is None:
            self._files[task.options.decoder_mode].remove(task)
        else:
            self._lanes[task.lane].remove(task)
            if not self._lanes[task.lane]:
                del self._lanes[task.lane]

    def take(self, admits: Admits) -> Task | None:
        """The next task for which there is room. The turn of one for which there is none is kept."""
        task = self._next(admits)
        if task is not None:
            self._here.remove(task.id)
        return task

    def _next(self, admits: Admits) -> Task | None:
        live = next((lane for lane, waiting in self._lanes.items() if admits(waiting[0])), None)
        files = [mode for mode, waiting in self._files.items() if waiting and admits(waiting[0])]
        due = [mode for mode in files if live is None or self._live_in_a_row[mode] >= LIVE_BEFORE_A_FILE]
        if due:
            self._live_in_a_row[due[0]] = 0
            return self._files[due[0]].popleft()
        return None if live is None else self._next_of(live)

    def _next_of(self, lane: str) -> Task:
        waiting = self._lanes.pop(lane)
        task = waiting.popleft()
        if waiting:
            self._lanes[lane] = waiting  # behind the others
        self._live_in_a_row[task.options.decoder_mode] += 1
        return task
