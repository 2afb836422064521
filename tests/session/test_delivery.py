"""Results of a stream in the order of its boundaries, each as soon as it is ready; replies behind the events before
them."""

from hypothesis import given
from hypothesis import strategies as st
from support.utterances import ARABIC, ENGLISH, finish, utterance

from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.session.delivery import DeliverAfter, Delivery, Group, in_runs
from qwen3_asr_mlx_runtime.session.transcription import Transcription

RESULT = DecodeFailed("a result like any other")


class Books:
    """Groups, and utterances that get their places and their results."""

    def __init__(self) -> None:
        self.delivery = Delivery()
        self.count = 0

    def utterance(self, stream: str) -> Transcription:
        self.count += 1
        return utterance(f"{stream}{self.count}", seq=self.count)

    def open(self, streams: str, **members: object) -> Group:
        group = Group([self.utterance(stream) for stream in streams], "flush", **members)
        self.delivery.open(group)
        return group

    def reply(self, streams: str, after: str | None = None) -> Group:
        return self.open(streams, request=Request(), after=DeliverAfter(after))

    def finish(self, *members: Transcription) -> None:
        for member in members:
            finish(member, RESULT)
            self.delivery.changed(member)

    def lines(self, *, sent: bool = True) -> list[str]:
        """The names in each line that may be delivered now."""
        lines = []
        while (delivered := self.delivery.take()) is not None:
            lines.append(" ".join(member.utterance.utterance_id for member in delivered.members))
            if sent and delivered.group.request is not None:
                self.delivery.sent(delivered.group.request)
        return lines


class Request:
    """Stands for a pending request: it is only compared."""

    id = 1


def test_an_event_holds_what_is_ready_and_every_stream_keeps_its_order() -> None:
    books = Books()
    first, second, third, other = books.open("aaab").members
    books.finish(second)
    assert books.lines() == []
    books.finish(other)
    assert books.lines() == ["b4"]
    books.finish(first)
    assert books.lines() == ["a1 a2"]
    books.finish(third)
    assert books.lines() == ["a3"]
    assert (len(books.delivery), books.delivery.utterances) == (0, 0)


def test_an_event_waits_for_the_earlier_groups_of_its_streams() -> None:
    books = Books()
    [first] = books.open("a").members
    second, other = books.open("ab").members
    books.finish(second, other)
    assert books.lines() == ["b3"]
    books.finish(first)
    assert books.lines() == ["a1", "a2"]


def test_a_reply_waits_for_all_its_members() -> None:
    books = Books()
    reply = books.reply("ab")
    books.finish(reply.members[0])
    assert books.lines() == []
    books.finish(reply.members[1])
    assert books.lines() == ["a1 b2"]


def test_a_reply_that_is_not_sent_holds_back_the_later_results_of_its_streams() -> None:
    books = Books()
    reply, event = books.reply("a"), books.open("ab")
    books.finish(*reply.members, *event.members)
    assert books.lines(sent=False) == ["a1", "b3"]
    books.delivery.sent(reply.request)
    assert books.lines() == ["a2"]


def test_a_reply_waits_for_the_events_before_it_and_for_no_later_ones() -> None:
    books = Books()
    event = books.open("a")
    of_all, of_a, _ = (books.reply("", after=stream) for stream in (None, "a", "b"))
    assert books.lines() == [""]  # that of b
    books.open("a")
    assert books.delivery.waited_for(of_a) == event.members == books.delivery.waited_for(of_all)
    books.finish(*event.members)
    assert books.lines() == ["a1", "", ""]


def test_a_reply_waits_for_the_events_of_its_stream_alone() -> None:
    books = Books()
    first, second = books.open("ab").members
    books.reply("", after="a")
    books.finish(first)
    assert books.lines() == ["a1", ""]
    books.finish(second)
    assert books.lines() == ["b2"]


def test_an_utterance_that_is_refused_keeps_nothing_waiting() -> None:
    books = Books()
    first, refused = books.open("ab").members
    [second] = books.open("b").members
    books.finish(second)
    books.delivery.remove(refused)
    assert books.lines() == ["b3"]
    books.finish(first)
    assert books.lines() == ["a1"]
    assert (len(books.delivery), books.delivery.utterances) == (0, 0)


@given(
    st.lists(st.tuples(st.text("abc", max_size=3), st.booleans(), st.sampled_from([None, "a", "b"])), max_size=8),
    st.randoms(use_true_random=False),
)
def test_in_any_order_of_results_all_are_delivered_once_and_every_stream_in_order(drawn: list, random: object) -> None:
    books = Books()
    groups = [books.reply(streams, after) if is_reply else books.open(streams) for streams, is_reply, after in drawn]
    members = [member for group in groups for member in group.members]
    names = [member.utterance.utterance_id for member in members]
    events_before = {
        group.seq: {
            member.utterance.utterance_id
            for event in groups[:index]
            if event.request is None
            for member in event.members
            if group.after is not None and group.after.stream_id in (None, member.utterance.stream_id)
        }
        for index, group in enumerate(groups)
    }
    delivered: list[str] = []
    for member in [None, *random.sample(members, len(members))]:
        if member is not None:
            books.finish(member)
        while (line := books.delivery.take()) is not None:
            assert events_before[line.group.seq] <= {*delivered}
            delivered += [each.utterance.utterance_id for each in line.members]
            if line.group.request is not None:
                books.delivery.sent(line.group.request)
    assert sorted(delivered) == sorted(names)
    for stream in "abc":
        assert [name for name in delivered if name[0] == stream] == [name for name in names if name[0] == stream]
    assert len(books.delivery) == 0


ANY_UTTERANCES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([ENGLISH, ARABIC]), st.booleans()), max_size=12
).map(
    lambda drawn: [
        utterance(f"{stream}{number}", options=options, auto=auto)
        for number, (stream, options, auto) in enumerate(drawn)
    ]
)


@given(ANY_UTTERANCES)
def test_runs_hold_every_utterance_once_agree_and_keep_every_stream_in_order(members: list[Transcription]) -> None:
    runs = in_runs(members)
    flat = [member for run in runs for member in run]
    assert sorted(map(id, flat)) == sorted(map(id, members))
    assert all(run[0].utterance.group_key == member.utterance.group_key for run in runs for member in run)
    for stream in "abc":
        assert [each for each in flat if each.stream_id == stream] == [
            each for each in members if each.stream_id == stream
        ]
