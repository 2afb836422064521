"""Chooses the next entry: streams take turns and go before files, and every file gets its turn."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

INTERACTIVE_IN_A_ROW = 4

Entry = TypeVar("Entry", bound=Hashable)


def _always(_: object) -> bool:
    return True


class FairQueue(Generic[Entry]):
    """Entries in order of arrival within their lane.

    `lane`: the stream of an entry, None for a file. `kind` separates entries that do not compete: a file waits until no
    lane has an entry for which there is room, or until INTERACTIVE_IN_A_ROW entries of its kind went before it.
    """

    def __init__(self, lane: Callable[[Entry], str | None], kind: Callable[[Entry], Hashable] = _always) -> None:
        self._lane_of = lane
        self._kind_of = kind
        self._lanes: dict[str, dict[Entry, None]] = {}  # in the order of their turns
        self._files: dict[Hashable, dict[Entry, None]] = {}
        self._in_a_row: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return sum(map(len, chain(self._lanes.values(), self._files.values())))

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable([*self._lanes.values(), *self._files.values()])

    def append(self, entry: Entry) -> None:
        lane = self._lane_of(entry)
        if lane is None:
            self._files.setdefault(self._kind_of(entry), {})[entry] = None
        else:
            self._lanes.setdefault(lane, {})[entry] = None

    def remove(self, entry: Entry) -> None:
        """Remove an entry, if it is here."""
        lane = self._lane_of(entry)
        if lane is None:
            self._files.get(self._kind_of(entry), {}).pop(entry, None)
        elif lane in self._lanes:
            self._lanes[lane].pop(entry, None)
            if not self._lanes[lane]:
                del self._lanes[lane]

    def choose(self, admits: Callable[[Entry], bool] = _always) -> Entry | None:
        """The next entry for which there is room; it stays here until it is removed."""
        lane = next((lane for lane, entries in self._lanes.items() if admits(next(iter(entries)))), None)
        files = [kind for kind, entries in self._files.items() if entries and admits(next(iter(entries)))]
        due = [kind for kind in files if lane is None or self._in_a_row[kind] >= INTERACTIVE_IN_A_ROW]
        if due:
            self._in_a_row[due[0]] = 0
            return next(iter(self._files[due[0]]))
        if lane is None:
            return None
        entries = self._lanes[lane] = self._lanes.pop(lane)  # its next turn comes after the others
        entry = next(iter(entries))
        self._in_a_row[self._kind_of(entry)] += 1
        return entry

    def take(self, admits: Callable[[Entry], bool] = _always) -> Entry | None:
        """Remove and return the next entry for which there is room. An entry without room keeps its turn."""
        entry = self.choose(admits)
        if entry is not None:
            self.remove(entry)
        return entry
