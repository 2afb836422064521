"""The published schema is that of the types, and describes each line."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError
from support.protocol_monitor import LINES
from support.schema_check import PATH, validator

from qwen3_asr_mlx_runtime.errors import BridgeError, error_codes
from qwen3_asr_mlx_runtime.protocol.commands import COMMANDS
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, decode_line
from qwen3_asr_mlx_runtime.protocol.replies import Line, encode_line, error_reply
from qwen3_asr_mlx_runtime.protocol.schema import EVENTS, REPLIES, schema, schema_text
from qwen3_asr_mlx_runtime.protocol.streams import Event

SRC = Path(__file__).resolve().parents[2] / "src"
PRINT = f"""
import sys
sys.path[:0] = [{str(SRC)!r}]
from qwen3_asr_mlx_runtime import __main__
__main__._leave = lambda code: print(sorted({{'mlx', 'numpy', 'soundfile'}} & set(sys.modules)), file=sys.stderr)
sys.argv[1:] = ["--print-schema"]
try:
    __main__.main()
except OSError:
    pass
"""


def test_the_file_is_what_the_types_say() -> None:
    """`scripts/generate-types --schema` updates it."""
    assert PATH.read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_option_prints_it_without_anything_heavy(seed: str) -> None:
    argv = [sys.executable, "-c", PRINT]
    ran = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env={"PYTHONHASHSEED": seed}, check=False)
    assert ran.stdout.decode("ascii").startswith(schema_text())
    assert ran.stderr.splitlines()[0] == b"[]"


def test_it_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_it_has_every_message_of_both_directions() -> None:
    definitions = schema()["$defs"]
    assert {one.__name__ for one in (*COMMANDS.values(), *LINES)} <= set(definitions)
    assert {*REPLIES, *EVENTS} == set(LINES)
    assert set(definitions["ErrorCode"]["examples"]) == set(error_codes())


def test_a_reply_that_lacks_a_required_member_is_refused() -> None:
    reply = json.loads(encode_line(error_reply(BridgeError("no"))))
    validator("Reply").validate(reply)
    for name in reply:
        with pytest.raises(ValidationError):
            validator("Reply").validate({member: value for member, value in reply.items() if member != name})


def test_members_that_are_not_known_are_allowed() -> None:
    validator("Request").validate({"type": "ping", "id": 1, "colour": "red"})


@pytest.mark.parametrize("bad", [{"type": "sing"}, {"type": "ping", "id": 1.5}, {"type": "transcribe"}, {}, []])
def test_what_is_no_request_is_refused(bad: object) -> None:
    with pytest.raises(ValidationError):
        validator("Request").validate(bad)


def test_what_the_schema_takes_as_a_number_or_a_name_the_process_takes_too() -> None:
    """Limits of the schema are those of the reader: at each of them, and one beyond."""
    for name, command in COMMANDS.items():
        required = {"audio": ["/a"] if name == "batch_transcribe" else "/a", "pcm16": "", "target": 1}
        fields = {field.encode_name for field in msgspec.structs.fields(command)}
        base = {"type": name, **{key: value for key, value in required.items() if key in fields}}
        if name in ("end_utterance", "vad_boundary"):
            del base["pcm16"]  # it or `audio`
        for field, properties in schema()["$defs"][command.__name__]["properties"].items():
            for value in _edges(properties):
                message = {**base, field: value}
                if field == "samples":  # of the open utterance
                    message.pop("audio", None)
                if name == "cancel" and field in ("stream_id", "utterance_id"):  # together, or `target` alone
                    message = {"type": name, "stream_id": "a", "utterance_id": "a-1", field: value}
                taken = not isinstance(decode_line(json.dumps(message).encode()), Rejected)
                assert taken is validator("Request").is_valid(message), (name, field, value)


def _edges(properties: dict) -> list[object]:
    edges: list[object] = []
    for one in (properties, *properties.get("anyOf", ())):
        for key, beyond in (("minimum", -1), ("maximum", 1)):
            if key in one:
                edges += [one[key], one[key] + beyond]
        if "maxLength" in one:
            edges += ["x" * one["maxLength"], "x" * (one["maxLength"] + 1)]
    return edges


def test_an_event_is_distinguished_from_a_reply_by_its_mark() -> None:
    for event in EVENTS:
        if issubclass(event, Event):
            assert event.__name__ in {each["$ref"].rsplit("/")[-1] for each in schema()["$defs"]["Event"]["oneOf"]}
    with pytest.raises(ValidationError):
        validator("Event").validate({"type": "progress", "stage": "load", "done": None, "total": None})


def test_every_line_type_has_a_tag_of_its_own() -> None:
    tags = [line.__struct_config__.tag for line in LINES]
    assert len(set(tags)) == len(tags)
    assert all(issubclass(line, Line) for line in LINES)
