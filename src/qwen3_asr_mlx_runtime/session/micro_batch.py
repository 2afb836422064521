"""The queue of utterances whose decoding has not started, and which of them start together. Pure: no clock.

One queue holds the utterances of all streams in the order of their boundaries. Utterances of streams with `auto_flush`
start by themselves, together with all that have the same options. The others wait for a `flush`, or for the boundary
that fills their batch; the timer only starts their decoding ahead. The cost of an operation depends only on the
utterances involved.
"""

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TypeVar

from qwen3_asr_mlx_runtime.session.transcription import Options, Transcription

AnyKey = TypeVar("AnyKey")
Ordered = dict[int, Transcription]  # by `seq`: a set that keeps its order


class MicroBatch:
    """The queue, indexed by group and by stream."""

    def __init__(self) -> None:
        self.queued = 0  # utterances that were accepted
        self._seqs = count(1)
        self._waiting: Ordered = {}
        self._groups: dict[Options | None, Ordered] = {}
        self._accepted: dict[Options | None, int] = {}
        self._streams: dict[str, Ordered] = {}
        self._timers: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Transcription]:
        return iter([*self._waiting.values()])

    def __contains__(self, transcription: Transcription) -> bool:
        return transcription.utterance.seq in self._waiting

    @property
    def unfinished(self) -> int:
        """Utterances without a result."""
        return sum(transcription.is_unfinished for transcription in self._waiting.values())

    def add(self, transcription: Transcription) -> None:
        """Append an utterance."""
        utterance = transcription.utterance
        utterance.seq = next(self._seqs)
        self._waiting[utterance.seq] = transcription
        self._groups.setdefault(utterance.group_key, {})[utterance.seq] = transcription
        self._streams.setdefault(utterance.stream_id, {})[utterance.seq] = transcription
        heapq.heappush(self._timers, (utterance.due, utterance.seq))
        if len(self._timers) > 64 + 2 * len(self._waiting):
            self._timers = [(due, seq) for due, seq in self._timers if not self._is_over(seq)]
            heapq.heapify(self._timers)

    def accept(self, transcription: Transcription) -> None:
        """Count an accepted utterance, if it still waits."""
        if transcription in self:
            self.queued += 1
            key = transcription.utterance.group_key
            self._accepted[key] = self._accepted.get(key, 0) + 1

    def remove(self, transcription: Transcription) -> None:
        """Remove an utterance, if it is here."""
        if transcription not in self:
            return
        utterance = transcription.utterance
        del self._waiting[utterance.seq]
        _drop(self._groups, utterance.group_key, utterance.seq)
        _drop(self._streams, utterance.stream_id, utterance.seq)
        if utterance.is_accepted:
            self.queued -= 1
            self._accepted[utterance.group_key] -= 1
        if utterance.group_key not in self._groups:
            self._accepted.pop(utterance.group_key, None)

    def group(self, of: Transcription) -> list[Transcription]:
        """All waiting utterances that may start with this one, itself included; none if it no longer waits."""
        return [*self._groups[of.utterance.group_key].values()] if of in self else []

    def of_stream(self, stream_id: str) -> list[Transcription]:
        return [*self._streams.get(stream_id, {}).values()]

    def is_full(self, by: Transcription) -> bool:
        """Whether this utterance fills a batch of its stream's `batch_size`."""
        return by in self and self._accepted.get(by.utterance.group_key, 0) >= by.utterance.stream.batch_size

    def due(self, now: float) -> list[Transcription]:
        """The first utterance of each group whose delay is over. Each is returned once."""
        heads: dict[Options | None, Transcription] = {}
        while (when := self.deadline) is not None and when <= now:
            transcription = self._waiting[heapq.heappop(self._timers)[1]]
            heads.setdefault(transcription.utterance.group_key, transcription)
        return [*heads.values()]

    @property
    def deadline(self) -> float | None:
        """When the delay of the next utterance is over."""
        while self._timers and self._is_over(self._timers[0][1]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def leading(self, members: Iterable[Transcription]) -> list[Transcription]:
        """These, and earlier waiting utterances of the same streams, which must be delivered first; in order."""
        last: dict[str, int] = {}
        for utterance in (member.utterance for member in members):
            last[utterance.stream_id] = max(utterance.seq, last.get(utterance.stream_id, 0))
        chosen = [item for stream_id, seq in last.items() for item in _until(self._streams.get(stream_id, {}), seq)]
        return sorted(chosen, key=lambda item: item.utterance.seq)

    def _is_over(self, seq: int) -> bool:
        transcription = self._waiting.get(seq)
        return transcription is None or transcription.utterance.decode_started


def _until(ordered: Ordered, seq: int) -> Iterator[Transcription]:
    for transcription in ordered.values():
        if transcription.utterance.seq > seq:
            return
        yield transcription


def _drop(table: dict[AnyKey, Ordered], key: AnyKey, seq: int) -> None:
    del table[key][seq]
    if not table[key]:
        del table[key]
