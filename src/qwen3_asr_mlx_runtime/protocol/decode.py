"""A line of bytes → a typed request, or the error that answers it."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.errors import BridgeError, InvalidParams, RequestError, UnknownType
from qwen3_asr_mlx_runtime.languages import AUTO, allowed_languages, language_choice
from qwen3_asr_mlx_runtime.limits import MAX_ID_CHARACTERS
from qwen3_asr_mlx_runtime.protocol.commands import (
    COMMANDS,
    DECODER_MODES,
    DEFAULT_STREAM,
    WANTS,
    Align,
    AudioChunk,
    Boundary,
    Cancel,
    Command,
    Decoding,
    Hello,
    Id,
)
from qwen3_asr_mlx_runtime.protocol.json_text import parse_object

_UNUSABLE_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAMES = ("stream_id", "utterance_id")


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its envelope. The reply echoes `id`, UNSET if there is none. `warnings` name ignored members."""

    command: Command
    id: Id | UnsetType = UNSET
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no request. `id` is None if the line could not be read far enough to know it.

    `is_chunk`: its type is `audio_chunk`; then `stream_id` and `pcm16` are set as far as they are known.
    """

    error: BridgeError
    id: Id | UnsetType | None = None
    is_chunk: bool = False
    stream_id: str | None = None
    pcm16: str = ""


def decode_line(line: bytes) -> Request | Rejected:
    """Decode a line without its newline; an invalid line becomes a Rejected with its error."""
    identifier: Id | UnsetType | None = None
    members: dict[str, Any] = {}
    try:
        members = parse_object(line)
        identifier = decode_id(members)
        return _decode_members(members, identifier)
    except RequestError as error:
        is_chunk = members.get("type") == AudioChunk.__struct_config__.tag
        if not is_chunk:
            return Rejected(error, identifier)
        pcm16 = members.get("pcm16")
        return Rejected(error, identifier, is_chunk, _stream_id(members), pcm16 if isinstance(pcm16, str) else "")


def decode_id(members: dict[str, Any]) -> Id | UnsetType:
    """The `id` of a request. Raises RequestError."""
    value = members.get("id")
    if value is None:
        return UNSET
    if isinstance(value, str) and 1 <= len(value) <= MAX_ID_CHARACTERS and not _UNUSABLE_IN_NAME.search(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    expected = f"a string of 1 to {MAX_ID_CHARACTERS} characters, none of them a control character, or a whole number"
    raise RequestError(f"`id`: expected {expected}", field="id")


def _stream_id(members: dict[str, Any]) -> str | None:
    stream_id = members.get("stream_id")
    if stream_id is None:
        return DEFAULT_STREAM
    return stream_id if isinstance(stream_id, str) and _is_name(stream_id) else None


def _decode_members(members: dict[str, Any], identifier: Id | UnsetType) -> Request:
    command_type = _command_type(members.get("type"))
    known = {"id", "type", *command_type.__struct_fields__}
    warnings = [f"unknown_field: {name[:64]}" for name in sorted(set(members) - known)]
    members_given = {name: value for name, value in members.items() if value is not None and name in known}
    try:
        command = msgspec.convert(members_given, command_type, strict=False)  # not strict: "7" counts as 7
    except msgspec.ValidationError as error:
        raise _invalid_params(str(error)) from None
    command = _canonical(command)
    if isinstance(command, Hello):
        warnings += [f"unknown_want: {want}" for want in command.want or () if want not in WANTS]
    return Request(command, identifier, tuple(warnings))


def _command_type(name: Any) -> type[Command]:
    if not isinstance(name, str):
        raise RequestError("`type`: expected a string that names the request", field="type")
    command_type = COMMANDS.get(name)
    if command_type is None:
        supported = list(COMMANDS)
        raise UnknownType(f"unknown type; this build knows: {', '.join(supported)}", field="type", supported=supported)
    return command_type


def _canonical(command: Command) -> Command:
    """The command with canonical values. Checks the constraints that its type cannot express."""
    for name in _NAMES:
        _check_name(name, getattr(command, name, None))
    mode = getattr(command, "decoder_mode", None)
    if mode not in (None, *DECODER_MODES):
        message = f"`decoder_mode`: expected one of: {', '.join(DECODER_MODES)}"
        raise InvalidParams(message, field="decoder_mode", supported=list(DECODER_MODES))
    if isinstance(command, Boundary) and command.audio is not None and command.pcm16 is not None:
        raise InvalidParams("`pcm16`: expected either `audio` or `pcm16`, got both", field="pcm16")
    if isinstance(command, Boundary) and command.samples is not None and (command.audio or command.pcm16 is not None):
        raise InvalidParams("`samples`: expected without `audio` and `pcm16`", field="samples")
    if isinstance(command, Cancel):
        _check_target(command)
    if isinstance(command, Align):
        return msgspec.structs.replace(command, language=_one_language(command.language))
    return _with_languages(command) if isinstance(command, Decoding) else command


def _with_languages(command: Decoding) -> Decoding:
    if command.language is not None and command.languages is not None:
        raise InvalidParams("`languages`: expected either `language` or `languages`, got both", field="languages")
    if command.language is not None:
        return msgspec.structs.replace(command, language=language_choice(command.language))
    if command.languages is not None:
        return msgspec.structs.replace(command, languages=[*allowed_languages(command.languages)])
    return command


def _one_language(spelling: str) -> str:
    language = language_choice(spelling)
    if language == AUTO:
        raise InvalidParams("`language`: expected that of the text, got auto", field="language")
    return language


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= MAX_ID_CHARACTERS and not _UNUSABLE_IN_NAME.search(text)


def _check_name(field: str, value: str | None) -> None:
    if value is not None and _UNUSABLE_IN_NAME.search(value):
        raise InvalidParams(f"`{field}`: expected no control character and no lone surrogate", field=field)


def _check_target(cancel: Cancel) -> None:
    by_name = cancel.stream_id is not None and cancel.utterance_id is not None
    half_named = cancel.stream_id is not None or cancel.utterance_id is not None
    if cancel.target is None and not by_name:
        raise InvalidParams("`target`: expected an id, or `stream_id` and `utterance_id` in its place", field="target")
    if cancel.target is not None and half_named:
        raise InvalidParams("`target`: expected an id or the names of an utterance, got both", field="target")


def _invalid_params(text: str) -> InvalidParams:
    """Translate msgspec's "Expected `int`, got `bool` - at `$.max_new_tokens`", or its missing required field."""
    problem, _, path = text.partition(" - at `$.")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", problem)
    if missing and not path:
        return InvalidParams(f"`{missing[1]}`: required, and missing", field=missing[1])
    path = path.removesuffix("`")
    return InvalidParams(f"`{path}`: {problem[:1].lower()}{problem[1:]}", field=re.split(r"\W", path, maxsplit=1)[0])
