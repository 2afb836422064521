"""The engine ends: what is decoded again, in which order, when, and what is given up."""

from collections.abc import Callable

import pytest
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.errors import Cancelled
from qwen3_asr_mlx_runtime.session import scheduler
from qwen3_asr_mlx_runtime.session.local_agreement import LocalAgreement
from qwen3_asr_mlx_runtime.session.model_state import DELAYS, MAX_ENDS, WINDOW_SECONDS, Recovery
from qwen3_asr_mlx_runtime.session.partials import OpenUtterance
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.session_state import SessionState
from qwen3_asr_mlx_runtime.session.stream_registry import StreamRegistry


@pytest.fixture
def talk() -> Conversation:
    """With the model loaded, and restarts reported."""
    talk = Conversation()
    talk.send("hello", want=["events", "progress"])
    talk.send("start", id="start")
    talk.load()
    return talk


def transcribe(talk: Conversation, *names: str, **members: object) -> None:
    for name in names:
        talk.send("transcribe", id=name, audio=f"{name}.wav", **members)
        talk.read(f"{name}.wav")


def restart(talk: Conversation, reason: str = "SIGKILL") -> list[dict]:
    """The engine ends, and another has loaded the model."""
    lines = talk.end_engine(reason)
    lines += talk.wait(DELAYS[-1])
    return lines + talk.load()


def audio_of(talk: Conversation) -> list[int]:
    return [len(job.utterance.samples) for job in talk.jobs.values()]


def test_what_was_under_way_is_decoded_alone_in_its_order_and_then_the_rest(talk: Conversation) -> None:
    transcribe(talk, "a", "b", "c", "d")
    under_way = [*talk.jobs]
    assert len(under_way) == 2
    restart(talk)
    order = []
    while talk.jobs:
        order.append([*talk.jobs])
        talk.decode()
    assert order[:2] == [[job_id] for job_id in under_way]
    assert len(order[2]) == 2  # company again
    replies = [reply for reply in talk.monitor.replies if reply["type"] == "transcript"]
    assert len(replies) == 4


def test_the_event_names_the_reason_and_the_attempt(talk: Conversation) -> None:
    [event] = talk.end_engine("SIGABRT")
    assert (event["type"], event["reason"], event["attempt"]) == ("engine_restarting", "SIGABRT", 1)
    assert talk.send("ping", id="p")[0]["state"] == "loading"


def test_audio_that_was_alone_at_its_second_end_fails_and_the_others_go_on(talk: Conversation) -> None:
    transcribe(talk, "a", "b")
    restart(talk)  # a and b
    lines = restart(talk)  # a alone
    assert [(line["id"], line["code"]) for line in lines if line["type"] == "error"] == [("a", "engine_crashed")]
    [reply] = talk.decode()
    assert (reply["id"], reply["type"]) == ("b", "transcript")


def test_ends_are_cleared_when_a_segment_finishes(talk: Conversation) -> None:
    talk.send("transcribe", id="long", audio="long.wav")
    talk.read("long.wav", is_last=False)
    [first] = talk.jobs
    restart(talk)
    assert [*talk.jobs] == [first]
    talk.decode()
    talk.read("long.wav")
    [second] = talk.jobs
    restart(talk)  # the first end of the second segment
    assert [*talk.jobs] == [second]
    [reply] = talk.decode()
    assert reply["type"] == "transcript"


def test_starts_back_off_and_a_finished_job_resets_the_delay(talk: Conversation) -> None:
    loads = talk.loads
    for delay in DELAYS:
        talk.end_engine()
        if delay:
            talk.wait(delay - 0.1)
            assert talk.loads == loads
            talk.wait(0.1)
        loads += 1
        assert talk.loads == loads
        talk.load()
    transcribe(talk, "a")
    talk.decode()
    talk.end_engine()
    assert talk.loads == loads + 1


def test_five_ends_without_a_finished_job_lose_the_engine() -> None:
    now = [0.0]
    recovery = Recovery(lambda: now[0])
    assert [recovery.ended("SIGKILL") for _ in range(MAX_ENDS)] == [*DELAYS, None]
    recovery = Recovery(lambda: now[0])
    for _ in range(3 * MAX_ENDS):
        assert recovery.ended("SIGKILL") is not None
        now[0] += WINDOW_SECONDS / (MAX_ENDS - 1) + 1


def test_timeouts_and_cancels_hold_while_there_is_no_engine(talk: Conversation) -> None:
    transcribe(talk, "a", timeout_ms=500)
    transcribe(talk, "b")
    talk.end_engine()
    [reply] = talk.wait(0.5)
    assert (reply["id"], reply["code"]) == ("a", "timeout")
    lines = talk.send("cancel", id="c", target="b")
    assert {line["type"] for line in lines} == {"error", "cancel_result"}
    talk.load()
    assert talk.jobs == {}


def test_a_cancelled_job_is_not_decoded_again(talk: Conversation) -> None:
    transcribe(talk, "a")
    assert talk.send("cancel", id="c", target="a")[0]["state"] == "cancelling"
    lines = talk.end_engine()
    assert [line["code"] for line in lines if line["type"] == "error"] == ["cancelled"]


def test_an_open_utterance_goes_on_and_the_engine_gets_all_of_it_again(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.chunk(1600, "s")
    talk.end_partial("one")
    talk.end_engine()
    talk.chunk(1600, "s")
    assert talk.partials == {}  # there is no engine
    talk.load()
    [partial] = talk.partials.values()
    assert (len(partial.samples), partial.given) == (3200, 3200)
    talk.end_partial("one two")
    talk.send("end_utterance", id="e", stream_id="s")
    talk.send("flush", id="f")
    assert audio_of(talk) == [3200]


def test_partials_that_end_the_engine_twice_alone_are_no_more_but_the_final_comes(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.chunk(1600, "s")
    for _ in range(2):
        assert len(talk.partials) == 1
        restart(talk)
    talk.chunk(1600, "s")
    assert talk.partials == {}
    talk.send("end_utterance", id="e", stream_id="s")
    talk.send("flush", id="f")
    assert talk.decode()[0]["items"][0]["text"]


def test_a_load_that_ends_the_engine_is_tried_again_and_its_start_waits() -> None:
    talk = Conversation()
    talk.send("start")
    assert talk.end_engine() == []
    assert talk.loads == 2
    [ready] = talk.load()
    assert ready["type"] == "ready"


def test_an_idle_engine_without_a_model_is_not_started_again() -> None:
    talk = Conversation()
    talk.end_engine()
    talk.wait(60.0)
    assert talk.loads == 0


def test_a_good_partial_clears_the_ends_of_its_utterance(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.chunk(1600, "s")
    for words in ("one", "one two", "one two three"):
        restart(talk)
        talk.end_partial(words)
        talk.chunk(1600, "s")
        assert len(talk.partials) == 1


def test_a_partial_that_must_be_alone_goes_before_new_files(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    transcribe(talk, "a", "b", "c", "d")
    talk.chunk(1600, "s")
    restart(talk)  # two files and the partial
    decoded = 0
    while not talk.partials:
        talk.decode()
        decoded += 1
    assert decoded == 2  # those that were under way too
    talk.end_partial("one")
    assert len(talk.jobs) == 2


def test_a_load_that_fails_after_a_restart_keeps_what_nobody_waits_for(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=10)
    talk.speak("u", "s", id="e")
    talk.wait(0.1)  # decoded ahead of its flush
    assert talk.jobs
    talk.end_engine()
    talk.fail_load()
    talk.send("flush", id="f")
    talk.load()
    [reply] = talk.decode()
    assert reply["items"][0]["text"]


def test_audio_is_not_blamed_for_an_end_that_it_shared(talk: Conversation) -> None:
    """What timed out is still in the engine."""
    talk.send("start_stream", id="s", stream_id="s", auto_flush=True, batch_size=1)
    talk.speak("u", "s", id="u")
    restart(talk)  # the first end of u, alone
    transcribe(talk, "late", timeout_ms=100)
    talk.decode()
    talk.speak("v", "s", id="v")
    transcribe(talk, "hangs", timeout_ms=100)
    talk.wait(0.2)
    restart(talk)
    assert len(talk.jobs) == 1  # v, alone, and not failed


@pytest.mark.parametrize("outcome", [None, Cancelled("at the next step")])
@pytest.mark.parametrize("options", [{"max_new_tokens": 3}, {"logprobs": True}])
def test_a_cancelled_utterance_stays_cancelled_whatever_a_flush_asks_for(
    talk: Conversation, options: dict, outcome: Cancelled | None
) -> None:
    """Also where the engine finishes it first: that text was decoded with other options."""
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=10)
    talk.speak("u", "s", id="e")
    talk.wait(0.1)
    assert talk.send("cancel", id="c", stream_id="s", utterance_id="u")[0]["state"] == "cancelling"
    lines = talk.send("flush", id="f", **options)
    lines += talk.decode(outcome)
    assert [item["error"]["code"] for line in lines for item in line.get("items", ())] == ["cancelled"]
    talk.monitor.finish()


def test_nothing_is_reported_where_nothing_is_started_again() -> None:
    talk = Conversation()
    talk.send("hello", want=["progress"])
    assert talk.end_engine() == []
    assert talk.send("status")[0]["engine_restarts"] == 0


def test_a_cancel_that_came_too_late_lets_a_flush_decode_again(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=10)
    talk.speak("u", "s", id="e")
    talk.wait(0.1)
    talk.send("cancel", id="c", stream_id="s", utterance_id="u")
    talk.decode()  # it was finished first
    talk.send("flush", id="f", max_new_tokens=3)
    (job,) = talk.jobs.values()
    assert job.utterance.max_new_tokens == 3
    [reply] = talk.decode()
    assert reply["items"][0]["text"]


def play_restarts() -> None:
    """A stream with partials and a file, over two ends of the engine, under the monitor."""
    talk = Conversation()
    talk.send("hello", want=["events", "progress"])
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=500, auto_flush=True)
    talk.load()
    for words in ("one", "one two", "one two three"):
        talk.chunk(16_000, "s")
        talk.end_partial(words)
    transcribe(talk, "a")
    for _ in range(2):
        restart(talk)
        for words in ("one two three four", "one two three four five"):
            talk.chunk(16_000, "s")
            while not talk.partials and talk.jobs:
                talk.decode()
            if talk.partials:
                talk.end_partial(words)
    talk.send("end_utterance", id="e", stream_id="s")
    while talk.jobs:
        talk.decode()
    talk.send("stop")
    while talk.jobs:
        talk.decode()
    talk.finish()
    talk.monitor.finish()


BREAKS = {
    "an outcome is lost": ("I2", Scheduler, "_run_again", lambda *_, **__: None),
    "the first end counts twice": ("I11", scheduler, "MAX_ENDS_ALONE", 1),
    "attempts are not counted": ("I11", Recovery, "attempt", 0),
    "stable text starts over": ("I10", OpenUtterance, "agreement", LocalAgreement),
    "revisions start over": ("I9", OpenUtterance, "revision", int),
    "streams are forgotten": ("I6", StreamRegistry, "_streams", dict),
}


def test_restarts_keep_the_promises() -> None:
    play_restarts()


@pytest.mark.parametrize(("promise", "owner", "name", "broken"), BREAKS.values(), ids=BREAKS)
def test_a_restart_that_breaks_a_promise_is_seen(
    monkeypatch: pytest.MonkeyPatch, promise: str, owner: object, name: str, broken: object
) -> None:
    if isinstance(broken, type):
        make_anew(monkeypatch, owner, name, broken)
    else:
        monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match=f"^{promise}:"):
        play_restarts()


def make_anew(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, make: Callable[[], object]) -> None:
    """What the end of the engine takes from each object of this class."""
    whole = SessionState.engine_ended

    def ended(state: SessionState, reason: str) -> None:
        whole(state, reason)
        objects = [state.streams.registry, *state.partials._open.values()]
        for each in objects:
            if isinstance(each, owner):
                setattr(each, name, make())

    monkeypatch.setattr(SessionState, "engine_ended", ended)
