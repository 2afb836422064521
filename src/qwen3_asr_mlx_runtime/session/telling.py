"""Batches that left the queue, and which of them may be told: every stream in the order of its boundaries."""

from collections import deque
from collections.abc import Iterator
from itertools import count

from qwen3_asr_mlx_runtime.session.spoken import After, Batch, Spoken

REMEMBERED = 1024  # utterances that were told and are still known by name


class Telling:
    """Batches that are not told yet. Only those are looked at that what happened last can have made ready.

    One that was taken holds back the later ones of its streams until it has left: its reply may still wait for others.
    """

    def __init__(self) -> None:
        self.utterances = 0
        self._places = count(1)
        self._open: dict[int, Batch] = {}
        self._events: dict[int, Batch] = {}
        self._streams: dict[str, deque[Batch]] = {}
        self._batch_of: dict[int, Batch] = {}  # by the place of an utterance
        self._perhaps: deque[Batch] = deque()
        self._held: dict[int, Batch] = {}  # ready, but for the events before them
        self._told: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._open)

    def open(self, batch: Batch) -> None:
        """Take in a batch whose members have left the queue."""
        batch.place = next(self._places)
        batch.missing = sum(spoken.outcome is None for spoken in batch.members)
        self._open[batch.place] = batch
        if batch.ticket is None:
            self._events[batch.place] = batch
        for stream_id in batch.streams:
            self._streams.setdefault(stream_id, deque()).append(batch)
        for spoken in batch.members:
            self._batch_of[spoken.place] = batch
        self.utterances += len(batch.members)
        self._perhaps.append(batch)

    def settle(self, spoken: Spoken) -> None:
        """Take note that an utterance has its outcome."""
        if (batch := self._batch_of.get(spoken.place)) is not None:
            batch.missing -= 1
            self._perhaps.append(batch)

    def unsettle(self, spoken: Spoken) -> None:
        """Take note that it has none any more."""
        if (batch := self._batch_of.get(spoken.place)) is not None:
            batch.missing += 1

    def remove(self, spoken: Spoken) -> None:
        """Take an utterance without an outcome out of its batch, if it is in one."""
        if (batch := self._batch_of.pop(spoken.place, None)) is None:
            return
        batch.members.remove(spoken)
        batch.missing -= 1
        self.utterances -= 1
        if spoken.stream_id not in batch.streams:
            self._leave(batch, spoken.stream_id)
        self._perhaps.append(batch)

    def take(self) -> Batch | None:
        """The next batch that may be told. `leave` it when its line can be overtaken no more."""
        while self._perhaps:
            batch = self._perhaps.popleft()
            if batch.place not in self._open or batch.missing or not self._is_first(batch):
                continue
            if batch.after is not None and self._comes_after(batch, batch.after):
                self._held[batch.place] = batch
                continue
            self._close(batch)
            return batch
        return None

    def leave(self, batch: Batch) -> None:
        for stream_id in batch.streams:
            self._leave(batch, stream_id)

    def events(self, before: Batch, after: After) -> list[Batch]:
        """The events that must be out before this batch."""
        if after.stream_id is None:
            return [event for event in self._events.values() if event.place < before.place]
        mine = self._streams.get(after.stream_id, ())
        return [event for event in mine if event.ticket is None and event.place < before.place]

    def waited_for(self, batch: Batch) -> list[Spoken]:
        """The members of a batch, and those of the events before it."""
        events = [] if batch.after is None else self.events(batch, batch.after)
        return [*batch.members, *(spoken for event in events for spoken in event.members)]

    def of_stream(self, stream_id: str) -> Iterator[Spoken]:
        """Utterances in batches that are not told."""
        for batch in self._streams.get(stream_id, ()):
            if batch.place not in self._open:
                continue
            yield from (spoken for spoken in batch.members if spoken.stream_id == stream_id)

    def remember(self, spoken: Spoken) -> None:
        self._told.append((spoken.stream_id, spoken.utterance_id))

    def was_told(self, stream_id: str, utterance_id: str) -> bool:
        """Whether an utterance of this name was told, as far as is remembered."""
        return (stream_id, utterance_id) in self._told

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def _is_first(self, batch: Batch) -> bool:
        return all(self._streams[stream_id][0] is batch for stream_id in batch.streams)

    def _comes_after(self, batch: Batch, after: After) -> bool:
        if after.stream_id is None:
            first = next(iter(self._events), batch.place)
            return first < batch.place
        return any(
            event.ticket is None and event.place < batch.place for event in self._streams.get(after.stream_id, ())
        )

    def _close(self, batch: Batch) -> None:
        del self._open[batch.place]
        self._events.pop(batch.place, None)
        self._held.pop(batch.place, None)
        self.utterances -= len(batch.members)
        for spoken in batch.members:
            del self._batch_of[spoken.place]
        if batch.ticket is None:
            self._perhaps.extend(self._held.values())

    def _leave(self, batch: Batch, stream_id: str) -> None:
        """A batch speaks of a stream no more: the next one that does may be ready."""
        behind = self._streams[stream_id]
        behind.remove(batch)
        if behind:
            self._perhaps.append(behind[0])
        else:
            del self._streams[stream_id]
