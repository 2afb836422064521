"""Results in the order of boundaries, each as soon as it is ready, and which of them share a line.

Results are sent as events, or in one reply that holds them all, as in the first protocol. Such a reply waits for all
its members and their words, and for the events before them. Words follow the event of their utterance.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal, NamedTuple

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Reply
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest
from qwen3_asr_mlx_runtime.session.transcription import Options, State, Transcription

Reason = Literal["flush", "batch_size", "delay", "pause", "end_of_input"]

REMEMBERED = 1024  # delivered utterances that are still known by name


@dataclass(frozen=True, slots=True)
class DeliverAfter:
    """The events of one stream, or of all (None). `words`: also the words that follow them."""

    stream_id: str | None
    words: bool = False


@dataclass(slots=True, eq=False)
class Group:
    """Utterances whose decoding starts together and that are not delivered.

    They are sent in the reply to `request`, or, if that is None, in events. `after`: events that must be sent before
    the reply. `reply` replaces the results if the request wants none. `filled_by`: the utterance whose boundary
    `request` is. `decoder_mode`: as requested. `seq`: its number in the order of groups.
    """

    members: list[Transcription]
    reason: Reason
    request: PendingRequest | None = None
    after: DeliverAfter | None = None
    reply: Reply | None = None
    filled_by: Transcription | None = None
    decoder_mode: str | None = None
    load_seconds: float = 0.0
    seq: int = 0

    @property
    def id(self) -> Id | UnsetType | None:
        return UNSET if self.request is None else self.request.id

    @property
    def streams(self) -> list[str]:
        return [*dict.fromkeys(member.utterance.stream_id for member in self.members)]

    def leading_done(self, stream_id: str) -> list[Transcription]:
        """The finished members of a stream before its first unfinished one."""
        mine = (member for member in self.members if member.utterance.stream_id == stream_id)
        return [*takewhile(_is_done, mine)]


class Delivered(NamedTuple):
    """The results of one line: all of a group with a request, or the ready ones of a group without."""

    group: Group
    members: list[Transcription]


class Delivery:
    """Groups whose results are not all delivered. Only groups that the last change may have made ready are checked.

    A reply holds back the later results of its streams until it is sent: it may still wait for other replies.
    """

    def __init__(self) -> None:
        self._seqs = count(1)
        self._open: dict[int, Group] = {}
        self._events: dict[int, Group] = {}
        self._streams: dict[str, deque[Group]] = {}
        self._group_of: dict[Transcription, Group] = {}
        self._candidates: deque[Group] = deque()
        self._blocked: dict[int, Group] = {}  # ready, but for the events before them
        self._unsent: dict[PendingRequest, Group] = {}  # answered, not sent yet; they hold back their streams
        self._names: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)
        self._without_words: dict[Transcription, int] = {}  # delivered: their words follow; the number of their group

    def __len__(self) -> int:
        return len(self._open)

    @property
    def utterances(self) -> int:
        """The number of utterances that are not delivered."""
        return len(self._group_of)

    @property
    def has_events(self) -> bool:
        return bool(self._events or self._without_words)

    def open(self, group: Group) -> None:
        """Add a group whose members no longer wait."""
        group.seq = next(self._seqs)
        self._open[group.seq] = group
        if group.request is None:
            self._events[group.seq] = group
        for stream_id in group.streams:
            self._streams.setdefault(stream_id, deque()).append(group)
        for member in group.members:
            self._group_of[member] = group
        self._candidates.append(group)

    def changed(self, transcription: Transcription) -> None:
        """An utterance has its result, or its boundary is answered."""
        if (group := self._group_of.get(transcription)) is not None:
            self._candidates.append(group)

    def remove(self, transcription: Transcription) -> None:
        """Remove an utterance whose boundary is rejected from its group, if it is in one."""
        if (group := self._group_of.pop(transcription, None)) is not None:
            group.members.remove(transcription)
            if transcription.utterance.stream_id not in group.streams:
                self._leave(group, transcription.utterance.stream_id)
            self._candidates.append(group)

    def take(self) -> Delivered | None:
        """The next results that may be delivered in one line."""
        while self._candidates:
            group = self._candidates.popleft()
            if group.seq not in self._open:
                continue
            delivered = self._take_event(group) if group.request is None else self._take_reply(group)
            if delivered is not None:
                return delivered
        return None

    def sent(self, request: PendingRequest) -> None:
        """A reply is in the output: later results of its streams may follow."""
        if (group := self._unsent.pop(request, None)) is not None:
            for stream_id in group.streams:
                self._leave(group, stream_id)

    def waited_for(self, group: Group) -> list[Transcription]:
        """The members of a group, and those of the events before it."""
        events = [] if group.after is None else self._events_before(group, group.after)
        members = [*group.members, *(member for event in events for member in event.members)]
        return members if group.after is None else [*members, *self._words_before(group, group.after)]

    def of_stream(self, stream_id: str) -> Iterator[Transcription]:
        """Utterances of a stream that are in a group, in their order."""
        for group in self._streams.get(stream_id, ()):
            if group.seq in self._open:
                yield from (member for member in group.members if member.utterance.stream_id == stream_id)

    def remember(self, transcription: Transcription) -> None:
        """Keep the name of a delivered utterance."""
        transcription.state = State.DELIVERED
        self._names.append((transcription.utterance.stream_id, transcription.utterance.utterance_id))

    def words_follow(self, transcription: Transcription, group: Group) -> None:
        """It was delivered in this group, without its words."""
        self._without_words[transcription] = group.seq

    def words_sent(self, transcription: Transcription) -> None:
        del self._without_words[transcription]
        self._candidates.extend(self._blocked.values())

    def without_words(self, stream_id: str) -> list[Transcription]:
        """Delivered utterances of a stream whose words follow."""
        return [each for each in self._without_words if each.stream_id == stream_id]

    def was_delivered(self, stream_id: str, utterance_id: str) -> bool:
        """Whether an utterance of this name was delivered, among the last REMEMBERED."""
        return (stream_id, utterance_id) in self._names

    def _take_event(self, group: Group) -> Delivered | None:
        """The ready results of a group, of each stream for which it is the first group."""
        first = [stream_id for stream_id in group.streams if self._streams[stream_id][0] is group]
        ready = {member for stream_id in first for member in group.leading_done(stream_id)}
        members = [member for member in group.members if member in ready]
        for member in members:
            del self._group_of[member]
        group.members = [member for member in group.members if member not in ready]
        left = group.streams
        if not group.members:
            self._close(group)
        for stream_id in first:
            if stream_id not in left:
                self._leave(group, stream_id)
        return Delivered(group, members) if members else None

    def _take_reply(self, group: Group) -> Delivered | None:
        is_first = all(self._streams[stream_id][0] is group for stream_id in group.streams)
        if not is_first or not all(_is_done(member) and not member.words_pending for member in group.members):
            return None
        after = group.after
        if after is not None and (self._events_before(group, after) or self._words_before(group, after)):
            self._blocked[group.seq] = group
            return None
        for member in group.members:
            del self._group_of[member]
        self._close(group)
        if group.request is not None:
            self._unsent[group.request] = group
        return Delivered(group, group.members)

    def _events_before(self, group: Group, after: DeliverAfter) -> list[Group]:
        events: Iterable[Group] = self._events.values()
        if after.stream_id is not None:
            events = (each for each in self._streams.get(after.stream_id, ()) if each.request is None)
        return [event for event in events if event.seq < group.seq]

    def _words_before(self, group: Group, after: DeliverAfter) -> list[Transcription]:
        """Delivered utterances whose words must be sent before the reply of a group."""
        waiting = self.without_words(after.stream_id) if after.words and after.stream_id is not None else []
        return [each for each in waiting if self._without_words[each] < group.seq]

    def _close(self, group: Group) -> None:
        del self._open[group.seq]
        self._events.pop(group.seq, None)
        self._blocked.pop(group.seq, None)
        if group.request is None:
            self._candidates.extend(self._blocked.values())

    def _leave(self, group: Group, stream_id: str) -> None:
        """A group has no more results of a stream: the stream's next group may be ready."""
        groups = self._streams[stream_id]
        groups.remove(group)
        if groups:
            self._candidates.append(groups[0])
        else:
            del self._streams[stream_id]
        self._candidates.extend(self._blocked.values())


def in_runs(members: Iterable[Transcription]) -> list[list[Transcription]]:
    """Split utterances into few groups whose members may share an event, keeping the order of each stream."""
    runs: list[list[Transcription]] = []
    fitting: dict[Options | None, list[int]] = {}  # the runs of each key
    last: dict[str, int] = {}  # the run that holds the last utterance of each stream
    for member in members:
        utterance = member.utterance
        first = last.get(utterance.stream_id, 0)
        numbers = fitting.setdefault(utterance.group_key, [])
        number = next((number for number in numbers if number >= first), len(runs))
        if number == len(runs):
            runs.append([])
            numbers.append(number)
        runs[number].append(member)
        last[utterance.stream_id] = number
    return runs


def _is_done(transcription: Transcription) -> bool:
    """Whether its result may be delivered: not before the reply to its boundary."""
    return transcription.state is State.DONE and transcription.utterance.is_accepted
