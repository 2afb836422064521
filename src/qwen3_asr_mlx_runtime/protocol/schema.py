"""The JSON Schema of every message, in both directions, generated from the types that read and write them."""

import json
from typing import Any, get_args

import msgspec

from qwen3_asr_mlx_runtime.errors import error_codes
from qwen3_asr_mlx_runtime.limits import MAX_ID_CHARACTERS
from qwen3_asr_mlx_runtime.protocol import replies, streams, transcripts
from qwen3_asr_mlx_runtime.protocol.commands import COMMANDS
from qwen3_asr_mlx_runtime.protocol.json_text import MAX_INTEGER

REPLIES: tuple[type[replies.Reply], ...] = (
    replies.CapabilitiesReply,
    replies.Pong,
    replies.StatusReply,
    replies.CancelResult,
    replies.Ready,
    replies.Unloaded,
    transcripts.TranscriptReply,
    transcripts.BatchTranscript,
    transcripts.Aligned,
    streams.StreamReady,
    streams.PartialResult,
    streams.Paused,
    streams.UtteranceQueued,
    transcripts.RealtimeBatchFinal,
    streams.StreamStopped,
    transcripts.Stopped,
    replies.ErrorReply,
    replies.Fatal,
)
EVENTS: tuple[type[replies.Line], ...] = (
    transcripts.RealtimeBatchFinal,
    streams.WordsReady,
    streams.PartialResult,
    streams.Progress,
    streams.EngineRestarting,
    streams.StreamError,
)

_REF = "#/$defs/{name}"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ABOUT = (
    "Each line is one message. `Request`: sent by a client. `Reply`: answers a request. `Event`: answers no request, "
    "sent if wanted. Members that are not listed are allowed. In requests null means an absent member, and a string of "
    "digits may replace a number."
)

Schema = dict[str, Any]


def schema() -> Schema:
    """The document: a definition for each message and each type within one, and the three kinds of messages."""
    requests = tuple(COMMANDS.values())
    lines = tuple(dict.fromkeys((*REPLIES, *EVENTS)))
    _, definitions = msgspec.json.schema_components((*requests, *lines), ref_template=_REF)
    for definition in definitions.values():
        _shorten(definition)
    for request in requests:
        definitions[request.__name__]["properties"]["id"] = {"$ref": _REF.format(name="Id")}
    for line in _structs_of(lines):
        _require_written_members(definitions[line.__name__], line)
    for name in ("ErrorReply", "Fatal", "StreamError", "ItemError", "Unfinished"):
        definitions[name]["properties"]["code"] = {"$ref": _REF.format(name="ErrorCode")}
    kinds = {"Request": _one_of(requests), "Reply": _replies(), "Event": _events()}
    return {
        "$schema": _DIALECT,
        "title": replies.PROTOCOL,
        "description": _ABOUT,
        "anyOf": [{"$ref": _REF.format(name=kind)} for kind in kinds],
        "$defs": {**kinds, "Id": _identifier(), "ErrorCode": _error_code(), **dict(sorted(definitions.items()))},
    }


def schema_text() -> str:
    """The document as it is printed, with its last newline."""
    return json.dumps(schema(), ensure_ascii=True, indent=2) + "\n"


def _shorten(definition: Schema) -> None:
    """Remove the title, which repeats the name, and put the description in one paragraph."""
    definition.pop("title", None)
    if "description" in definition:
        definition["description"] = " ".join(definition["description"].split())


def _structs_of(types: tuple[type[msgspec.Struct], ...]) -> list[type[msgspec.Struct]]:
    """These structs, and all structs in their fields."""
    found: list[type[msgspec.Struct]] = []
    waiting: list[Any] = list(types)
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.append(kind)
            waiting += [field.type for field in msgspec.structs.fields(kind)]
    return found


def _require_written_members(definition: Schema, line: type[msgspec.Struct]) -> None:
    """Mark the members that every written line has as required. msgspec marks only those without a default."""
    written = [field.encode_name for field in msgspec.structs.fields(line) if field.default is not msgspec.UNSET]
    tag = [] if line.__struct_config__.tag_field is None else [line.__struct_config__.tag_field]
    definition["required"] = [*tag, *written]
    for field in definition["properties"].values():
        field.pop("default", None)


def _one_of(types: tuple[type[msgspec.Struct], ...]) -> Schema:
    return {"oneOf": [{"$ref": _REF.format(name=kind.__name__)} for kind in types]}


def _replies() -> Schema:
    return {**_one_of(REPLIES), "not": {"required": ["event"]}}


def _events() -> Schema:
    return {**_one_of(EVENTS), "required": ["event", "n"], "not": {"required": ["id"]}}


def _identifier() -> Schema:
    return {
        "description": "Chosen by the client, unlike that of any request in flight, and echoed by the reply.",
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS},
            {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        ],
    }


def _error_code() -> Schema:
    return {
        "description": "Codes are only added; one that is not known here is treated by `retryable`.",
        "type": "string",
        "examples": error_codes(),
    }
