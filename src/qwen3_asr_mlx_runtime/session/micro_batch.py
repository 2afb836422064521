"""When the utterances that wait go, and which of them together. Pure: no clock.

One queue holds the utterances of all streams in the order of their boundaries. Those of streams with `auto_flush` go by
themselves, together with all whose options agree; the others wait for a `flush`, or for the boundary that fills their
batch, and the timer only starts their decoding ahead. No step costs more than what it touches.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TypeVar

from qwen3_asr_mlx_runtime.session.spoken import Kind, Spoken

AnyKey = TypeVar("AnyKey")
Ordered = dict[int, Spoken]  # by place: a set that keeps its order


class Batcher:
    """The queue."""

    def __init__(self) -> None:
        self.queued = 0  # utterances that were accepted
        self.unsettled = 0  # utterances without an outcome
        self._places = count(1)
        self._waiting: Ordered = {}
        self._kinds: dict[Kind, Ordered] = {}
        self._accepted: dict[Kind, int] = {}
        self._streams: dict[str, Ordered] = {}
        self._timers: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Spoken]:
        return iter([*self._waiting.values()])

    def __contains__(self, spoken: Spoken) -> bool:
        return spoken.place in self._waiting

    def add(self, spoken: Spoken) -> None:
        """Give an utterance its place at the end."""
        spoken.place = next(self._places)
        self._waiting[spoken.place] = spoken
        self._kinds.setdefault(spoken.kind, {})[spoken.place] = spoken
        self._streams.setdefault(spoken.stream_id, {})[spoken.place] = spoken
        self.unsettled += 1
        heapq.heappush(self._timers, (spoken.due, spoken.place))
        if len(self._timers) > 64 + 2 * len(self._waiting):
            self._timers = [(due, place) for due, place in self._timers if not self._is_over(place)]
            heapq.heapify(self._timers)

    def accept(self, spoken: Spoken) -> None:
        """Count an utterance, if it still waits."""
        if spoken in self:
            self.queued += 1
            self._accepted[spoken.kind] = self._accepted.get(spoken.kind, 0) + 1

    def settle(self, spoken: Spoken) -> None:
        """Take note that an utterance has its outcome."""
        self.unsettled -= spoken in self

    def unsettle(self, spoken: Spoken) -> None:
        """Take note that it has none any more."""
        self.unsettled += spoken in self

    def remove(self, spoken: Spoken) -> None:
        """Take an utterance out, if it is here."""
        if spoken not in self:
            return
        del self._waiting[spoken.place]
        _drop(self._kinds, spoken.kind, spoken)
        _drop(self._streams, spoken.stream_id, spoken)
        self.unsettled -= spoken.outcome is None
        if spoken.is_accepted:
            self.queued -= 1
            self._accepted[spoken.kind] -= 1
        if spoken.kind not in self._kinds:
            self._accepted.pop(spoken.kind, None)

    def group(self, of: Spoken) -> list[Spoken]:
        """All that wait and may go with this one, itself included; none if it has gone."""
        return [*self._kinds[of.kind].values()] if of in self else []

    def of_stream(self, stream_id: str) -> list[Spoken]:
        return [*self._streams.get(stream_id, {}).values()]

    def is_full(self, by: Spoken) -> bool:
        """Whether this utterance makes as many wait as its stream wants in a batch."""
        return by in self and self._accepted.get(by.kind, 0) >= by.stream.batch_size

    def due(self, now: float) -> list[Spoken]:
        """The utterance that has waited longest of each kind, if it has waited long enough. Each is told once."""
        heads: dict[Kind, Spoken] = {}
        while (when := self.deadline) is not None and when <= now:
            spoken = self._waiting[heapq.heappop(self._timers)[1]]
            heads.setdefault(spoken.kind, spoken)
        return [*heads.values()]

    @property
    def deadline(self) -> float | None:
        """When the next utterance will have waited long enough."""
        while self._timers and self._is_over(self._timers[0][1]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def leading(self, members: Iterable[Spoken]) -> list[Spoken]:
        """These, and what waits of the same streams before them and so is to be told before them; in their order."""
        last: dict[str, int] = {}
        for spoken in members:
            last[spoken.stream_id] = max(spoken.place, last.get(spoken.stream_id, 0))
        chosen = [
            spoken for stream_id, place in last.items() for spoken in _until(self._streams.get(stream_id, {}), place)
        ]
        return sorted(chosen, key=lambda spoken: spoken.place)

    def _is_over(self, place: int) -> bool:
        spoken = self._waiting.get(place)
        return spoken is None or spoken.ahead


def _until(ordered: Ordered, place: int) -> Iterator[Spoken]:
    for spoken in ordered.values():
        if spoken.place > place:
            return
        yield spoken


def _drop(table: dict[AnyKey, Ordered], key: AnyKey, spoken: Spoken) -> None:
    del table[key][spoken.place]
    if not table[key]:
        del table[key]
