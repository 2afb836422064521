import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines import utterance
from qwen3_asr_mlx_runtime.errors import (
    AudioUnreadable,
    InvalidJson,
    InvalidParams,
    InvalidUtf8,
    RequestError,
    UnknownType,
)
from qwen3_asr_mlx_runtime.limits import DEFAULT_TERM_WEIGHT
from qwen3_asr_mlx_runtime.protocol import capabilities as capability_module
from qwen3_asr_mlx_runtime.protocol.commands import (
    COMMANDS,
    BatchTranscribe,
    Command,
    Hello,
    Start,
    Transcribe,
)
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request, decode_line
from qwen3_asr_mlx_runtime.protocol.json_text import parse_object
from qwen3_asr_mlx_runtime.protocol.replies import Fatal, Pong, Ready, encode_line, error_reply
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.terms import Term


def decode_command(line: bytes) -> Command:
    decoded = decode_line(line)
    assert isinstance(decoded, Request), decoded
    return decoded.command


def rejection(line: bytes) -> RequestError:
    decoded = decode_line(line)
    assert isinstance(decoded, Rejected), decoded
    return decoded.error


def code(line: bytes) -> str:
    return rejection(line).code


def transcribe(**members: object) -> bytes:
    return json.dumps({"type": "transcribe", "audio": "a.wav", **members}).encode()


class TestJsonText:
    """Rows of the fault list: what a line may be."""

    @pytest.mark.parametrize(
        "line", [b"{", b"}", b"nonsense", b'{"a":}', b"{'a':1}", b'{"a":1,}', b'{"a":01}', b"{}{}"]
    )
    def test_row_1_malformed_json_is_reported_with_its_position_and_without_its_content(self, line: bytes) -> None:
        error = rejection(line)
        assert (error.code, type(error.data["position"])) == ("invalid_json", int)

    def test_row_1_the_position_counts_bytes(self) -> None:
        assert rejection('{"a":"éé",x}'.encode()).data["position"] == 12

    @pytest.mark.parametrize("line", [b"[]", b"7", b"null", b"true", b'"stop"', b"1.5"])
    def test_row_3_json_that_is_no_object_is_an_invalid_request(self, line: bytes) -> None:
        assert code(line) == "invalid_request"

    @pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
    def test_row_4_literals_that_json_does_not_have(self, literal: bytes) -> None:
        assert code(b'{"type":"hello","x":%s}' % literal) == "invalid_json"

    @pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9007199254740993", b"-9007199254740993", b"1" * 5_000])
    def test_row_5_numbers_that_a_double_does_not_hold(self, number: bytes) -> None:
        assert code(b'{"type":"hello","x":%s}' % number) == "invalid_json"

    def test_row_5_the_largest_exact_integer_passes(self) -> None:
        assert parse_object(b'{"x":9007199254740992,"y":-9007199254740992}') == {"x": 2**53, "y": -(2**53)}

    @pytest.mark.parametrize(
        "line", [b'{"type":"stop","type":"hello"}', b'{"a":{"b":1,"b":1}}', b'{"type":"stop","\\u0074ype":"hello"}']
    )
    def test_row_6_duplicate_keys(self, line: bytes) -> None:
        assert code(line) == "invalid_json"

    @pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 33 + b"]" * 33])
    def test_row_7_deep_nesting(self, line: bytes) -> None:
        assert (code(line), rejection(line).data) == ("invalid_json", {"limit": 32})

    def test_row_7_nesting_up_to_the_limit_passes_and_brackets_in_strings_do_not_count(self) -> None:
        nested = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}"
        assert parse_object(nested)["a"] == json.loads(nested)["a"]
        text = '"[{' * 40 + "\\"
        assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}

    @pytest.mark.parametrize("text", [b"[" * 40, b'\\"' + b"[" * 40, b'\\\\\\"' + b"{" * 40 + b"\\"])
    def test_row_7_brackets_in_a_string_that_is_never_closed_are_no_nesting(self, text: bytes) -> None:
        assert rejection(b'{"a":"' + text).data == {"position": 5}

    @given(st.lists(st.sampled_from([b"[" * 33, b"{" * 9, b"]", b'"', b"\\", b'\\"', b"\\\\", b"a", b"\n"])))
    def test_row_7_any_malformed_line_is_too_deep_where_its_brackets_outside_of_strings_are(
        self, parts: list[bytes]
    ) -> None:
        line = b"[]" * 33 + b"".join(parts)
        told_too_deep = rejection(line).data == {"limit": 32}
        assert told_too_deep is (_depth(line) > 32)

    @pytest.mark.parametrize("opening", [b"", b"[" * 32, b"[]" * 33, b"[]" * 33 + b'"'])
    @pytest.mark.parametrize(
        "unit", [b'"', b'\\"', b"\\", b"\\\\", b'"\\', b'\\""', b'"\\""', b'["', b'"a",', b"[]", b"{", b"a"]
    )
    def test_row_7_long_malformed_lines_are_read_once(self, opening: bytes, unit: bytes) -> None:
        line = opening + unit * (256 * 1024 // len(unit))  # read again at each quotation mark, one takes minutes
        assert isinstance(rejection(line), InvalidJson)

    def test_row_8_members_of_an_object_are_limited(self) -> None:
        members = {f"m{number}": 0 for number in range(64)}
        assert parse_object(json.dumps(members).encode()) == members
        assert code(json.dumps({**members, "m": 0}).encode()) == "invalid_json"

    @pytest.mark.parametrize(
        ("line", "position"), [(b'{"a":"\xff"}', 6), (b'{"a":"\xc3"}', 6), (b'{"a":"\xed\xa0\x80"}', 6), (b"\x80", 0)]
    )
    def test_row_10_invalid_utf8_is_reported_with_its_position(self, line: bytes, position: int) -> None:
        error = rejection(line)
        assert (error.code, error.data) == ("invalid_utf8", {"position": position})

    def test_row_11_a_byte_order_mark_within_the_stream_is_rejected(self) -> None:
        assert code(b'\xef\xbb\xbf{"type":"hello"}') == "invalid_json"

    @pytest.mark.parametrize("line", [b'{"type":"hello"}\r{"type":"stop"}', b'{"type":\r"hello"}', b'{"a":"\r"}'])
    def test_row_12_a_lone_carriage_return_is_no_separator(self, line: bytes) -> None:
        assert code(line) == "invalid_json"

    @pytest.mark.parametrize("line", [b'{"a":"\x00"}', b'\x00{"a":1}', b'{"a":1}\x00', b'{"a":"\x1f"}', b'{"a":"\t"}'])
    def test_row_13_control_characters(self, line: bytes) -> None:
        assert code(line) == "invalid_json"

    def test_row_14_a_lone_surrogate_is_accepted_in_text(self) -> None:
        assert decode_command(b'{"type":"transcribe","audio":"\\ud800"}') == Transcribe(audio="\ud800")

    @given(st.binary(max_size=200))
    def test_any_bytes_become_an_object_or_a_request_error(self, line: bytes) -> None:
        try:
            outcome = type(parse_object(line)).__name__
        except RequestError as error:
            outcome = error.code
        assert outcome in {"dict", "invalid_json", "invalid_utf8", "invalid_request"}

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53), 2**53)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
            max_leaves=20,
        ),
        st.booleans(),
    )
    def test_what_json_can_say_is_read_as_it_was_meant(self, value: object, ascii_only: bool) -> None:
        text = json.dumps({"value": value}, ensure_ascii=ascii_only)
        try:
            line = text.encode()
        except UnicodeEncodeError:
            line = json.dumps({"value": value}).encode()
        assert parse_object(line) == {"value": value}

    @given(st.binary(max_size=60), st.integers(0, 60))
    def test_messages_never_quote_the_line(self, noise: bytes, at: int) -> None:
        line = b'{"type":"transcribe","audio":"CANARY"}'
        line = line[:at] + noise + line[at:]
        decoded = decode_line(line)
        if isinstance(decoded, Rejected) and decoded.error.code in {"invalid_json", "invalid_utf8"}:
            assert "CANARY" not in decoded.error.message


class TestDecodeLine:
    def test_every_type_has_its_command(self) -> None:
        assert {name: type(decode_command(line)) for name, line in _smallest_lines().items()} == COMMANDS

    def test_fields_that_are_not_given_or_null_are_none(self) -> None:
        expected = Transcribe(audio="a.wav", max_new_tokens=None, language=None, context=None)
        assert decode_command(transcribe()) == expected
        assert decode_command(transcribe(max_new_tokens=None, language=None, context=None)) == expected

    def test_a_language_becomes_its_canonical_name(self) -> None:
        assert decode_command(transcribe(language="aR")) == Transcribe(audio="a.wav", language="Arabic")
        assert decode_command(transcribe(language="AUTO")) == Transcribe(audio="a.wav", language="auto")

    def test_languages_are_canonical_each_once_and_null_is_none_given(self) -> None:
        given = ["ar", "ENGLISH", " en", "Chinese"]
        assert decode_command(transcribe(languages=given)).languages == ["Chinese", "English", "Arabic"]
        assert decode_command(transcribe(languages=None, language="en")) == Transcribe(
            audio="a.wav", language="English"
        )
        assert decode_command(transcribe(languages=["en"], language=None)).languages == ["English"]

    def test_terms_have_weights_and_none_of_them_is_an_answer(self) -> None:
        given = [{"text": "Ada Lovelace"}, {"text": " Menabrea ", "weight": "3"}, {"text": "x", "why": "ignored"}]
        assert decode_command(transcribe(terms=given)).terms == [
            Term("Ada Lovelace", DEFAULT_TERM_WEIGHT),
            Term(" Menabrea ", 3.0),
            Term("x", DEFAULT_TERM_WEIGHT),
        ]
        assert decode_command(transcribe(terms=[])).terms == []
        assert decode_command(transcribe(terms=None)).terms is None
        assert len(decode_command(transcribe(terms=[{"text": "x" * 64, "weight": 0}] * 100)).terms) == 100

    @pytest.mark.parametrize("value", ["7", 7, 7.0])
    def test_row_19_digits_in_a_string_count_as_a_number(self, value: object) -> None:
        assert decode_command(transcribe(max_new_tokens=value)) == Transcribe(audio="a.wav", max_new_tokens=7)

    @pytest.mark.parametrize(
        ("members", "field"),
        [
            ({"max_new_tokens": True}, "max_new_tokens"),
            ({"max_new_tokens": 7.5}, "max_new_tokens"),
            ({"max_new_tokens": {"a": 1}}, "max_new_tokens"),
            ({"max_new_tokens": "seven"}, "max_new_tokens"),
            ({"max_new_tokens": -5}, "max_new_tokens"),
            ({"max_new_tokens": 10**9}, "max_new_tokens"),
            ({"audio": None}, "audio"),
            ({"audio": ""}, "audio"),
            ({"audio": "x" * 4097}, "audio"),
            ({"type": "end_utterance", "audio": "x" * 4097}, "audio"),
            ({"audio": 7}, "audio"),
            ({"audio": ["a.wav"]}, "audio"),
            ({"language": "Klingon"}, "language"),
            ({"language": ""}, "language"),
            ({"language": 7}, "language"),
            ({"languages": []}, "languages"),
            ({"languages": ["en"] * 31}, "languages"),
            ({"languages": "en"}, "languages"),
            ({"languages": ["en", 7]}, "languages"),
            ({"languages": ["en", "Klingon"]}, "languages"),
            ({"languages": ["auto"]}, "languages"),
            ({"languages": ["en"], "language": "en"}, "languages"),
            ({"languages": ["en"], "language": "auto"}, "languages"),
            ({"type": "flush", "languages": []}, "languages"),
            ({"type": "start_stream", "languages": [None]}, "languages"),
            ({"terms": "Ada"}, "terms"),
            ({"terms": ["Ada"]}, "terms"),
            ({"terms": {"text": "Ada"}}, "terms"),
            ({"terms": [{"text": "Ada"}] * 101}, "terms"),
            ({"terms": [{"text": ""}]}, "terms"),
            ({"terms": [{"text": " \n"}]}, "terms"),
            ({"terms": [{"text": "x" * 65}]}, "terms"),
            ({"terms": [{"weight": 1}]}, "terms"),
            ({"terms": [{"text": 7}]}, "terms"),
            ({"terms": [{"text": "Ada", "weight": -0.1}]}, "terms"),
            ({"terms": [{"text": "Ada", "weight": 4.1}]}, "terms"),
            ({"terms": [{"text": "Ada", "weight": "nan"}]}, "terms"),
            ({"terms": [{"text": "Ada", "weight": "much"}]}, "terms"),
            ({"terms": [{"text": "Ada", "weight": None}]}, "terms"),
            ({"type": "flush", "terms": [{}]}, "terms"),
            ({"type": "start_stream", "terms": [None]}, "terms"),
            ({"progress": "perhaps"}, "progress"),
            ({"progress": [True]}, "progress"),
            ({"context": ["a"]}, "context"),
            ({"context": "x" * 16_385}, "context"),
            ({"type": "batch_transcribe"}, "audio"),
            ({"type": "batch_transcribe", "audio": []}, "audio"),
            ({"type": "batch_transcribe", "audio": [7]}, "audio"),
            ({"type": "batch_transcribe", "audio": ["a"] * 257}, "audio"),
            ({"type": "batch_transcribe", "audio": ["a"], "decoder_mode": "parallel"}, "decoder_mode"),
            ({"type": "batch_transcribe", "audio": ["a"], "drift_guard": "perhaps"}, "drift_guard"),
            ({"logprobs": []}, "logprobs"),
            ({"type": "batch_transcribe", "audio": ["a"], "decoder_mode": 1}, "decoder_mode"),
        ],
        ids=str,
    )
    def test_rows_19_to_22_a_wrong_value_is_reported_with_its_field(self, members: dict, field: str) -> None:
        error = rejection(transcribe(**members))
        assert (error.code, error.data["field"]) == ("invalid_params", field)

    def test_row_22_a_missing_field_is_named(self) -> None:
        error = rejection(b'{"type":"transcribe"}')
        assert (error.code, error.data) == ("invalid_params", {"field": "audio"})

    def test_a_decoder_mode_that_is_not_built_is_rejected_with_the_built_ones(self) -> None:
        error = rejection(transcribe(type="batch_transcribe", audio=["a"], decoder_mode="parallel"))
        assert error.data["supported"] == ["sequential", "batched"]
        line = transcribe(type="batch_transcribe", audio=["a"], decoder_mode="batched", drift_guard=False)
        assert decode_command(line) == BatchTranscribe(audio=["a"], decoder_mode="batched", drift_guard=False)

    @pytest.mark.parametrize("name", ["flash", "startstream", "", "CAPABILITIES"])
    def test_row_17_an_unknown_type_is_rejected_with_the_known_ones(self, name: str) -> None:
        error = rejection(json.dumps({"type": name}).encode())
        assert isinstance(error, UnknownType)
        assert error.data["supported"] == list(COMMANDS)

    @pytest.mark.parametrize("line", [b"{}", b'{"type":7}', b'{"type":["stop"]}', b'{"type":null}'])
    def test_row_17_a_type_that_is_missing_or_no_string_is_an_invalid_request(self, line: bytes) -> None:
        assert code(line) == "invalid_request"

    def test_row_18_unknown_fields_are_ignored_and_named(self) -> None:
        decoded = decode_line(transcribe(max_tokens=7, beam="x" * 70))
        assert decoded == Request(
            Transcribe(audio="a.wav"), warnings=("unknown_field: beam", "unknown_field: max_tokens")
        )

    @pytest.mark.parametrize("identifier", ["r1", 7, 0, -(2**53), "x" * 128, "é 1"])
    def test_an_id_comes_along(self, identifier: object) -> None:
        line = json.dumps({"type": "hello", "id": identifier}).encode()
        assert decode_line(line) == Request(Hello(), id=identifier)

    def test_an_id_that_did_not_come_is_unset(self) -> None:
        assert decode_line(b'{"type":"start"}') == Request(Start(), id=UNSET)

    def test_an_error_carries_the_id_or_null_where_it_is_unknown(self) -> None:
        ids = {
            b'{"type":"transcribe","id":"r1"}': "r1",
            b'{"type":"transcribe"}': UNSET,
            b'{"type":"nonsense","id":7}': 7,
            b"{": None,
            b"[]": None,
            b'{"id":true}': None,
        }
        assert {line: decode_line(line).id for line in ids} == ids

    def test_row_21_an_id_that_is_null_counts_as_not_given(self) -> None:
        assert decode_line(b'{"type":"start","id":null}') == Request(Start(), id=UNSET)
        rejected = decode_line(b'{"type":"transcribe","id":null}')
        assert isinstance(rejected, Rejected)
        assert rejected.id is UNSET

    @pytest.mark.parametrize("number", [b"1", b"1.0", b"1e0", b"10E-1"])
    def test_a_whole_number_is_the_same_id_however_it_is_written(self, number: bytes) -> None:
        decoded = [
            decode_line(b'{"type":"ping","id":%s}' % number).id,
            decode_command(b'{"type":"cancel","target":%s}' % number).target,
        ]
        assert [(type(value), value) for value in decoded] == [(int, 1), (int, 1)]

    @pytest.mark.parametrize(
        "identifier", [True, 1.5, 1e300, 2.0**54, "", "x" * 129, {"a": 1}, [1], "a\nb", "\x7f", "\ud800"]
    )
    def test_row_21_an_unusable_id_is_an_invalid_request(self, identifier: object) -> None:
        error = rejection(json.dumps({"type": "hello", "id": identifier}).encode())
        assert (error.code, error.data) == ("invalid_request", {"field": "id"})

    @given(
        st.sampled_from(sorted(COMMANDS)),
        st.dictionaries(
            st.sampled_from(["audio", "max_new_tokens", "language", "context", "decoder_mode", "id", "other"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers()),
        ),
    )
    def test_any_members_become_a_request_or_an_error_with_a_code(self, name: str, members: dict) -> None:
        decoded = decode_line(json.dumps({"type": name, **members}).encode())
        if isinstance(decoded, Rejected):
            assert decoded.error.code in {"invalid_params", "invalid_request", "invalid_json"}
        else:
            assert isinstance(decoded.command, COMMANDS[name])


def _depth(line: bytes) -> int:
    """The deepest nesting, read byte by byte. A backslash that stands outside of strings is malformed in any case."""
    deepest = depth = at = 0
    in_string = False
    while at < len(line):
        byte = line[at : at + 1]
        if byte == b"\\":
            at += line[at + 1 : at + 2] in (b"\\", b'"')
        elif byte == b'"':
            in_string = not in_string
        elif not in_string:
            depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
        at += 1
    return deepest


def _smallest_lines() -> dict[str, bytes]:
    needed = {
        "transcribe": {"audio": "a"},
        "batch_transcribe": {"audio": ["a"]},
        "align": {"audio": "a", "text": "one", "language": "en"},
        "audio_chunk": {"pcm16": ""},
        "cancel": {"target": 1},
    }
    return {name: json.dumps({"type": name, **needed.get(name, {})}).encode() for name in COMMANDS}


class TestReplies:
    def test_a_line_is_ascii_json_with_one_newline_at_its_end(self) -> None:
        error = AudioUnreadable("سبعة \u2028 \ud800 \n", path="é")
        line = encode_line(error_reply(error))
        assert line.isascii()
        assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
        assert json.loads(line)["message"] == error.message

    def test_an_error_says_code_message_retryable_and_data(self) -> None:
        reply = error_reply(InvalidJson("not JSON", position=3))
        reply.id = None
        assert json.loads(encode_line(reply)) == {
            "type": "error",
            "id": None,
            "code": "invalid_json",
            "message": "not JSON",
            "retryable": False,
            "data": {"position": 3},
        }

    def test_id_and_warnings_are_absent_where_there_are_none(self) -> None:
        fields = {"uptime_s": 1.5, "state": "ready", "busy_ms": None, "last_progress_ms_ago": None}
        assert json.loads(encode_line(Pong(**fields))) == {"type": "pong", **fields}
        assert json.loads(encode_line(Pong(**fields, id=7, warnings=["w"])))["warnings"] == ["w"]

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_a_number_that_json_does_not_have_is_refused(self, number: float) -> None:
        with pytest.raises(ValueError, match="JSON compliant"):
            encode_line(Ready(model="m", model_dir="d", load_seconds=number, load_profile={}, load="cold"))

    def test_a_fatal_line_is_an_object_too(self) -> None:
        assert json.loads(encode_line(Fatal(code="internal_error", message="m")))["type"] == "fatal"

    def test_errors_of_every_class_can_be_sent(self) -> None:
        for error in (InvalidParams("m", field="f", supported=["a"]), InvalidUtf8("m", position=1)):
            assert json.loads(encode_line(error_reply(error)))["data"] == error.data


class TestCapabilities:
    def test_all_fields_of_the_protocol_are_there(self) -> None:
        reply = msgspec.to_builtins(capability_module.capabilities(Settings(model="demo")))
        assert reply["runtime"] == "qwen3-asr-mlx"
        assert reply["protocol"] == "qwen3-asr-mlx-jsonl-v1"
        assert reply["model"] == "demo"
        assert reply["vad_boundary_source"] == "external"
        assert reply["use_cache"] is True
        assert reply["models"] == {
            "efficiency": "Qwen/Qwen3-ASR-0.6B",
            "accuracy_candidate": "Qwen/Qwen3-ASR-1.7B",
        }
        assert {"audio_format", "decoder_modes", "features", "limits", "version"} <= set(reply)
        assert reply["audio"]["formats"] is None  # known where libsndfile is loaded: in a conversation
        assert reply["audio"]["stream_rates"] == {"minimum": 8_000, "maximum": 192_000}

    def test_messages_are_those_that_are_understood(self) -> None:
        reply = capability_module.capabilities(Settings())
        assert reply.messages == list(COMMANDS)
        assert "clean_text" in reply.features

    def test_limits_are_those_of_this_process(self) -> None:
        assert capability_module.capabilities(Settings(max_audio_seconds=5.0)).limits.max_audio_seconds == 5.0

    def test_a_remote_engine_has_no_feature_of_the_local_one_alone(self):
        local, remote = (
            msgspec.to_builtins(capability_module.capabilities(settings))
            for settings in (Settings(model="demo"), Settings(engine=("http://a",)))
        )
        absent = {"language", "words", "align", "languages", "drift_guard", "terms", "context_echo", "repaired"}
        assert {*local["features"]} - {*remote["features"]} == absent
        assert absent < {*local["engine"]["features"]}
        assert (local["engine"]["kind"], local["engine"]["exact"], local["aligner"]) == ("local", True, "demo")
        assert (remote["engine"]["kind"], remote["engine"]["exact"], remote["aligner"]) == ("remote", False, None)
        with_words = capability_module.capabilities(Settings(engine=("http://a",), aligner="demo"))
        assert {"words", "align"} <= {*with_words.features}
        assert with_words.aligner == "demo"

    def test_the_sample_rate_is_the_utterances(self) -> None:
        assert capability_module.SAMPLE_RATE == utterance.SAMPLE_RATE

    def test_they_are_printed_as_the_line_that_the_request_gets(self, repository: Path) -> None:
        start = f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        start += "from qwen3_asr_mlx_runtime.__main__ import main; main()"
        command = [sys.executable, "-I", "-c", start, "--model", "demo", "--print-capabilities"]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, b"")
        assert ran.stdout == encode_line(capability_module.capabilities(Settings(model="demo")))
