"""The model leaves memory: what is decoded before, what waits, and when it comes back."""

import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.engines.api import EngineEnded, Progress
from qwen3_asr_mlx_runtime.settings import Settings


@pytest.fixture
def talk() -> Conversation:
    """With the model loaded."""
    return loaded(Conversation())


def loaded(talk: Conversation) -> Conversation:
    talk.send("hello", want=["events"])
    talk.send("start", id="start")
    talk.load()
    return talk


def types(lines: list[dict]) -> list[tuple[object, str]]:
    return [(line.get("id"), line.get("code", line["type"])) for line in lines]


def transcribe(talk: Conversation, name: str, **members: object) -> list[dict]:
    return talk.send("transcribe", id=name, audio=f"{name}.wav", **members) + talk.read(f"{name}.wav")


def test_the_reply_says_what_is_free(talk: Conversation) -> None:
    assert talk.send("unload", id="u") == []
    assert talk.is_unloading
    assert talk.send("ping", id="p")[0]["state"] == "unloaded"
    [reply] = talk.unloaded(4096)
    assert (reply["type"], reply["freed_bytes"]) == ("unloaded", 4096)
    assert talk.send("ping", id="q")[0]["state"] == "unloaded"
    assert talk.loads == 1


def test_nothing_is_freed_where_nothing_is_loaded() -> None:
    talk = Conversation()
    talk.send("unload", id="u")
    [reply] = talk.unloaded(4096)  # of a process without a model
    assert reply["freed_bytes"] == 0
    assert talk.loads == 0


def test_what_was_accepted_before_is_decoded_first(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    assert not talk.is_unloading
    assert types(talk.decode()) == [("a", "transcript")]
    assert talk.is_unloading
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_what_waits_for_a_flush_is_decoded_and_its_text_kept(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=60_000)
    talk.speak("one", "s", id="b")
    talk.send("unload", id="u")
    assert talk.decode(transcript("Kept.")) == []
    talk.unloaded()
    [reply] = talk.send("flush", id="f")
    assert [item["text"] for item in reply["items"]] == ["Kept."]
    assert talk.loads == 1


def test_what_is_read_after_it_waits_and_loads_again(talk: Conversation) -> None:
    transcribe(talk, "before")
    talk.send("unload", id="u")
    transcribe(talk, "after")
    talk.send("start", id="again")
    assert len(talk.jobs) == 1
    talk.decode()
    assert talk.loads == 1
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert (talk.loads, talk.jobs) == (2, {})
    [ready] = talk.load()
    assert (ready["id"], ready["load"]) == ("again", "cold")
    assert types(talk.decode()) == [("after", "transcript")]


def test_a_file_read_after_it_holds_up_no_file_before(talk: Conversation) -> None:
    """The later file is in memory first."""
    talk.send("transcribe", id="before", audio="before.wav")
    talk.send("unload", id="u")
    transcribe(talk, "after")
    talk.read("before.wav")
    assert types(talk.decode()) == [("before", "transcript")]
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_abort_cancels_what_waits_and_what_is_decoded(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=60_000)
    talk.speak("one", "s", id="b")
    transcribe(talk, "a")
    assert types(talk.send("unload", id="u", mode="abort")) == [("a", "cancelled")]
    assert talk.is_unloading
    assert types(talk.unloaded()) == [("u", "unloaded")]
    [reply] = talk.send("flush", id="f")
    assert [item["error"]["code"] for item in reply["items"]] == ["cancelled"]


def test_during_a_load_it_waits_for_it() -> None:
    talk = Conversation()
    talk.send("start", id="start")
    talk.send("unload", id="u")
    assert not talk.is_unloading
    assert types(talk.load()) == [("start", "ready")]
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_abort_ends_a_load() -> None:
    talk = Conversation()
    talk.send("start_stream", id="s")
    assert types(talk.send("unload", id="u", mode="abort")) == [("s", "cancelled")]
    assert talk.is_unloading
    assert types(talk.load()) == []  # it had ended already
    [reply] = talk.unloaded()
    assert reply["freed_bytes"] > 0
    assert talk.send("ping", id="p")[0]["state"] == "unloaded"
    talk.send("start", id="again")
    assert talk.loads == 2


def test_after_a_failed_load_the_state_is_unloaded() -> None:
    talk = Conversation()
    talk.send("start", id="start")
    talk.fail_load()
    talk.send("unload", id="u")
    assert talk.send("ping", id="p")[0]["state"] == "unloaded"


def test_a_load_that_fails_while_it_is_ended_fails_nothing() -> None:
    talk = Conversation()
    talk.send("start", id="start")
    talk.send("unload", id="u", mode="abort")
    talk.fail_load()
    talk.unloaded()
    assert talk.send("ping", id="p")[0]["state"] == "unloaded"


def test_abort_ends_a_load_before_it_has_begun() -> None:
    talk = Conversation()
    talk.receive_together([{"type": "start", "id": "start"}, {"type": "unload", "id": "u", "mode": "abort"}])
    talk.perform()
    assert (talk.loads, talk.is_unloading) == (0, True)


def test_abort_cancels_what_waits_behind_an_earlier_unload(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="first")
    talk.send("start", id="start")
    talk.send("start_stream", id="s", stream_id="s")
    transcribe(talk, "b")
    lines = talk.send("unload", id="u", mode="abort")
    assert sorted(types(lines)) == [(name, "cancelled") for name in ("a", "b", "first", "s", "start")]
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert talk.loads == 1


def test_abort_leaves_an_unload_that_has_begun(talk: Conversation) -> None:
    talk.send("unload", id="first")
    transcribe(talk, "b")
    assert types(talk.send("unload", id="u", mode="abort")) == [("b", "cancelled")]
    assert types(talk.unloaded()) == [("first", "unloaded")]
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_a_load_that_fails_ends_what_waits_for_it_and_nothing_behind_the_unload() -> None:
    talk = Conversation()
    transcribe(talk, "before")
    talk.send("unload", id="u")
    transcribe(talk, "after")
    assert types(talk.fail_load()) == [("before", "model_not_found")]
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert talk.loads == 2
    talk.load()
    assert types(talk.decode()) == [("after", "transcript")]


def test_two_unloads_and_what_is_between_them(talk: Conversation) -> None:
    talk.send("unload", id="first")
    transcribe(talk, "between")
    talk.send("unload", id="second")
    transcribe(talk, "behind")
    assert types(talk.unloaded()) == [("first", "unloaded")]
    talk.load()
    assert len(talk.jobs) == 1
    assert types(talk.decode()) == [("between", "transcript")]
    assert types(talk.unloaded()) == [("second", "unloaded")]
    talk.load()
    assert types(talk.decode()) == [("behind", "transcript")]


def test_no_load_is_begun_between_two_unloads_for_what_is_behind_both(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="first")
    talk.send("unload", id="second")
    transcribe(talk, "behind")
    talk.decode()
    assert types(talk.unloaded()) == [("first", "unloaded")]
    assert (talk.is_unloading, talk.loads) == (True, 1)


def test_an_open_utterance_keeps_its_audio_and_loads_the_model_with_its_next_partial(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.chunk(3200, "s")
    talk.end_partial()
    talk.send("unload", id="u")
    talk.unloaded()
    assert talk.loads == 1
    talk.chunk(3200, "s")
    assert talk.loads == 2
    talk.load()
    assert [partial.given for partial in talk.partials.values()] == [6400]
    talk.send("end_utterance", id="b", stream_id="s")
    talk.send("flush", id="f")
    assert [len(job.utterance.samples) for job in talk.jobs.values()] == [6400]


def open_partial_streams(talk: Conversation, *streams: str) -> None:
    """Each with a partial that is due."""
    for stream in streams:
        talk.send("start_stream", id=stream, stream_id=stream, partials=True, partial_interval_ms=100)
        talk.chunk(3200, stream)


def test_a_partial_that_is_computed_or_due_waits_for_the_next_chunk(talk: Conversation) -> None:
    open_partial_streams(talk, "s", "t")
    assert len(talk.partials) == 1
    talk.send("unload", id="u")
    assert talk.is_unloading
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert (talk.partials, talk.loads) == ({}, 1)
    for stream in ("s", "t"):
        talk.chunk(1600, stream)
    assert talk.loads == 2
    talk.load()
    assert [partial.given for partial in talk.partials.values()] == [4800]
    talk.end_partial()
    assert [partial.given for partial in talk.partials.values()] == [4800]


def test_no_partial_begins_while_files_are_decoded_before_it(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.send("unload", id="u")
    talk.chunk(3200, "s")
    assert talk.partials == {}
    talk.decode()
    talk.unloaded()
    assert talk.loads == 2  # the chunk came behind it


def test_a_partial_of_an_engine_that_ends_before_the_unload_loads_nothing_after_it(talk: Conversation) -> None:
    transcribe(talk, "a")
    open_partial_streams(talk, "s")
    talk.send("unload", id="u")
    talk.end_engine()
    talk.load()
    talk.decode()
    talk.unloaded()
    assert talk.loads == 2


def test_a_cancelled_unload_drops_no_partial_that_is_due(talk: Conversation) -> None:
    transcribe(talk, "a")
    open_partial_streams(talk, "s", "t")
    talk.send("unload", id="u")
    talk.send("cancel", id="c", target="u")
    talk.end_partial()
    assert len(talk.partials) == 1


def test_events_are_delivered_before_it(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", auto_flush=True, max_batch_delay_ms=60_000)
    talk.speak("one", "s", id="b")
    talk.send("unload", id="u")
    [event] = talk.decode(transcript("Said."))
    assert [item["text"] for item in event["items"]] == ["Said."]
    talk.unloaded()
    assert talk.session.deadline is None


def test_partials_load_no_model_that_could_not_be_loaded(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", partials=True, partial_interval_ms=100)
    talk.send("unload", id="u")
    talk.unloaded()
    talk.chunk(3200, "s")
    talk.fail_load()
    talk.chunk(3200, "s")
    assert talk.loads == 2


def test_it_can_be_cancelled_while_it_waits(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    transcribe(talk, "b")
    assert types(talk.send("cancel", id="c", target="u")) == [("u", "cancelled"), ("c", "cancel_result")]
    assert len(talk.jobs) == 2
    talk.decode()
    talk.decode()
    assert not talk.is_unloading
    assert talk.send("start", id="again")[0]["load"] == "none"


def test_a_cancel_that_comes_too_late_changes_nothing(talk: Conversation) -> None:
    talk.send("unload", id="u")
    [result] = talk.send("cancel", id="c", target="u")
    assert result["state"] == "cancelling"
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_a_request_behind_it_can_be_cancelled(talk: Conversation) -> None:
    talk.send("unload", id="u")
    talk.send("start", id="again")
    transcribe(talk, "b")
    assert talk.send("status", id="s")[0]["queues"]["ready"] == 1
    talk.send("cancel", id="c", target="again")
    talk.send("cancel", id="d", target="b")
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert talk.loads == 1
    talk.send("start", id="later")
    talk.load()
    assert talk.jobs == {}


def test_after_its_timeout_the_model_stays(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u", timeout_ms=100)
    talk.send("start", id="again")
    assert types(talk.wait(0.1)) == [("u", "timeout"), ("again", "ready")]
    talk.decode()
    assert not talk.is_unloading


def test_no_timeout_ends_an_unload_that_has_begun(talk: Conversation) -> None:
    talk.send("unload", id="u", timeout_ms=100)
    assert talk.wait(0.2) == []
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_a_second_unload_may_time_out_while_the_first_waits(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    talk.send("unload", id="v", timeout_ms=100)
    assert types(talk.wait(10)) == [("v", "timeout")]
    talk.decode()
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert not talk.is_unloading


def test_a_start_behind_an_unload_that_was_cancelled_waited_for_no_load(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    talk.send("start", id="again")
    lines = talk.send("cancel", id="c", target="u")
    assert [line["load"] for line in lines if line["type"] == "ready"] == ["none"]


def test_the_request_behind_it_that_needs_the_model_first_reports_its_load(talk: Conversation) -> None:
    talk.send("hello", want=["progress"])
    talk.send("unload", id="u")
    for name in ("a", "b"):
        transcribe(talk, name)
    talk.unloaded()
    talk.session.outcome(Progress("load"))
    assert [line["request_id"] for line in talk.perform()] == ["a"]
    talk.load()
    assert [talk.decode()[0]["load_seconds"] for _ in range(2)] == [1.5, 0.0]


def test_an_utterance_decoded_again_with_other_options_waits_too(talk: Conversation) -> None:
    talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=60_000)
    talk.speak("one", "s", id="b")
    transcribe(talk, "a")
    talk.send("unload", id="u")
    talk.decode()  # the utterance
    talk.send("flush", id="f", max_new_tokens=7)
    assert types(talk.decode()) == [("a", "transcript")]
    assert types(talk.unloaded()) == [("u", "unloaded")]
    talk.load()
    assert types(talk.decode()) == [("f", "realtime_batch_final")]


def test_a_failed_load_leaves_alone_what_waits_behind_an_unload() -> None:
    talk = Conversation()
    talk.send("start_stream", max_batch_delay_ms=60_000)
    talk.send("unload", id="u")
    talk.speak("one", id="b")
    talk.send("unload", id="v")
    talk.fail_load()
    assert types(talk.unloaded()) == [("u", "unloaded")]
    assert talk.loads == 2
    talk.load()
    assert not talk.is_unloading
    talk.decode()
    assert types(talk.unloaded()) == [("v", "unloaded")]


def test_a_load_that_waits_for_its_time_is_not_awaited_for_what_comes_later(talk: Conversation) -> None:
    for _ in range(2):
        talk.end_engine()
        talk.wait(0.5)
    loads = talk.loads
    talk.send("unload", id="u")
    transcribe(talk, "after")
    assert (talk.is_unloading, talk.loads) == (True, loads)
    talk.unloaded(0)
    assert talk.loads == loads + 1


def test_without_ids_the_reply_comes_in_its_order(talk: Conversation) -> None:
    talk.send("transcribe", audio="a.wav")
    talk.send("unload")
    talk.send("transcribe", audio="b.wav")
    talk.read("b.wav")
    talk.read("a.wav")
    assert types(talk.decode()) == [(None, "transcript")]
    assert types(talk.unloaded()) == [(None, "unloaded")]


def test_an_engine_that_ends_before_it_is_started_for_what_is_left(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    talk.end_engine()
    assert talk.loads == 2
    talk.load()
    assert types(talk.decode()) == [("a", "transcript")]
    assert types(talk.unloaded()) == [("u", "unloaded")]


def test_an_engine_that_ends_while_it_unloads_is_not_started_again(talk: Conversation) -> None:
    talk.send("unload", id="u")
    talk.session.outcome(EngineEnded("SIGKILL"))
    assert talk.perform() == []
    assert types(talk.unloaded(0)) == [("u", "unloaded")]
    assert talk.loads == 1
    assert talk.send("status", id="s")[0]["engine_last_end"] is None


def test_stop_waits_for_it_and_for_what_is_behind_it(talk: Conversation) -> None:
    talk.send("unload", id="u")
    transcribe(talk, "behind")
    talk.send("stop", id="stop")
    talk.unloaded()
    assert talk.loads == 2
    talk.load()
    assert types(talk.decode()) == [("behind", "transcript")]
    assert not talk.session.pending


def test_an_aborted_session_does_not_wait_for_it(talk: Conversation) -> None:
    transcribe(talk, "a")
    talk.send("unload", id="u")
    talk.send("start", id="again")
    lines = talk.send("stop", id="stop", mode="abort")
    assert sorted(types(lines)) == [(name, "shutting_down") for name in ("a", "again", "u")]
    assert not talk.session.pending


class TestKeepAlive:
    def test_an_idle_model_is_unloaded_after_so_many_seconds(self) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=60)))
        talk.wait(59)
        assert not talk.is_unloading
        talk.wait(5)
        assert talk.is_unloading
        assert talk.unloaded() == []
        talk.wait(1000)
        assert not talk.is_unloading

    def test_it_never_is_by_default(self, talk: Conversation) -> None:
        talk.wait(10**6)
        assert not talk.is_unloading

    @pytest.mark.parametrize("work", ["job", "audio", "waiting", "load"])
    def test_no_second_counts_in_which_there_is_work(self, work: str) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=60)))
        talk.send("start_stream", id="s", stream_id="s", max_batch_delay_ms=60_000)
        if work == "job":
            transcribe(talk, "a")
        elif work == "audio":
            talk.chunk(160, "s")
        elif work == "waiting":
            talk.speak("one", "s", id="b")
            talk.wait(60)
            talk.decode()
        else:
            talk.end_engine()
        talk.wait(1000)
        assert not talk.is_unloading
        if work == "job":  # and none waits for it
            transcribe(talk, "b")
            assert len(talk.jobs) == 2

    def test_with_zero_it_is_after_an_outcome_and_not_after_a_start(self) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=0)))
        talk.wait(1000)
        assert not talk.is_unloading
        transcribe(talk, "a")
        transcribe(talk, "b")
        talk.decode()
        talk.wait(0)
        assert not talk.is_unloading
        talk.decode()
        talk.wait(0)
        assert talk.is_unloading
        talk.unloaded()
        talk.send("start", id="again")
        talk.load()
        talk.wait(1000)
        assert not talk.is_unloading

    def test_with_zero_it_is_also_after_an_outcome_that_came_before_the_load(self) -> None:
        talk = Conversation(Settings(keep_alive_seconds=0))
        talk.send("transcribe", id="a", audio="a.wav")
        talk.fail_read("a.wav")
        talk.load()
        talk.wait(0)
        assert talk.is_unloading

    def test_with_zero_an_earlier_outcome_does_not_count(self, talk: Conversation) -> None:
        transcribe(talk, "a")
        talk.decode()
        talk.send("start", id="again", keep_alive_seconds=0)
        talk.wait(1000)
        assert not talk.is_unloading

    def test_the_latest_start_wins_and_its_seconds_count_from_it(self) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=60)))
        talk.wait(30)
        talk.send("start", id="shorter", keep_alive_seconds=10)
        talk.wait(9)
        assert not talk.is_unloading
        talk.send("start", id="as before")
        talk.wait(9)
        assert not talk.is_unloading
        talk.send("start", id="never", keep_alive_seconds=-1)
        talk.wait(1000)
        assert not talk.is_unloading
        talk.send("start", id="longer", keep_alive_seconds=100)
        talk.wait(100)
        assert talk.is_unloading

    def test_a_stream_that_is_opened_counts_as_use(self) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=60)))
        talk.wait(59)
        talk.send("start_stream", id="s", stream_id="s")
        talk.wait(59)
        assert not talk.is_unloading

    def test_a_request_in_the_moment_of_unloading_loads_again(self) -> None:
        talk = loaded(Conversation(Settings(keep_alive_seconds=60)))
        talk.wait(60)
        transcribe(talk, "a")
        talk.unloaded()
        assert talk.loads == 2
        talk.load()
        assert types(talk.decode()) == [("a", "transcript")]


def test_ready_says_where_the_load_came_from(talk: Conversation) -> None:
    assert talk.monitor.replies[-1]["load"] == "cold"
    assert talk.send("start", id="again")[0]["load"] == "none"
