"""Which batch may be told: every stream in the order of its boundaries, and replies behind the events before them."""

from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.protocol.commands import EndUtterance, StartStream
from qwen3_asr_mlx_runtime.session.spoken import After, Batch, Spoken
from qwen3_asr_mlx_runtime.session.tasks import Options
from qwen3_asr_mlx_runtime.session.telling import Telling

DONE = DecodeFailed("an outcome like any other")


class Books:
    """Batches, and utterances that get their places and their outcomes."""

    def __init__(self) -> None:
        self.telling = Telling()
        self.places = 0

    def spoken(self, stream: str) -> Spoken:
        self.places += 1
        return Spoken(
            stream=StartStream(stream_id=stream),
            asked=EndUtterance(),
            utterance_id=f"{stream}{self.places}",
            source="pcm16",
            options=Options(0, None, ""),
            queued_at=0.0,
            place=self.places,
        )

    def open(self, streams: str, **members: object) -> Batch:
        batch = Batch([self.spoken(stream) for stream in streams], "flush", **members)
        self.telling.open(batch)
        return batch

    def finish(self, batch: Batch) -> None:
        for one in batch.members:
            one.outcome = DONE
            self.telling.settle(one)

    def told(self) -> list[Batch]:
        told = []
        while (batch := self.telling.take()) is not None:
            self.telling.leave(batch)
            told.append(batch)
        return told


def test_a_batch_waits_for_its_outcomes_and_for_earlier_ones_of_its_streams() -> None:
    books = Books()
    first, other, second = (books.open(streams) for streams in ("a", "b", "a"))
    books.finish(second)
    assert books.told() == []
    books.finish(other)
    assert books.told() == [other]
    books.finish(first)
    assert books.told() == [first, second]


def test_a_reply_that_has_not_left_holds_back_what_comes_after_it() -> None:
    books = Books()
    first, second = books.open("a"), books.open("a")
    books.finish(first)
    books.finish(second)
    assert books.telling.take() is first
    assert books.told() == []
    books.telling.leave(first)
    assert books.told() == [second]


def test_a_reply_waits_for_the_events_before_it_and_for_no_later_ones() -> None:
    books = Books()
    event = books.open("a")
    of_all, of_a, of_b = (books.open("", after=After(stream), ticket=object()) for stream in (None, "a", "b"))
    assert books.told() == [of_b]
    books.open("a")
    assert books.telling.events(of_a, After("a")) == [event]
    books.finish(event)
    assert books.told() == [event, of_all, of_a]


def test_an_utterance_that_was_never_there_keeps_nothing_waiting() -> None:
    books = Books()
    first, second = books.open("ab"), books.open("b")
    books.finish(second)
    one, other = first.members
    books.telling.remove(other)
    assert books.told() == [second]
    one.outcome = DONE
    books.telling.settle(one)
    assert books.told() == [first]
    assert (len(books.telling), books.telling.utterances) == (0, 0)


@given(
    st.lists(st.tuples(st.text("abc", max_size=3), st.booleans(), st.sampled_from([None, "a", "b"])), max_size=8),
    st.randoms(use_true_random=False),
)
def test_in_any_order_of_outcomes_all_is_told_once_and_every_stream_in_order(drawn: list, random: object) -> None:
    books = Books()
    batches = [
        books.open(streams, **({"ticket": object(), "after": After(after)} if is_reply else {}))
        for streams, is_reply, after in drawn
    ]
    told = books.told()
    for batch in random.sample(batches, len(batches)):
        books.finish(batch)
        told += books.told()
    assert sorted(map(id, told)) == sorted(map(id, batches))
    for stream in "abc":
        assert [one for one in told if stream in one.streams] == [one for one in batches if stream in one.streams]
    for reply in (batch for batch in told if batch.after is not None):
        for event in batches[: batches.index(reply)]:
            if event.ticket is None and (reply.after.stream_id is None or reply.after.stream_id in event.streams):
                assert told.index(event) < told.index(reply)
