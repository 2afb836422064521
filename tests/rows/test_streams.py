"""Rows 37 to 48 and 60: what may be wrong with the chunks and boundaries of streams, in the real process."""

import base64
import itertools

import numpy as np
import pytest
from e2e.client import Client
from rows.bridge import command

SECOND = 16_000
names = (f"stream-{number}" for number in itertools.count())


def pcm(samples: int) -> str:
    return base64.b64encode(np.zeros(samples, "<i2").tobytes()).decode()


@pytest.fixture
def stream(bridge: Client) -> str:
    """A stream of its own for every test, with a batch that no test fills by chance."""
    name = next(names)
    assert bridge.ask("start_stream", stream_id=name, batch_size=16)["type"] == "stream_ready"
    return name


def finals(bridge: Client) -> list[dict]:
    return bridge.ask("flush")["items"]


@pytest.mark.parametrize(
    "garbage",
    [
        "!!!!AAAA????AAAA",
        "AAAA AAAA",
        "AAA",
        "AAAA\n",
        "__--",
        "====",
        "AA==AA==",
        "AAA==",
        "AAAA=",
        "AAB=",
        "é",
        7,
        None,
        ["AAAA"],
    ],
    ids=str,
)
def test_row_37_base64_that_is_none_is_not_appended(bridge: Client, stream: str, garbage: object) -> None:
    bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(100))
    reply = bridge.ask("audio_chunk", stream_id=stream, pcm16=garbage)
    assert reply["code"] in ("bad_base64", "invalid_params")
    assert not isinstance(garbage, str) or reply["code"] == "bad_base64"
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(100))["samples_buffered"] == 200
    bridge.ask("end_utterance", stream_id=stream)
    (item,) = finals(bridge)
    assert item["samples"] == 200
    if isinstance(garbage, str):
        assert item["audio_gap"] is True


def test_row_38_half_a_sample_is_not_appended(bridge: Client, stream: str) -> None:
    reply = bridge.ask("audio_chunk", stream_id=stream, pcm16=base64.b64encode(b"abc").decode())
    assert reply["code"] == "odd_pcm_length"
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10))["samples_buffered"] == 10


def test_row_39_an_empty_chunk_is_one_and_half_a_minute_is_the_most(bridge: Client, stream: str) -> None:
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16="")["samples_buffered"] == 0
    limit = bridge.ask("capabilities")["limits"]["max_chunk_seconds"]
    assert limit == 30
    reply = bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(int(limit * SECOND) + 1))
    assert reply["code"] == "invalid_params"
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(int(limit * SECOND)))["samples_buffered"] == 480_000


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_row_40_another_sample_rate(bridge: Client, rate: int) -> None:
    stream, tenth = next(names), pcm(rate // 10)
    assert bridge.ask("start_stream", stream_id=stream, sample_rate=rate, batch_size=16)["sample_rate"] == rate
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=tenth)["samples_buffered"] == 1_600
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=tenth, sample_rate=rate)["samples_buffered"] == 3_200
    assert bridge.ask("end_utterance", stream_id=stream)["samples"] == 3_200
    (item,) = finals(bridge)
    assert (item["samples"], item["audio_gap"]) == (3_200, False)


@pytest.mark.parametrize("rate", [7_999, 192_001, 1, 0, -16_000])
def test_row_40_a_sample_rate_that_is_none(bridge: Client, rate: int) -> None:
    reply = bridge.ask("start_stream", stream_id=next(names), sample_rate=rate)
    assert reply["code"] == "unsupported_sample_rate"
    assert reply["data"]["supported"] == bridge.ask("capabilities")["audio"]["stream_rates"]


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 1])
def test_row_40_another_sample_rate_than_the_streams(bridge: Client, stream: str, rate: int) -> None:
    reply = bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10), sample_rate=rate)
    assert (reply["code"], reply["data"]["supported"]) == ("unsupported_sample_rate", [16_000])
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10), sample_rate=16_000)["samples_buffered"] == 10


def test_row_41_a_chunk_for_an_unknown_stream_makes_one_in_lock_step_and_says_so(bridge: Client) -> None:
    name = next(names)
    reply = bridge.ask("audio_chunk", stream_id=name, pcm16=pcm(10))
    assert (reply["type"], reply["samples_buffered"]) == ("partial_result", 10)
    assert "implicit_stream" in reply["warnings"]
    bridge.ask("stop_stream", stream_id=name)


def test_row_41_a_chunk_for_an_unknown_stream_is_refused_where_events_are_wanted() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("hello", id=1, want=["events"])
        for type_ in ("audio_chunk", "end_utterance", "stop_stream"):
            assert bridge.ask(type_, id=type_, stream_id="nowhere", pcm16=pcm(10))["code"] == "unknown_stream"
        bridge.send("audio_chunk", stream_id="nowhere", pcm16=pcm(10))
        event = bridge.read()
        assert (event["type"], event["event"], event["code"]) == ("stream_error", True, "unknown_stream")
        assert bridge.wait() == 0


def test_row_42_sequence_numbers(bridge: Client, stream: str) -> None:
    def chunk(**members: object) -> dict:
        return bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10), **members)

    assert chunk(seq=0)["samples_buffered"] == 10
    assert chunk(seq=1)["samples_buffered"] == 20
    duplicate = chunk(seq=1)
    assert (duplicate["duplicate"], duplicate["samples_buffered"]) == (True, 20)
    assert chunk(seq=0)["code"] == "seq_out_of_order"
    gap = chunk(seq=5)
    assert (gap["gap"], gap["samples_buffered"]) == ({"expected": 2, "got": 5}, 30)
    assert chunk()["samples_buffered"] == 40
    bridge.ask("end_utterance", stream_id=stream)
    (item,) = finals(bridge)
    assert (item["samples"], item["audio_gap"]) == (40, True)


def test_row_43_a_boundary_without_audio_queues_nothing(bridge: Client, stream: str) -> None:
    for type_ in ("end_utterance", "vad_boundary"):
        assert bridge.ask(type_, stream_id=stream)["code"] == "no_audio"
    assert finals(bridge) == []
    bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10))
    assert bridge.ask("end_utterance", stream_id=stream)["utterance_id"] == f"{stream}-1"  # those did not count
    (item,) = finals(bridge)
    assert item["text"] == "10 samples"  # not padded


@pytest.mark.parametrize("members", [{"pcm16": pcm(10)}, {"audio": "/nowhere"}, {"audio": "-"}], ids=str)
def test_row_43_a_boundary_that_brings_its_audio(bridge: Client, stream: str, members: dict) -> None:
    reply = bridge.ask("end_utterance", stream_id=stream, utterance_id="u", **members)
    if reply["type"] == "utterance_queued":
        (item,) = finals(bridge)
        assert item["utterance_id"] == "u"
        assert (item["text"] is None) is ("audio" in members)
    else:
        assert reply["code"] in ("audio_not_found", "path_not_allowed")


def test_row_44_silence_may_have_no_text(bridge: Client, stream: str) -> None:
    """What a model makes of silence is in tests/engine/test_recognizer.py; here an empty text is a result."""
    reply = bridge.ask("end_utterance", stream_id=stream, pcm16=pcm(0) or "")
    assert reply.get("code") == "no_audio"


@pytest.mark.parametrize(("value", "level"), [(32767, 0.0), (16384, -6.0), (-328, -40.0), (1, -90.3), (0, None)])
def test_row_44_results_report_how_loud_it_was(bridge: Client, stream: str, value: int, level: float | None) -> None:
    loud = base64.b64encode(np.full(1600, value, "<i2").tobytes()).decode()
    bridge.ask("end_utterance", stream_id=stream, pcm16=loud)
    (item,) = finals(bridge)
    assert item["rms_dbfs"] == level


def test_row_45_an_utterance_that_is_too_long_takes_no_more() -> None:
    with Client(command("speak")) as bridge:
        limit = int(bridge.ask("capabilities")["limits"]["max_utterance_seconds"] * SECOND)
        step = 30 * SECOND
        for _ in range(limit // step):
            last = bridge.ask("audio_chunk", stream_id="long", pcm16=pcm(step))
        assert last["samples_buffered"] == limit // step * step
        assert bridge.ask("audio_chunk", stream_id="long", pcm16=pcm(step))["code"] == "limit_exceeded"
        assert bridge.ask("end_utterance", stream_id="long", utterance_id="u")["samples"] == limit // step * step
        (item,) = finals(bridge)
        assert item["utterance_id"] == "u"
        assert bridge.wait() == 0


def test_row_46_a_stream_that_exists_in_lock_step_is_restarted_and_what_is_dropped_is_reported(
    bridge: Client, stream: str
) -> None:
    bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(123))
    reply = bridge.ask("start_stream", stream_id=stream)
    assert (reply["type"], reply["dropped_samples"]) == ("stream_ready", 123)
    assert bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(1))["samples_buffered"] == 1


def test_row_46_a_stream_that_exists_is_refused_where_events_are_wanted() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("hello", id=1, want=["events"])
        bridge.ask("start_stream", id=2, stream_id="a")
        bridge.ask("audio_chunk", id=3, stream_id="a", pcm16=pcm(10))
        assert bridge.ask("start_stream", id=4, stream_id="a")["code"] == "stream_exists"
        assert bridge.ask("audio_chunk", id=5, stream_id="a", pcm16=pcm(10))["samples_buffered"] == 20
        assert bridge.ask("start_stream", id=6, stream_id="a", restart=True)["dropped_samples"] == 20
        assert bridge.wait() == 0


def test_row_47_an_utterance_id_may_come_twice(bridge: Client, stream: str) -> None:
    for samples in (10, 20):
        bridge.ask("end_utterance", stream_id=stream, utterance_id="u", pcm16=pcm(samples))
    items = finals(bridge)
    assert [(item["utterance_id"], item["samples"]) for item in items] == [("u", 10), ("u", 20)]
    assert items[0]["job"] != items[1]["job"]


def test_row_48_stopping_a_stream_names_what_is_dropped(bridge: Client, stream: str) -> None:
    bridge.ask("end_utterance", stream_id=stream, utterance_id="u", pcm16=pcm(10))
    bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(77))
    reply = bridge.ask("stop_stream", stream_id=stream)
    assert (reply["type"], reply["dropped_samples"]) == ("stream_stopped", 77)
    (item,) = finals(bridge)
    assert (item["stream_id"], item["utterance_id"]) == (stream, "u")  # what was accepted is not dropped


def test_row_48_a_stream_may_be_discarded_with_what_it_queued(bridge: Client, stream: str) -> None:
    bridge.ask("end_utterance", stream_id=stream, utterance_id="u", pcm16=pcm(10))
    reply = bridge.ask("stop_stream", stream_id=stream, mode="discard")
    assert reply["cancelled_utterances"] == ["u"]
    assert [item["utterance_id"] for item in finals(bridge) if item["text"] is not None] == []


def test_row_48_stopping_an_unknown_stream(bridge: Client) -> None:
    reply = bridge.ask("stop_stream", stream_id=next(names))
    assert reply.get("code") == "unknown_stream"


def test_row_60_a_thousand_streams_of_which_64_are_accepted() -> None:
    with Client(command("speak")) as bridge:
        assert bridge.ask("capabilities")["limits"]["max_streams"] == 64
        replies = [bridge.ask("start_stream", stream_id=f"s{number}") for number in range(1_000)]
        assert [reply["type"] for reply in replies[:64]] == ["stream_ready"] * 64
        assert [reply["code"] for reply in replies[64:]] == ["limit_exceeded"] * 936
        assert bridge.ask("audio_chunk", stream_id="s999", pcm16=pcm(320))["code"] == "limit_exceeded"
        assert bridge.ask("stop_stream", stream_id="s0")["type"] == "stream_stopped"
        assert bridge.ask("start_stream", stream_id="s999")["type"] == "stream_ready"
        assert bridge.wait() == 0


def test_row_60_a_thousand_streams_where_the_limit_allows_them() -> None:
    with Client(command("speak", "--max-streams", "1000")) as bridge:
        for number in range(1_000):
            bridge.send("audio_chunk", stream_id=f"s{number}", pcm16=pcm(320))
        replies = [bridge.read() for _ in range(1_000)]
        assert {reply["samples_buffered"] for reply in replies} == {320}
        assert bridge.ask("start_stream", stream_id="one more")["code"] == "limit_exceeded"
        assert bridge.wait() == 0


@pytest.fixture
def partial_stream(bridge: Client) -> str:
    """A stream with partials."""
    name = next(names)
    ready = bridge.ask("start_stream", stream_id=name, batch_size=16, partials=True, partial_interval_ms=100)
    assert ready["partials"] is True
    return name


def speak(bridge: Client, speech: str, stream_id: str, samples: int = SECOND, **members: object) -> dict:
    """A chunk, and the reply to an empty one after it, when the engine has computed a partial."""
    bridge.ask("audio_chunk", stream_id=stream_id, pcm16=pcm(samples), **members)
    bridge.ask("transcribe", audio=speech)
    return bridge.ask("audio_chunk", stream_id=stream_id, pcm16="")


def test_rows_37_38_40_42_bad_chunks_of_what_is_listened_to(
    bridge: Client, speech: str, stream: str, partial_stream: str
) -> None:
    bridge.ask("audio_chunk", stream_id=stream, pcm16=pcm(10))
    assert speak(bridge, speech, partial_stream, seq=0)["text"] == "one two"
    bad = [{"pcm16": "!!"}, {"pcm16": "YWJj"}, {"pcm16": pcm(9), "sample_rate": 8_000}]
    codes = [bridge.ask("audio_chunk", stream_id=partial_stream, **each)["code"] for each in bad]
    assert codes == ["bad_base64", "odd_pcm_length", "unsupported_sample_rate"]
    duplicate = bridge.ask("audio_chunk", stream_id=partial_stream, pcm16=pcm(SECOND), seq=0)
    assert (duplicate["duplicate"], duplicate["text"]) == (True, "one two")
    partial = speak(bridge, speech, partial_stream, seq=7)
    assert (partial["text"], partial["audio_seconds"], partial["revision"]) == ("one two three four", 2.0, 2)
    assert bridge.ask("audio_chunk", stream_id=partial_stream, pcm16=pcm(9), seq=3)["code"] == "seq_out_of_order"
    for name in (stream, partial_stream):
        bridge.ask("end_utterance", stream_id=name)
    items = finals(bridge)
    assert [(item["text"], item["audio_gap"]) for item in items] == [("10 samples", False), ("32000 samples", True)]


def test_row_43_a_boundary_without_audio_where_it_is_listened_to(
    bridge: Client, speech: str, partial_stream: str
) -> None:
    assert bridge.ask("end_utterance", stream_id=partial_stream)["code"] == "no_audio"
    assert bridge.ask("audio_chunk", stream_id=partial_stream, pcm16="", utterance_id="u")["revision"] == 0
    assert bridge.ask("end_utterance", stream_id=partial_stream)["code"] == "no_audio"
    assert speak(bridge, speech, partial_stream, utterance_id="v")["utterance_id"] == "v"
    assert bridge.ask("end_utterance", stream_id=partial_stream)["utterance_id"] == "v"
    (item,) = finals(bridge)
    assert (item["verified_tokens"], item["final_policy"]) == (2, "guarded")


def test_row_44_silence_alone_is_listened_to_as_anything(bridge: Client, speech: str, partial_stream: str) -> None:
    partial = speak(bridge, speech, partial_stream, 1600)
    assert (partial["revision"], partial["text"], partial["language"], partial["audio_seconds"]) == (1, "", None, 0.1)
    bridge.ask("end_utterance", stream_id=partial_stream)
    (item,) = finals(bridge)
    assert item["rms_dbfs"] is None


def test_rows_46_48_dropped_partials_are_reported(bridge: Client, speech: str, partial_stream: str) -> None:
    speak(bridge, speech, partial_stream)
    again = bridge.ask("start_stream", stream_id=partial_stream, partials=True)
    assert again["dropped_samples"] == SECOND
    assert bridge.ask("audio_chunk", stream_id=partial_stream, pcm16=pcm(10))["revision"] == 0
    speak(bridge, speech, partial_stream)
    assert bridge.ask("stop_stream", stream_id=partial_stream)["dropped_samples"] == SECOND + 10
    assert bridge.ask("status")["queues"]["listening"] == 0
