"""Who is next in the engine: live jobs before others, of which none is forgotten."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from qwen3_asr_mlx_runtime.engines.api import Job

LIVE_IN_A_ROW = 4

Entry = TypeVar("Entry")


class Line(Generic[Entry]):
    """Entries of live jobs and of others, each in the order they came. After LIVE_IN_A_ROW choices of a live one the
    first of the others is chosen."""

    def __init__(self, job_of: Callable[[Entry], Job]) -> None:
        self._job_of = job_of
        self._live: deque[Entry] = deque()
        self._others: deque[Entry] = deque()
        self._live_in_a_row = 0

    def __len__(self) -> int:
        return len(self._live) + len(self._others)

    def __iter__(self) -> Iterator[Entry]:
        return chain(self._live, self._others)

    def append(self, entry: Entry) -> None:
        self._side(entry).append(entry)

    def choose(self) -> Entry:
        """The one whose turn it is, which keeps its place."""
        if not self._live or (self._others and self._live_in_a_row >= LIVE_IN_A_ROW):
            self._live_in_a_row = 0
            return self._others[0]
        self._live_in_a_row += 1
        return self._live[0]

    def remove(self, entry: Entry) -> None:
        self._side(entry).remove(entry)

    def remove_job(self, job_id: int) -> None:
        """Take out all entries of a job."""
        self._live = deque(entry for entry in self._live if self._job_of(entry).id != job_id)
        self._others = deque(entry for entry in self._others if self._job_of(entry).id != job_id)

    def _side(self, entry: Entry) -> deque[Entry]:
        return self._live if self._job_of(entry).live else self._others
