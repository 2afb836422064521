"""The progress of a file: which events come, what they say, and when none comes."""

import numpy as np
import pytest
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.errors import DecodeFailed

SECOND = 16_000


@pytest.fixture
def talk() -> Conversation:
    talk = Conversation()
    talk.send("hello", want=["progress"])
    talk.send("start")
    talk.load()
    return talk


def read(talk: Conversation, seconds: float, *, total: float | None, is_last: bool = False) -> list[dict]:
    """The next segment of the file."""
    samples = np.zeros(int(seconds * SECOND), np.float32)
    return talk.read("a", samples=samples, is_last=is_last, announced_seconds=total)


def transcribe(talk: Conversation, **members: object) -> list[dict]:
    return talk.send("transcribe", **{"audio": "a", "progress": True, **members})


def progress(lines: list[dict]) -> list[tuple]:
    """What the events of these lines say; there is nothing else."""
    assert {line["type"] for line in lines} <= {"progress"}
    assert {line["stage"] for line in lines} <= {"transcribe"}
    return [(line.get("request_id"), line["done"], line["total"]) for line in lines]


def two_segments(talk: Conversation, **members: object) -> None:
    """A file of 75 s, of which two of three segments are read."""
    transcribe(talk, **{"id": "f", **members})
    assert progress(read(talk, 28, total=75)) == [("f", 0, 75_000)]
    assert read(talk, 27.5, total=75) == []


def test_every_segment_but_the_last_has_an_event_with_what_is_done_of_the_whole(talk: Conversation) -> None:
    two_segments(talk)
    assert progress(talk.decode()) == [("f", 28_000, 75_000)]
    assert read(talk, 19.5, total=75, is_last=True) == []
    assert progress(talk.decode()) == [("f", 55_500, 75_000)]
    assert [line["type"] for line in talk.decode()] == ["transcript"]
    talk.send("stop")
    talk.finish()
    talk.monitor.finish()


def test_segments_that_end_in_another_order_count_as_they_end(talk: Conversation) -> None:
    two_segments(talk, decoder_mode="batched")
    read(talk, 19.5, total=75, is_last=True)
    assert progress(talk.decode(job_id=max(talk.jobs))) == [("f", 19_500, 75_000)]
    assert progress(talk.decode(job_id=max(talk.jobs))) == [("f", 47_000, 75_000)]
    assert [line["type"] for line in talk.decode()] == ["transcript"]


def test_a_file_of_one_segment_has_no_event(talk: Conversation) -> None:
    transcribe(talk)
    assert read(talk, 28, total=28, is_last=True) == []
    assert [line["type"] for line in talk.decode()] == ["transcript"]


def test_a_request_without_id_has_events_without_it(talk: Conversation) -> None:
    transcribe(talk)
    [event] = read(talk, 28, total=75)
    assert "request_id" not in event


@pytest.mark.parametrize("asked", [{"progress": False}, {"progress": None}, {}], ids=str)
def test_who_does_not_ask_sees_nothing(talk: Conversation, asked: dict) -> None:
    talk.send("transcribe", id="f", audio="a", **asked)
    assert read(talk, 28, total=75) == read(talk, 28, total=75) == talk.decode() == []


@pytest.mark.parametrize("want", [[], ["events"]], ids=str)
def test_who_wants_no_progress_sees_nothing(talk: Conversation, want: list[str]) -> None:
    talk.send("hello", want=want)
    transcribe(talk)
    assert read(talk, 28, total=75) == read(talk, 28, total=75) == talk.decode() == []


def test_other_requests_do_not_take_it(talk: Conversation) -> None:
    talk.send("align", audio="a", text="", language="en", progress=True, id=1)
    [reply] = talk.read("a") or talk.align()
    assert reply["warnings"] == ["unknown_field: progress"]
    talk.send("batch_transcribe", audio=["a"], progress=True, id=2)
    assert read(talk, 28, total=75) == read(talk, 28, total=75, is_last=True) == talk.decode() == []
    [reply] = talk.decode()
    assert reply["warnings"] == ["unknown_field: progress"]
    [reply] = talk.send("start_stream", progress=True)
    assert reply["warnings"] == ["unknown_field: progress"]


@pytest.mark.parametrize("value", ["yes", 2, [], {}])
def test_progress_is_true_or_false(talk: Conversation, value: object) -> None:
    [reply] = talk.send("transcribe", id="f", audio="a", progress=value)
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "progress")
    assert talk.reads == {}


def test_a_length_that_no_header_gives_is_null(talk: Conversation) -> None:
    transcribe(talk)
    assert progress(read(talk, 28, total=None)) == [(None, 0, None)]
    read(talk, 28, total=None)
    assert progress(talk.decode()) == [(None, 28_000, None)]


def test_a_length_that_the_text_exceeds_is_null_from_then_on(talk: Conversation) -> None:
    transcribe(talk)
    assert progress(read(talk, 28, total=40)) == [(None, 0, 40_000)]
    read(talk, 28, total=40)
    assert progress(talk.decode()) == [(None, 28_000, 40_000)]
    read(talk, 28, total=40)
    assert progress(talk.decode()) == [(None, 56_000, None)]


def test_a_length_that_grows_by_another_header_is_the_new_one(talk: Conversation) -> None:
    transcribe(talk)
    assert progress(read(talk, 28, total=40)) == [(None, 0, 40_000)]
    read(talk, 28, total=80)
    assert progress(talk.decode()) == [(None, 28_000, 80_000)]


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_a_segment_that_the_engine_loses_is_counted_once(talk: Conversation, mode: str) -> None:
    two_segments(talk, decoder_mode=mode)
    assert progress(talk.decode()) == [("f", 28_000, 75_000)]
    read(talk, 19.5, total=75, is_last=True)
    assert len(talk.jobs) == 2
    [event] = talk.end_engine()
    assert event["type"] == "engine_restarting"
    talk.load()
    assert progress(talk.decode()) == [("f", 55_500, 75_000)]
    assert [line["type"] for line in talk.decode()] == ["transcript"]


def test_nothing_comes_after_a_cancel_whatever_the_engine_still_ends(talk: Conversation) -> None:
    two_segments(talk)
    assert [line["type"] for line in talk.send("cancel", id=2, target="f")] == ["cancel_result"]
    assert talk.decode() == []
    assert [line["code"] for line in talk.decode()] == ["cancelled"]


def test_nothing_comes_after_a_time_out(talk: Conversation) -> None:
    two_segments(talk, timeout_ms=1000)
    assert [line["code"] for line in talk.wait(1.0)] == ["timeout"]
    assert talk.decode() == talk.decode() == []


@pytest.mark.parametrize("fails", ["decoder", "reader"])
def test_nothing_comes_after_a_failure(talk: Conversation, fails: str) -> None:
    two_segments(talk)
    lines = talk.decode(DecodeFailed("planted")) if fails == "decoder" else talk.fail_read("a")
    assert [line["type"] for line in lines] == ["error"]
    while talk.jobs:
        assert talk.decode() == []


def test_events_of_two_files_are_their_own(talk: Conversation) -> None:
    two_segments(talk)
    transcribe(talk, id="g", audio="b")
    lines = talk.read("b", samples=np.zeros(20 * SECOND, np.float32), is_last=False, announced_seconds=30.0)
    assert progress(lines) == [("g", 0, 30_000)]
    assert progress(talk.decode()) == [("f", 28_000, 75_000)]


def test_words_are_no_part_of_it(talk: Conversation) -> None:
    """The text is done before its words are."""
    transcribe(talk, words=True)
    read(talk, 20, total=30)
    read(talk, 10, total=30, is_last=True)
    assert progress(talk.decode()) == [(None, 20_000, 30_000)]
    assert talk.decode() == talk.align() == []
    assert [line["type"] for line in talk.align()] == ["transcript"]


def test_what_waits_for_a_reader_is_bounded(talk: Conversation) -> None:
    """Nothing starts while lines wait, so no more wait than jobs were under way."""
    two_segments(talk)
    talk.reads_lines = False
    talk.decode()
    talk.decode()
    assert talk.jobs == {}
    assert talk.session.pending == 3  # the request, and two events
    talk.reads_lines = True
    assert progress(talk.perform()) == [("f", 28_000, 75_000), ("f", 55_500, 75_000)]


def test_the_model_may_be_loaded_meanwhile() -> None:
    talk = Conversation()
    talk.send("hello", want=["progress"])
    transcribe(talk, id="f")
    assert progress(read(talk, 28, total=75)) == [("f", 0, 75_000)]
    talk.load()
    assert progress(talk.decode()) == [("f", 28_000, 75_000)]
