"""The share of the engine's time that partials take: of the process, of a stream with low effort, and measured."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed
from qwen3_asr_mlx_runtime.session.engine_slots import SHARE_SECONDS
from qwen3_asr_mlx_runtime.settings import Settings

HALF = 8_000  # samples
FRACTION = 1e-9  # of a second: floating point


def listening(share: float = 1.0, **members: object) -> Conversation:
    """A stream with partials under way."""
    talk = Conversation(Settings(gpu_share=share))
    talk.send("hello", want=["events"])
    talk.send("start", id="start")
    talk.load()
    start(talk, "s", **members)
    return talk


def start(talk: Conversation, stream_id: str, **members: object) -> list[dict]:
    members = {"partials": True, "batch_size": 16, "max_batch_delay_ms": 60_000, **members}
    return talk.send("start_stream", stream_id=stream_id, **members)


def work(talk: Conversation, seconds: float, outcome: object = None) -> list[dict]:
    """The engine works on its partial for so long, and on nothing else."""
    talk.now += seconds
    return talk.end_partial(outcome, work=seconds)


def measured(talk: Conversation) -> float | None:
    return talk.send("status", id="status")[0]["partial_share"]


class TestTheProcess:
    def test_the_next_partial_waits_until_the_last_was_the_share_of_its_time(self) -> None:
        talk = listening(share=0.1)
        talk.chunk(HALF, "s")
        work(talk, 0.25)
        talk.chunk(HALF, "s")
        assert talk.partials == {}
        assert talk.session.deadline == pytest.approx(talk.now + 2.25)
        talk.wait(2.25 - FRACTION)
        assert talk.partials == {}
        talk.wait(2 * FRACTION)
        assert len(talk.partials) == 1

    def test_one_that_waits_covers_what_came_meanwhile_and_nothing_queues(self) -> None:
        talk = listening(share=0.1)
        talk.chunk(HALF, "s")
        work(talk, 0.25)
        for _ in range(4):
            talk.chunk(HALF, "s")
        talk.wait(3.0)
        assert [len(partial.samples) for partial in talk.partials.values()] == [4 * HALF]
        work(talk, 0.25)
        talk.wait(10.0)
        assert talk.partials == {}

    def test_the_share_is_that_of_all_streams_together_and_the_longest_due_goes_first(self) -> None:
        talk = listening(share=0.5)
        start(talk, "t")
        talk.chunk(HALF, "s")
        talk.chunk(HALF, "t")
        work(talk, 1.0)
        talk.chunk(HALF, "s")
        assert talk.partials == {}
        talk.wait(1.0)
        assert work(talk, 1.0)[0]["stream_id"] == "t"
        talk.wait(1.0)
        assert work(talk, 1.0)[0]["stream_id"] == "s"

    def test_without_a_share_none_waits(self) -> None:
        talk = listening()
        talk.chunk(HALF, "s")
        talk.chunk(HALF, "s")
        work(talk, 5.0)
        assert len(talk.partials) == 1
        assert talk.session.deadline is None

    @pytest.mark.parametrize("outcome", [DecodeFailed("planted"), Cancelled("planted")])
    def test_the_work_on_one_that_fails_counts(self, outcome: Exception) -> None:
        talk = listening(share=0.5)
        talk.chunk(HALF, "s")
        talk.chunk(HALF, "s")
        work(talk, 1.0, outcome)
        assert (talk.partials, measured(talk)) == ({}, 0.1)
        talk.wait(1.0)
        assert len(talk.partials) == 1

    def test_the_work_on_one_whose_utterance_has_ended_counts(self) -> None:
        talk = listening(share=0.5)
        talk.chunk(HALF, "s")
        talk.send("stop_stream", id=1, stream_id="s")
        start(talk, "t")
        talk.chunk(HALF, "t")
        work(talk, 1.0, Cancelled("its utterance has ended"))
        assert talk.partials == {}
        talk.wait(1.0)
        assert len(talk.partials) == 1


class TestAStreamWithLowEffort:
    def test_its_partials_take_a_quarter_and_those_of_others_do_not_wait(self) -> None:
        talk = listening(effort="low")
        start(talk, "t", effort="normal")
        talk.chunk(HALF, "s")
        work(talk, 1.0)
        talk.chunk(HALF, "s")
        talk.chunk(HALF, "t")
        assert work(talk, 1.0)[0]["stream_id"] == "t"
        talk.wait(2.0 - FRACTION)
        assert talk.partials == {}
        talk.wait(2 * FRACTION)
        assert work(talk, 1.0)[0]["stream_id"] == "s"

    def test_both_shares_hold(self) -> None:
        talk = listening(share=0.5, effort="low")
        start(talk, "t")
        talk.chunk(HALF, "s")
        work(talk, 1.0)
        talk.chunk(HALF, "s")
        talk.chunk(HALF, "t")
        talk.wait(1.0)
        assert work(talk, 2.5)[0]["stream_id"] == "t"
        talk.wait(2.5 - FRACTION)
        assert talk.partials == {}
        talk.wait(2 * FRACTION)
        assert work(talk, 1.0)[0]["stream_id"] == "s"

    @pytest.mark.parametrize(("effort", "waits"), [("low", True), ("normal", False)])
    def test_a_restart_with_the_same_effort_keeps_its_rest(self, effort: str, waits: bool) -> None:
        talk = listening(effort="low")
        talk.chunk(HALF, "s")
        work(talk, 1.0)
        start(talk, "s", restart=True, effort=effort)
        talk.chunk(HALF, "s")
        assert (talk.partials == {}) == waits

    def test_the_next_utterance_has_no_share_of_its_own(self) -> None:
        talk = listening(effort="low")
        talk.chunk(HALF, "s")
        work(talk, 1.0)
        talk.send("end_utterance", id=1, stream_id="s")
        talk.chunk(HALF, "s")
        assert talk.partials == {}
        talk.wait(3.0)
        assert len(talk.partials) == 1

    def test_another_effort_is_refused(self) -> None:
        talk = listening()
        (error,) = start(talk, "t", effort="high", id=1)
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "effort")
        assert start(talk, "t")[0]["type"] == "stream_ready"


class TestWhatIsExempt:
    @pytest.fixture
    def resting(self) -> Conversation:
        """No partial may start for a long time."""
        talk = listening(share=0.05, effort="low")
        talk.chunk(HALF, "s")
        work(talk, 10.0)
        talk.chunk(HALF, "s")
        return talk

    def test_finals_and_words_do_not_wait(self, resting: Conversation) -> None:
        resting.send("end_utterance", id=1, stream_id="s", words=True)
        resting.send("flush", id=2)
        assert len(resting.jobs) == 1
        resting.decode()
        assert len(resting.aligns) == 1
        resting.align()
        assert resting.monitor.replies[-1]["items"][0]["words"]

    def test_provisional_finals_do_not_wait(self, resting: Conversation) -> None:
        resting.send("pause", id=1, stream_id="s")
        assert len(resting.jobs) == 1

    def test_row_123_nothing_waits_for_a_partial_that_may_not_start_yet(self) -> None:
        """A partial that was under way then runs alone, and jobs wait for it; not while it may not start."""
        talk = listening(effort="low")
        talk.chunk(HALF, "s")
        work(talk, 10.0)
        talk.chunk(HALF, "s")
        talk.wait(30.0)
        talk.end_engine()
        talk.load()
        assert len(talk.partials) == 1
        work(talk, 10.0, DecodeFailed("planted"))
        talk.chunk(HALF, "s")
        talk.send("transcribe", id=1, audio="a.wav")
        talk.send("transcribe", id=2, audio="b.wav")
        talk.read("a.wav")
        talk.read("b.wav")
        assert len(talk.jobs) == 2

    def test_work_without_a_measure_is_none(self) -> None:
        """The engine ends with what it had: nobody knows for how long it worked."""
        talk = listening(share=0.05)
        talk.chunk(HALF, "s")
        talk.now += 30.0
        talk.end_engine()
        talk.load()
        assert len(talk.partials) == 1
        assert measured(talk) is None


class TestTheMeasuredShare:
    def test_it_is_that_of_the_last_ten_seconds(self) -> None:
        talk = listening()
        shares = [measured(talk)]
        for seconds in (1.0, 2.0):
            talk.chunk(HALF, "s")
            work(talk, seconds)
            shares.append(measured(talk))
        talk.wait(7.5)
        shares.append(measured(talk))
        talk.wait(20.0)
        shares.append(measured(talk))
        assert shares == [None, 0.1, 0.3, 0.25, 0.0]

    def test_one_longer_than_that_counts_as_far_as_it_lies_in_them(self) -> None:
        talk = listening()
        talk.chunk(HALF, "s")
        work(talk, 25.0)
        assert measured(talk) == 1.0
        talk.wait(4.0)
        assert measured(talk) == 0.6


EFFORTS = {"normal": "normal", "low": "low", "short": "low"}
EVENTS: st.SearchStrategy[tuple[str, str | float]] = st.one_of(
    st.tuples(st.just("chunk"), st.sampled_from([*EFFORTS])),
    st.tuples(st.just("final"), st.sampled_from([*EFFORTS])),
    st.tuples(st.just("restart"), st.sampled_from([*EFFORTS])),
    st.tuples(st.just("wait"), st.floats(0.01, 3.0)),
    st.tuples(st.just("work"), st.floats(0.001, 4.0)),
    st.tuples(st.just("finals first"), st.floats(0.01, 2.0)),
)


class Machine:
    """A session and an engine that works on one thing at a time. `spans`: when it worked on partials, by stream."""

    def __init__(self, share: float) -> None:
        self.talk = listening(share)
        self.spans: list[tuple[str, float, float]] = []
        for stream_id, effort in EFFORTS.items():
            start(self.talk, stream_id, effort=effort, partial_interval_ms=100)

    def play(self, kind: str, value: str | float) -> None:
        talk = self.talk
        match kind:
            case "chunk":
                talk.chunk(1600, value)
            case "final":
                talk.send("end_utterance", id="e", stream_id=value, timeout_ms=1)
            case "restart":
                start(talk, value, restart=True, effort=EFFORTS[value], partial_interval_ms=100)
            case "wait":
                talk.wait(value)
            case "work" if talk.partials:
                self._work(value)
            case "finals first" if talk.partials:
                talk.now += value  # the partial waits for what goes before it, and then has its turn
                self._work(value)

    def speak(self, streams: Iterable[str], seconds: float) -> None:
        """These streams have audio all the time, and each partial takes so long."""
        end = self.talk.now + 1.2 * SHARE_SECONDS
        while self.talk.now < end:
            for stream_id in streams:
                self.talk.chunk(1600, stream_id)
            if self.talk.partials:
                self._work(seconds)
            else:
                self.talk.wait(0.1)

    def _work(self, seconds: float) -> None:
        talk = self.talk
        (partial_id,) = talk.partials
        stream_id = self._stream_of(partial_id)
        self.spans.append((stream_id, talk.now, talk.now + seconds))
        talk.now += seconds
        talk.end_partial(work=seconds)

    def _stream_of(self, partial_id: int) -> str:
        pace = self.talk.session._state.scheduler.slots._partials[partial_id].pace
        streams = self.talk.session._state.streams.registry._streams
        return next(name for name, stream in streams.items() if stream.pace is pace)


def busy(spans: Iterable[tuple[float, float]], begin: float) -> float:
    return sum(max(0.0, min(end, begin + SHARE_SECONDS) - max(start, begin)) for start, end in spans)


def windows(spans: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Where the work in a window is most: it begins or ends with some work."""
    for span in spans:
        for edge in span:
            yield from (edge, edge - SHARE_SECONDS)


@pytest.mark.once
@given(
    share=st.sampled_from([0.05, 0.2, 0.5, 0.9]),
    events=st.lists(EVENTS, max_size=30),
    speakers=st.sets(st.sampled_from([*EFFORTS]), min_size=1),
    seconds=st.floats(0.1, 2.0),
)
def test_in_any_ten_seconds_partials_take_no_more_than_their_share_and_one_partial(
    share: float, events: list[tuple[str, str | float]], speakers: set[str], seconds: float
) -> None:
    machine = Machine(share)
    for event in events:
        machine.play(*event)
    machine.speak(sorted(speakers), seconds)
    bounds = {None: share, "low": 0.25, "short": 0.25}
    for stream_id, bound in bounds.items():
        spans = [(begin, end) for name, begin, end in machine.spans if stream_id in (None, name)]
        longest = max((end - begin for begin, end in spans), default=0.0)
        for begin in windows(spans):
            assert busy(spans, begin) <= bound * SHARE_SECONDS + longest + FRACTION
