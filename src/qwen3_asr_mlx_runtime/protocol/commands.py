"""What a client may ask, and the way from a line of bytes to it."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from qwen3_asr_mlx_runtime.errors import BridgeError, InvalidParams, RequestError, UnknownType
from qwen3_asr_mlx_runtime.languages import language_name
from qwen3_asr_mlx_runtime.protocol.json_text import parse_object
from qwen3_asr_mlx_runtime.settings import MAX_CONTEXT_CHARACTERS, MAX_NEW_TOKENS

MAX_BATCH_ITEMS = 256
MAX_ID_CHARACTERS = 128
DECODER_MODES = ("sequential",)

_UNUSABLE_IN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Id = str | int
NewTokens = Annotated[int, Meta(ge=0, le=MAX_NEW_TOKENS)]
Context = Annotated[str, Meta(max_length=MAX_CONTEXT_CHARACTERS)]
AudioPath = Annotated[str, Meta(min_length=1)]


class Command(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all commands. An optional field that is null counts as not given."""


class Capabilities(Command, frozen=True, tag="capabilities"):
    """What does this build do? Answered by `capabilities`, also while the model is not loaded."""


class Hello(Command, frozen=True, tag="hello"):
    """The same as `capabilities`."""


class Start(Command, frozen=True, tag="start"):
    """Load the model. Answered by `ready`."""


class Decoding(Command, frozen=True, kw_only=True):
    """How to decode, in every request that does. None stands for the process's own setting.

    `max_new_tokens`: 0 means until the model stops. `language`: name or ISO code; canonical once decoded.
    """

    max_new_tokens: NewTokens | None = None
    language: str | None = None
    context: Context | None = None


class Transcribe(Decoding, frozen=True, kw_only=True, tag="transcribe"):
    """Transcribe the file at `audio`. Answered by `transcript`. Loads the model if need be."""

    audio: AudioPath


class BatchTranscribe(Decoding, frozen=True, kw_only=True, tag="batch_transcribe"):
    """Transcribe several files. Answered by `batch_transcript`; an item that fails fails alone."""

    audio: Annotated[list[AudioPath], Meta(min_length=1, max_length=MAX_BATCH_ITEMS)]
    decoder_mode: str | None = None


class Stop(Command, frozen=True, tag="stop"):
    """Finish what was accepted, answer `stopped`, and exit."""


COMMANDS: dict[str, type[Command]] = {
    "capabilities": Capabilities,
    "hello": Hello,
    "start": Start,
    "transcribe": Transcribe,
    "batch_transcribe": BatchTranscribe,
    "stop": Stop,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its envelope. The reply echoes `id`, UNSET if none came. `warnings` name what was ignored."""

    command: Command
    id: Id | UnsetType = UNSET
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no request. `id` is None if the line could not be read far enough to know it."""

    error: BridgeError
    id: Id | UnsetType | None = None


def decode_line(line: bytes) -> Request | Rejected:
    """A line without its newline becomes a request, or the error to answer it with. Never raises a RequestError."""
    identifier: Id | UnsetType | None = None
    try:
        members = parse_object(line)
        identifier = _decode_id(members.pop("id", UNSET))
        return _decode_members(members, identifier)
    except RequestError as error:
        return Rejected(error, identifier)


def decode_command(line: bytes) -> Command:
    """The command on a line. Raises a RequestError that says what was expected, and names the `field` at fault."""
    decoded = decode_line(line)
    if isinstance(decoded, Rejected):
        raise decoded.error
    return decoded.command


def _decode_id(value: object) -> Id | UnsetType:
    if isinstance(value, UnsetType):
        return value
    if isinstance(value, str) and 1 <= len(value) <= MAX_ID_CHARACTERS and not _UNUSABLE_IN_ID.search(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    expected = f"a string of 1 to {MAX_ID_CHARACTERS} characters, none of them a control character, or a whole number"
    raise RequestError(f"`id`: expected {expected}", field="id")


def _decode_members(members: dict[str, Any], identifier: Id | UnsetType) -> Request:
    command_type = _command_type(members.pop("type", None))
    known = command_type.__struct_fields__
    ignored = sorted(set(members) - set(known))
    try:
        command = msgspec.convert(members, command_type, strict=False)  # not strict: "7" counts as 7
    except msgspec.ValidationError as error:
        raise _invalid_params(str(error)) from None
    warnings = tuple(f"unknown_field: {name[:64]}" for name in ignored)
    return Request(_canonical(command), identifier, warnings)


def _command_type(name: Any) -> type[Command]:
    if not isinstance(name, str):
        raise RequestError("`type`: expected a string that names the request", field="type")
    command_type = COMMANDS.get(name)
    if command_type is None:
        supported = list(COMMANDS)
        raise UnknownType(f"unknown type; this build knows: {', '.join(supported)}", field="type", supported=supported)
    return command_type


def _canonical(command: Command) -> Command:
    if isinstance(command, BatchTranscribe) and command.decoder_mode not in (None, *DECODER_MODES):
        message = f"`decoder_mode`: expected one of: {', '.join(DECODER_MODES)}"
        raise InvalidParams(message, field="decoder_mode", supported=list(DECODER_MODES))
    if isinstance(command, Decoding) and command.language is not None:
        return msgspec.structs.replace(command, language=language_name(command.language))
    return command


def _invalid_params(text: str) -> InvalidParams:
    """msgspec says "Expected `int`, got `bool` - at `$.max_new_tokens`", or which required field is missing."""
    problem, _, path = text.partition(" - at `$.")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", problem)
    if missing:
        return InvalidParams(f"`{missing[1]}`: required, and missing", field=missing[1])
    path = path.removesuffix("`")
    return InvalidParams(f"`{path}`: {problem[:1].lower()}{problem[1:]}", field=re.split(r"\W", path, maxsplit=1)[0])
