"""Rows 17 to 21: what may be wrong with a request, sent to the real process. After each the bridge is up."""

import pytest
from e2e.client import Client
from rows.bridge import command


@pytest.mark.parametrize(
    "type_", ["transcrbe", "TRANSCRIBE", "", "x" * 10_000, "ready", "stopped"], ids=lambda t: t[:12]
)
def test_row_17_an_unknown_type_names_the_known_ones(bridge: Client, type_: str) -> None:
    known = bridge.ask("capabilities")["messages"]
    reply = bridge.ask(type_)
    assert (reply["code"], reply["data"]["supported"]) == ("unknown_type", known)
    assert len(reply["message"]) < 1_000


@pytest.mark.parametrize(
    "line", [b"{}", b'{"type":null}', b'{"type":7}', b'{"type":["stop"]}', b'{"type":{}}'], ids=str
)
def test_row_17_a_type_that_is_missing_or_no_string(bridge: Client, line: bytes) -> None:
    bridge.write(line)
    assert bridge.read()["code"] == "invalid_request"


def test_row_18_a_field_that_is_not_known_is_named_once(bridge: Client, speech: str) -> None:
    reply = bridge.ask("transcribe", audio=speech, max_new_token=7, langauge="en")
    assert reply["type"] == "transcript"
    assert [sum(name in warning for warning in reply["warnings"]) for name in ("max_new_token", "langauge")] == [1, 1]


def test_row_65_no_request_is_rejected_as_not_ready(bridge: Client, speech: str) -> None:
    assert "not_ready" not in bridge.ask("capabilities")["error_codes"]
    reply = bridge.ask("transcribe", audio=speech, wait=False)
    assert (reply["type"], reply["warnings"]) == ("transcript", ["unknown_field: wait"])


@pytest.mark.parametrize("value", [True, 1.5, "7.5", {"a": 1}, [7], "seven"], ids=str)
@pytest.mark.parametrize("type_", ["transcribe", "batch_transcribe"])
def test_row_19_a_number_that_is_none(bridge: Client, type_: str, value: object) -> None:
    audio = "/a" if type_ == "transcribe" else ["/a"]
    reply = bridge.ask(type_, audio=audio, max_new_tokens=value)
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "max_new_tokens")


@pytest.mark.parametrize("value", [{"a": 1}, True, ["default"], 1.5], ids=str)
@pytest.mark.parametrize("type_", ["start_stream", "audio_chunk", "end_utterance", "vad_boundary", "stop_stream"])
def test_row_19_a_stream_id_that_is_none(bridge: Client, type_: str, value: object) -> None:
    reply = bridge.ask(type_, stream_id=value, pcm16="")
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "stream_id")


def test_row_19_digits_in_a_string_count_as_their_number(bridge: Client, speech: str) -> None:
    assert bridge.ask("transcribe", audio=speech, max_new_tokens="7")["type"] == "transcript"
    reply = bridge.ask("start_stream", stream_id="digits", batch_size="2", max_batch_delay_ms="50")
    assert (reply["batch_size"], reply["max_batch_delay_ms"]) == (2, 50)
    bridge.ask("stop_stream", stream_id="digits")


@pytest.mark.parametrize("value", [-5, -1, 10**9, 2**53], ids=str)
def test_row_20_a_budget_out_of_range(bridge: Client, value: int) -> None:
    reply = bridge.ask("transcribe", audio="/a", max_new_tokens=value)
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "max_new_tokens")


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 10**9), ("max_batch_delay_ms", -1), ("max_batch_delay_ms", 10**12), ("batch_size", -3)],
    ids=str,
)
def test_row_20_a_stream_option_out_of_range_is_refused_or_the_effective_value_reported(
    bridge: Client, field: str, value: int
) -> None:
    reply = bridge.ask("start_stream", stream_id="range", **{field: value})
    if reply["type"] == "stream_ready":
        limits = bridge.ask("capabilities")["limits"]
        assert 0 <= reply[field] <= limits.get(f"max_{field}", value)
        assert reply[field] != value
        bridge.ask("stop_stream", stream_id="range")
    else:
        assert (reply["code"], reply["data"]["field"]) == ("invalid_params", field)


@pytest.mark.parametrize("identifier", [{}, [], 1.5, True, "", "x" * 129, "a\nb", "\ud800", "\x7f"], ids=repr)
def test_row_21_an_id_that_cannot_be_one(bridge: Client, identifier: object) -> None:
    reply = bridge.ask("capabilities", id=identifier)
    assert (reply["code"], reply["id"]) == ("invalid_request", None)


@pytest.mark.parametrize("identifier", [0, -1, 2**53, "x" * 128, "é😀", " ", "7"], ids=repr)
def test_row_21_an_id_is_echoed_as_it_came(bridge: Client, identifier: str | int) -> None:
    reply = bridge.ask("capabilities", id=identifier)
    assert reply["id"] == identifier
    assert type(reply["id"]) is type(identifier)


def test_row_21_an_id_in_flight_is_refused_and_the_first_request_is_not_touched(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech, id="r1")
        refused = bridge.ask("transcribe", audio=speech, id="r1")
        assert (refused["code"], refused["id"]) == ("duplicate_id", "r1")
        bridge.send("cancel", id="c", target="r1")
        replies = {reply["id"]: reply for reply in (bridge.read(), bridge.read())}
        assert (replies["c"]["type"], replies["r1"]["code"]) == ("cancel_result", "cancelled")
        assert bridge.ask("capabilities", id="r1")["type"] == "capabilities"  # it is free again
        assert bridge.wait() == 0
