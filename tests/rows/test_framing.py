"""Rows 1 to 16: what may be wrong with a line, sent to the real process. After each the bridge is up."""

import json
import threading

import pytest
from e2e.client import WAIT, Client
from rows.bridge import command, peak_bytes

GIBIBYTE = 2**30
GROWTH_BYTES = 64 * 2**20


def error(bridge: Client, line: bytes) -> dict:
    bridge.write(line)
    reply = bridge.read()
    assert reply["type"] == "error", reply
    assert reply["id"] is None
    return reply


@pytest.mark.parametrize(
    ("line", "position"),
    [(b'{"type": kettle', 9), (b"{", 1), (b'{"type":"start"', 15), (b"{'type':'start'}", 1), (b'{"a":1}}', 7)],
    ids=str,
)
def test_row_01_malformed_json_reports_its_place_and_echoes_nothing(bridge: Client, line: bytes, position: int) -> None:
    reply = error(bridge, line)
    assert (reply["code"], reply["data"]["position"]) == ("invalid_json", position)
    assert "kettle" not in json.dumps(reply)
    assert "Traceback" not in json.dumps(reply)


def test_row_02_blank_lines_are_passed_over(bridge: Client) -> None:
    for line in (b"", b" ", b"\t \t", b"\r", b" " * 100_000):
        bridge.write(line)
    assert bridge.ask("capabilities")["type"] == "capabilities"


@pytest.mark.parametrize("line", [b"[]", b"7", b"null", b'"start"', b"true", b'[{"type":"capabilities"}]'], ids=str)
def test_row_03_json_that_is_no_object_is_an_invalid_request(bridge: Client, line: bytes) -> None:
    assert error(bridge, line)["code"] == "invalid_request"


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
def test_row_04_literals_that_json_lacks(bridge: Client, literal: bytes) -> None:
    assert error(bridge, b'{"type":"capabilities","x":' + literal + b"}")["code"] == "invalid_json"


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5_000, b"9007199254740993"], ids=lambda n: str(n[:8]))
def test_row_05_numbers_beyond_doubles_and_exact_integers(bridge: Client, number: bytes) -> None:
    assert error(bridge, b'{"type":"capabilities","x":' + number + b"}")["code"] == "invalid_json"
    bridge.write(b'{"type":"capabilities","x":-9007199254740992,"y":1e308}')
    assert bridge.read()["type"] == "capabilities"


@pytest.mark.parametrize(
    "line", [b'{"type":"stop","type":"capabilities"}', b'{"type":"capabilities","x":{"a":1,"a":1}}']
)
def test_row_06_duplicate_keys(bridge: Client, line: bytes) -> None:
    assert error(bridge, line)["code"] == "invalid_json"


@pytest.mark.parametrize("opener", [b"[", b'{"a":', b'{"type":"capabilities","x":['], ids=str)
def test_row_07_nesting_of_100_000(bridge: Client, opener: bytes) -> None:
    assert error(bridge, opener * 100_000)["code"] == "invalid_json"
    for depth, code in ((31, None), (32, "invalid_json")):
        bridge.write(b'{"type":"capabilities","x":' + b"[" * depth + b"]" * depth + b"}")
        assert bridge.read().get("code") == code


@pytest.mark.once
def test_row_08_an_object_of_a_million_members(bridge: Client) -> None:
    for count, code in ((63, None), (64, "invalid_json"), (400_000, "invalid_json"), (1_000_000, "line_too_long")):
        members = ",".join(f'"k{number}":0' for number in range(count))
        bridge.write(f'{{"type":"capabilities",{members}}}'.encode())
        assert bridge.read().get("code") == code, count


@pytest.mark.parametrize(("size", "terminated"), [(GIBIBYTE, True), (GIBIBYTE // 4, False)])
def test_row_09_a_line_of_one_gibibyte_costs_one_error_and_less_than_64_mb(size: int, terminated: bool) -> None:
    with Client(command("speak")) as bridge:
        assert bridge.ask("capabilities")["type"] == "capabilities"
        before = peak_bytes(bridge)
        bridge.monitor.sent(b"too long to be read")
        block = b"x" * 2**20
        for _ in range(size // len(block)):
            bridge.process.stdin.write(block)
        if terminated:
            bridge.write(b"")
        else:
            bridge.process.stdin.close()
        reply = bridge.read()
        assert (reply["code"], reply["id"], reply["data"]) == (
            "line_too_long",
            None,
            {"limit": 8 * 2**20, "bytes": size},
        )
        if terminated:
            assert bridge.ask("capabilities")["type"] == "capabilities"
            assert peak_bytes(bridge) - before < GROWTH_BYTES
        assert bridge.wait(close=terminated) == 0


@pytest.mark.parametrize(
    ("line", "position"),
    [
        (b'{"type":"\xff"}', 9),
        (b'{"type":"start","x":"\xed\xa0\x80"}', 21),  # a surrogate
        (b'{"type":"start","x":"\xc0\xaf"}', 21),  # overlong
        (b'{"type":"start","x":"\xe2\x82', 21),  # cut off
    ],
    ids=str,
)
def test_row_10_invalid_utf8_reports_its_place(bridge: Client, line: bytes, position: int) -> None:
    reply = error(bridge, line)
    assert (reply["code"], reply["data"]["position"]) == ("invalid_utf8", position)


def test_row_11_one_byte_order_mark_at_the_start() -> None:
    with Client(command("speak")) as bridge:
        bridge.write(b'\xef\xbb\xbf{"type":"capabilities"}')
        assert bridge.read()["type"] == "capabilities"
        assert error(bridge, b'\xef\xbb\xbf{"type":"capabilities"}')["code"] == "invalid_json"
        assert bridge.wait() == 0


def test_row_12_crlf_ends_a_line_and_a_lone_cr_does_not(bridge: Client) -> None:
    bridge.write(b'{"type":"capabilities"}\r')
    assert bridge.read()["type"] == "capabilities"
    for line in (b'{"type":"capabilities"}\r{"type":"capabilities"}', b'{"type":\r"capabilities"}'):
        assert error(bridge, line)["code"] == "invalid_json"


@pytest.mark.parametrize("character", [0, 1, 9, 27, 31], ids=str)
def test_row_13_raw_control_characters_in_a_string(bridge: Client, character: int) -> None:
    assert error(bridge, b'{"type":"capab%cilities"}' % character)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (rb'{"type":"\ud800"}', "unknown_type"),
        (rb'{"type":"transcribe","audio":"/\udcff.wav"}', ("audio_not_found", "invalid_params")),
        (rb'{"type":"transcribe","audio":"/\ud800.wav"}', "invalid_params"),
        (rb'{"type":"transcribe","audio":"/a","language":"\ud800"}', "invalid_params"),
        (rb'{"type":"batch_transcribe","audio":["/a"],"decoder_mode":"\ud800"}', "invalid_params"),
        (rb'{"type":"capabilities","id":"\ud800"}', ("invalid_request", "invalid_params")),
    ],
    ids=str,
)
def test_row_14_a_lone_surrogate_in_an_echoed_field(bridge: Client, line: bytes, code: str | tuple[str, ...]) -> None:
    bridge.write(line)
    assert bridge.read()["code"] in code


def test_row_14_a_lone_surrogate_in_the_name_of_a_field_and_in_a_batch(bridge: Client) -> None:
    bridge.write(rb'{"type":"capabilities","\ud800":1}')
    assert any("\ud800" in warning for warning in bridge.read()["warnings"])
    bridge.write(rb'{"type":"batch_transcribe","audio":["/\ud800.wav"]}')
    assert bridge.read()["failed"] == 1


def test_row_15_line_separators_in_a_transcript_are_escaped(speech: str) -> None:
    with Client(command("breaks")) as bridge:
        reply = bridge.ask("transcribe", audio=speech)
        assert reply["text"].startswith("one\u2028two\u2029three\u0085four\u000bfive")
        assert reply["text"].endswith("\ud800")
        assert bridge.wait() == 0  # the monitor has seen ASCII lines only


@pytest.mark.parametrize(
    ("last", "code"),
    [(b'{"type":"capabilities"}', None), (b'{"type":"capabilities"', "invalid_json"), (b"\xff", "invalid_utf8")],
    ids=str,
)
def test_row_16_a_last_line_without_a_newline(last: bytes, code: str | None) -> None:
    with Client(command("speak")) as bridge:
        bridge.send("capabilities")
        bridge.monitor.sent(last)
        bridge.process.stdin.write(last)
        assert bridge.wait() == 0
        reply = bridge.monitor.replies[1]
        assert reply.get("code") == code
        assert code is None or reply["data"]["truncated"] is True


def test_a_line_at_the_limit_is_a_request(bridge: Client) -> None:
    padding = 8 * 2**20 - len(b'{"type":"capabilities","x":""}')
    writing = threading.Thread(
        target=bridge.write, args=(b'{"type":"capabilities","x":"' + b"x" * padding + b'"}',), daemon=True
    )
    writing.start()
    assert bridge.read()["type"] == "capabilities"
    writing.join(WAIT)
