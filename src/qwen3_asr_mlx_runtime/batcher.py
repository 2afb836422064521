"""When the utterances that wait go, which of them together, and which batch may be told next. Pure: no clock.

One queue holds the utterances of all streams in the order of their boundaries. Those of streams with `auto_flush` go by
themselves, together with all whose options agree; the others wait for a `flush`, or for the boundary that fills their
batch, and the timer only starts their decoding ahead.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.outbox import Ticket
from qwen3_asr_mlx_runtime.protocol.commands import Boundary, Id, StartStream
from qwen3_asr_mlx_runtime.protocol.replies import Reply
from qwen3_asr_mlx_runtime.protocol.transcripts import Source
from qwen3_asr_mlx_runtime.tasks import Options, Result, Task
from qwen3_asr_mlx_runtime.utterance import Samples

REMEMBERED = 1024  # utterances that were told and are still known by name

Reason = Literal["flush", "batch_size", "delay", "end_of_input"]


@dataclass(slots=True, eq=False)
class Spoken:
    """One utterance of a stream, from its boundary to its outcome.

    `boundary`: the request that waits for its file to be read, and is answered then. `ahead`: its decoding was begun
    or tried, whether or not that was asked for. `samples` are kept until the outcome is told: a `flush` may ask for
    other options than those it was decoded ahead with.
    """

    stream: StartStream
    asked: Boundary
    utterance_id: str
    source: Source
    options: Options
    queued_at: float
    audio_gap: bool = False
    boundary: Ticket | None = None
    samples: Samples | None = None
    sample_count: int | None = None
    task: Task | None = None
    ahead: bool = False
    outcome: Result | None = None
    settled_at: float | None = None

    @property
    def stream_id(self) -> str:
        return self.stream.stream_id

    @property
    def is_read(self) -> bool:
        return self.boundary is None

    @property
    def due(self) -> float:
        return self.queued_at + self.stream.max_batch_delay_ms / 1000

    def goes_with(self, other: "Spoken") -> bool:
        """Whether both may be in one batch."""
        if self.stream.auto_flush != other.stream.auto_flush:
            return False
        return not self.stream.auto_flush or self.options == other.options


@dataclass(slots=True, eq=False)
class Batch:
    """Utterances that are told together: by the reply to `ticket`, or, if that is None, by an event.

    `after`: events that must be out before. `reply` stands in the place of the utterances where none are told.
    `filled_by`: the utterance whose boundary `ticket` is.
    """

    members: list[Spoken]
    reason: Reason
    ticket: Ticket | None = None
    after: "list[Batch]" = field(default_factory=list)
    reply: Reply | None = None
    filled_by: Spoken | None = None
    decoder_mode: str = "sequential"
    load_seconds: float = 0.0

    @property
    def id(self) -> Id | UnsetType | None:
        return UNSET if self.ticket is None else self.ticket.id

    @property
    def streams(self) -> set[str]:
        return {spoken.stream_id for spoken in self.members}


class Batcher:
    """The queue, and the batches that left it and are not told yet."""

    def __init__(self) -> None:
        self.waiting: list[Spoken] = []
        self.batches: list[Batch] = []
        self._told: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)

    @property
    def in_batches(self) -> int:
        return sum(len(batch.members) for batch in self.batches)

    @property
    def queued(self) -> int:
        """Utterances that wait for a batch and whose audio is there."""
        return sum(spoken.is_read for spoken in self.waiting)

    def group(self, of: Spoken) -> list[Spoken]:
        """All that wait and may go with this one, itself included."""
        return [spoken for spoken in self.waiting if spoken.goes_with(of)]

    def is_full(self, by: Spoken) -> bool:
        """Whether this utterance makes as many wait as its stream wants in a batch."""
        return sum(spoken.is_read for spoken in self.group(by)) >= by.stream.batch_size

    def due(self, now: float) -> list[Spoken]:
        """The utterance at the head of each group that has waited long enough."""
        heads: list[Spoken] = []
        for spoken in self.waiting:
            if spoken.due <= now and not spoken.ahead and not any(spoken.goes_with(head) for head in heads):
                heads.append(spoken)
        return heads

    @property
    def deadline(self) -> float | None:
        """When the next utterance will have waited long enough."""
        return min((spoken.due for spoken in self.waiting if not spoken.ahead), default=None)

    def leading(self, members: Iterable[Spoken]) -> list[Spoken]:
        """These, and what waits of the same streams before them and so is to be told before them; in their order."""
        chosen = set(map(id, members))
        last = {spoken.stream_id: place for place, spoken in enumerate(self.waiting) if id(spoken) in chosen}
        return [spoken for place, spoken in enumerate(self.waiting) if place <= last.get(spoken.stream_id, -1)]

    def close(self, batch: Batch) -> Batch:
        """Let a batch leave the queue."""
        gone = set(map(id, batch.members))
        self.waiting = [spoken for spoken in self.waiting if id(spoken) not in gone]
        self.batches.append(batch)
        return batch

    def remove(self, spoken: Spoken) -> None:
        """Forget an utterance that is told otherwise."""
        for members in (self.waiting, *(batch.members for batch in self.batches)):
            if spoken in members:
                members.remove(spoken)

    def tellable(self) -> Batch | None:
        """Take the next batch that may be told: all its outcomes are there, and what must be told before it was."""
        earlier: set[str] = set()
        for batch in self.batches:
            ready = all(spoken.outcome is not None for spoken in batch.members)
            if ready and earlier.isdisjoint(batch.streams) and not any(one in self.batches for one in batch.after):
                self.batches.remove(batch)
                return batch
            earlier |= batch.streams
        return None

    def remember(self, spoken: Spoken) -> None:
        self._told.append((spoken.stream_id, spoken.utterance_id))

    def was_told(self, stream_id: str, utterance_id: str) -> bool:
        """Whether an utterance of this name was told, as far as is remembered."""
        return (stream_id, utterance_id) in self._told

    def find(self, wanted: Callable[[Spoken], bool]) -> list[Spoken]:
        """Utterances that are not told yet, in the order of their boundaries."""
        everything: Iterable[Spoken] = (*(one for batch in self.batches for one in batch.members), *self.waiting)
        return [spoken for spoken in everything if wanted(spoken)]


def in_runs(spoken: Iterable[Spoken]) -> list[list[Spoken]]:
    """Utterances in few batches: each of such as go together, and every stream in its order."""
    runs: list[list[Spoken]] = []
    place: dict[str, int] = {}  # the run that holds the last utterance of each stream
    for one in spoken:
        first = place.get(one.stream_id, 0)
        fitting = (number for number in range(first, len(runs)) if runs[number][0].goes_with(one))
        number = next(fitting, len(runs))
        if number == len(runs):
            runs.append([])
        runs[number].append(one)
        place[one.stream_id] = number
    return runs
