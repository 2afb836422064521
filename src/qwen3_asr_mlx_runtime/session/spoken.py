"""Utterances of streams, and the batches in which they are told."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.protocol.commands import Boundary, Decoding, Id, StartStream
from qwen3_asr_mlx_runtime.protocol.replies import Reply
from qwen3_asr_mlx_runtime.protocol.transcripts import Source
from qwen3_asr_mlx_runtime.session.reply_queue import Ticket
from qwen3_asr_mlx_runtime.session.tasks import Options, Result, Task

Reason = Literal["flush", "batch_size", "delay", "end_of_input"]
Kind = Options | None  # of utterances that may go together: their options, or None where no event tells of them


@dataclass(slots=True, eq=False)
class Spoken:
    """One utterance of a stream, from its boundary to its outcome.

    `boundary`: the request that is to be answered when it is accepted. `ahead`: its decoding was begun or tried,
    whether or not that was asked for. `samples` are kept until the outcome is told: a `flush` may ask for other options
    than those it was decoded ahead with. `sample_count` is None until the audio is there. `speech`: the number under
    which the engine has listened to it, None if it has not. `place`: among all others.
    """

    stream: StartStream
    asked: Boundary
    utterance_id: str
    source: Source
    options: Options
    queued_at: float
    audio_gap: bool = False
    speech: int | None = None
    boundary: Ticket | None = None
    samples: Samples | None = None
    sample_count: int | None = None
    task: Task | None = None
    ahead: bool = False
    outcome: Result | None = None
    settled_at: float | None = None
    place: int = 0
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        self.kind = self.options if self.stream.auto_flush else None

    @property
    def stream_id(self) -> str:
        return self.stream.stream_id

    @property
    def is_read(self) -> bool:
        return self.sample_count is not None

    @property
    def is_accepted(self) -> bool:
        return self.boundary is None

    @property
    def said_for_its_batch(self) -> Decoding:
        """What its boundary says to all in the batch that it fills."""
        asked = self.asked
        return Decoding(
            max_new_tokens=asked.max_new_tokens, decoder_mode=asked.decoder_mode, drift_guard=asked.drift_guard
        )

    @property
    def due(self) -> float:
        return self.queued_at + self.stream.max_batch_delay_ms / 1000


@dataclass(slots=True, eq=False)
class Batch:
    """Utterances that are told together: by the reply to `ticket`, or, if that is None, by an event.

    `after`: events that must be out before, all (`every`) or those of one stream. `reply` stands in the place of the
    utterances where none are told. `filled_by`: the utterance whose boundary `ticket` is. `decoder_mode`: the one that
    the request asked for. `place`: among all batches.
    """

    members: list[Spoken]
    reason: Reason
    ticket: Ticket | None = None
    after: "After | None" = None
    reply: Reply | None = None
    filled_by: Spoken | None = None
    decoder_mode: str | None = None
    load_seconds: float = 0.0
    place: int = 0
    missing: int = 0  # outcomes

    @property
    def id(self) -> Id | UnsetType | None:
        return UNSET if self.ticket is None else self.ticket.id

    @property
    def streams(self) -> set[str]:
        return {spoken.stream_id for spoken in self.members}


@dataclass(frozen=True, slots=True)
class After:
    """The events of one stream, or of all (None)."""

    stream_id: str | None


def in_runs(spoken: Iterable[Spoken]) -> list[list[Spoken]]:
    """Utterances in few batches: each of such as go together, and every stream in its order."""
    runs: list[list[Spoken]] = []
    fitting: dict[Kind, list[int]] = {}  # the runs of each kind
    last: dict[str, int] = {}  # the run that holds the last utterance of each stream
    for one in spoken:
        first = last.get(one.stream_id, 0)
        numbers = fitting.setdefault(one.kind, [])
        number = next((number for number in numbers if number >= first), len(runs))
        if number == len(runs):
            runs.append([])
            numbers.append(number)
        runs[number].append(one)
        last[one.stream_id] = number
    return runs
