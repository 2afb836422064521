"""Which utterances start decoding, and which of them together: pure, in any order of boundaries."""

from hypothesis import given
from hypothesis import strategies as st
from support.utterances import ARABIC, ENGLISH, utterance

from qwen3_asr_mlx_runtime.session.micro_batch import MicroBatch
from qwen3_asr_mlx_runtime.session.transcription import Transcription


def micro_batch(*waiting: Transcription) -> MicroBatch:
    queue = MicroBatch()
    for transcription in waiting:
        queue.add(transcription)
        queue.accept(transcription)
    return queue


def names(members: list[Transcription]) -> list[str]:
    return [member.utterance.utterance_id for member in members]


class TestTimer:
    def test_the_oldest_utterance_decides(self) -> None:
        queue = micro_batch(utterance("a1", at=1.0), utterance("b1", at=0.5, delay_ms=900))
        assert queue.deadline == 1.1
        assert names(queue.due(1.05)) == []
        assert names(queue.due(1.1)) == ["a1"]

    def test_a_group_is_due_once(self) -> None:
        queue = micro_batch(
            utterance("a1"), utterance("b1"), utterance("c1", options=ARABIC), utterance("d1", auto=False)
        )
        assert names(queue.due(9.0)) == ["a1", "c1", "d1"]

    def test_what_is_decoded_ahead_is_not_due_again(self) -> None:
        each = utterance("a1", auto=False)
        each.utterance.decode_started = True
        queue = micro_batch(each)
        assert (queue.deadline, queue.due(9.0)) == (None, [])

    def test_the_timers_of_utterances_that_went_are_freed(self) -> None:
        queue = micro_batch(utterance("a1", delay_ms=60_000))
        for number in range(1_000):
            gone = utterance(f"b{number}", delay_ms=60_000)
            queue.add(gone)
            queue.remove(gone)
        assert len(queue._timers) <= 100
        assert names(queue.due(60.0)) == ["a1"]


class TestFull:
    def test_the_size_is_that_of_the_last_utterance_s_stream(self) -> None:
        small, large = utterance("a1", size=2), utterance("b1", size=3)
        queue = micro_batch(small, large)
        assert (queue.is_full(small), queue.is_full(large)) == (True, False)

    def test_only_what_may_go_with_it_counts(self) -> None:
        last = utterance("c1", size=2)
        queue = micro_batch(utterance("a1", options=ARABIC), utterance("b1", auto=False), last)
        assert not queue.is_full(last)

    def test_without_auto_flush_options_may_differ(self) -> None:
        last = utterance("b1", auto=False, size=2)
        queue = micro_batch(utterance("a1", auto=False, options=ARABIC), last)
        assert queue.is_full(last)


ANY_UTTERANCES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([ENGLISH, ARABIC]), st.booleans()), max_size=12
).map(
    lambda drawn: [
        utterance(f"{stream}{number}", options=options, auto=auto)
        for number, (stream, options, auto) in enumerate(drawn)
    ]
)


@given(ANY_UTTERANCES, st.data())
def test_leading_names_what_must_be_delivered_before(members: list[Transcription], data: st.DataObject) -> None:
    queue = micro_batch(*members)
    chosen = [each for each in members if data.draw(st.booleans())]
    leading = queue.leading(chosen)
    assert set(map(id, chosen)) <= set(map(id, leading))
    for each in leading:
        before = members[: members.index(each)]
        assert all(other in leading for other in before if other.stream_id == each.stream_id)


@given(ANY_UTTERANCES, st.data())
def test_the_counts_are_those_of_what_waits(members: list[Transcription], data: st.DataObject) -> None:
    queue = micro_batch(*members)
    for each in members:
        if data.draw(st.booleans()):
            queue.remove(each)
            queue.remove(each)
    left = [each for each in members if each in queue]
    assert [*queue] == left
    assert (len(queue), queue.queued, queue.unfinished) == (len(left),) * 3
    for each in left:
        assert queue.group(each) == [other for other in left if other.utterance.group_key == each.utterance.group_key]
        assert queue.is_full(each) is (len(queue.group(each)) >= 4)
        assert queue.of_stream(each.stream_id) == [other for other in left if other.stream_id == each.stream_id]
