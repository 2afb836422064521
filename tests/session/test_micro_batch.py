"""When utterances go, and which of them together: pure, in any order that streams can speak in."""

from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.protocol.commands import EndUtterance, StartStream
from qwen3_asr_mlx_runtime.session.micro_batch import Batcher
from qwen3_asr_mlx_runtime.session.spoken import Spoken, in_runs
from qwen3_asr_mlx_runtime.session.tasks import Options

ENGLISH, ARABIC = Options(0, "English", ""), Options(0, "Arabic", "")


def spoken(
    name: str,
    *,
    at: float = 0.0,
    delay_ms: int = 100,
    size: int = 4,
    auto: bool = True,
    options: Options = ENGLISH,
) -> Spoken:
    """An utterance named by its stream and a number: `a1`."""
    stream = StartStream(stream_id=name[0], batch_size=size, max_batch_delay_ms=delay_ms, auto_flush=auto)
    return Spoken(stream=stream, asked=EndUtterance(), utterance_id=name, source="pcm16", options=options, queued_at=at)


def batcher(*waiting: Spoken) -> Batcher:
    queue = Batcher()
    for one in waiting:
        queue.add(one)
        queue.accept(one)
    return queue


def names(members: list[Spoken]) -> list[str]:
    return [one.utterance_id for one in members]


class TestTimer:
    def test_the_oldest_utterance_decides(self) -> None:
        queue = batcher(spoken("a1", at=1.0), spoken("b1", at=0.5, delay_ms=900))
        assert queue.deadline == 1.1
        assert names(queue.due(1.05)) == []
        assert names(queue.due(1.1)) == ["a1"]

    def test_a_group_is_due_once(self) -> None:
        queue = batcher(spoken("a1"), spoken("b1"), spoken("c1", options=ARABIC), spoken("d1", auto=False))
        assert names(queue.due(9.0)) == ["a1", "c1", "d1"]

    def test_what_was_begun_ahead_is_not_due_again(self) -> None:
        one = spoken("a1", auto=False)
        one.ahead = True
        queue = batcher(one)
        assert (queue.deadline, queue.due(9.0)) == (None, [])

    def test_timers_of_what_has_gone_are_let_go_of(self) -> None:
        queue = batcher(spoken("a1", delay_ms=60_000))
        for number in range(1_000):
            gone = spoken(f"b{number}", delay_ms=60_000)
            queue.add(gone)
            queue.remove(gone)
        assert len(queue._timers) <= 100
        assert names(queue.due(60.0)) == ["a1"]


class TestFull:
    def test_the_size_is_that_of_the_stream_that_speaks(self) -> None:
        small, large = spoken("a1", size=2), spoken("b1", size=3)
        queue = batcher(small, large)
        assert (queue.is_full(small), queue.is_full(large)) == (True, False)

    def test_only_what_may_go_with_it_counts(self) -> None:
        last = spoken("c1", size=2)
        queue = batcher(spoken("a1", options=ARABIC), spoken("b1", auto=False), last)
        assert not queue.is_full(last)

    def test_without_auto_flush_options_may_differ(self) -> None:
        last = spoken("b1", auto=False, size=2)
        queue = batcher(spoken("a1", auto=False, options=ARABIC), last)
        assert queue.is_full(last)


ANY_SPOKEN = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([ENGLISH, ARABIC]), st.booleans()), max_size=12
).map(
    lambda drawn: [
        spoken(f"{stream}{number}", options=options, auto=auto) for number, (stream, options, auto) in enumerate(drawn)
    ]
)


@given(ANY_SPOKEN)
def test_runs_hold_everything_once_agree_and_keep_every_stream_in_order(members: list[Spoken]) -> None:
    runs = in_runs(members)
    flat = [one for run in runs for one in run]
    assert sorted(map(id, flat)) == sorted(map(id, members))
    assert all(run[0].kind == one.kind for run in runs for one in run)
    for stream in "abc":
        expected = [one.utterance_id for one in members if one.stream_id == stream]
        assert [one.utterance_id for one in flat if one.stream_id == stream] == expected


@given(ANY_SPOKEN, st.data())
def test_leading_brings_what_must_be_told_before(members: list[Spoken], data: st.DataObject) -> None:
    queue = batcher(*members)
    chosen = [one for one in members if data.draw(st.booleans())]
    leading = queue.leading(chosen)
    assert set(map(id, chosen)) <= set(map(id, leading))
    for one in leading:
        before = members[: members.index(one)]
        assert all(other in leading for other in before if other.stream_id == one.stream_id)


@given(ANY_SPOKEN, st.data())
def test_the_counts_are_those_of_what_waits(members: list[Spoken], data: st.DataObject) -> None:
    queue = batcher(*members)
    for one in members:
        if data.draw(st.booleans()):
            queue.remove(one)
            queue.remove(one)
    left = [one for one in members if one in queue]
    assert [*queue] == left
    assert (len(queue), queue.queued, queue.unsettled) == (len(left),) * 3
    for one in left:
        assert queue.group(one) == [other for other in left if other.kind == one.kind]
        assert queue.is_full(one) is (len(queue.group(one)) >= 4)
        assert queue.of_stream(one.stream_id) == [other for other in left if other.stream_id == one.stream_id]
