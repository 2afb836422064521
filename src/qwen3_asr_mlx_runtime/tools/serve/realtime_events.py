"""The client's events of a realtime transcription session → typed values, and the settings that they make."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES, language_choice
from qwen3_asr_mlx_runtime.limits import MAX_CONTEXT_CHARACTERS
from qwen3_asr_mlx_runtime.tools.serve.problems import Problem, invalid

T = TypeVar("T")
RATES = (16_000, 24_000, 48_000)
_INPUT = "session.audio.input"
_MAX_PADDING_MS, _MAX_SILENCE_MS = 5_000, 60_000


@dataclass(frozen=True)
class ServerVad:
    """The defaults are OpenAI's."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500


@dataclass(frozen=True)
class Settings:
    """`rate`: Hz. `language`: a canonical name, `auto`, or None for the server's own setting."""

    rate: int = 24_000
    language: str | None = None
    prompt: str | None = None
    turn_detection: ServerVad | None = None

    def members(self, id: str, model: str) -> dict[str, Any]:
        """The session as OpenAI tells it."""
        vad = self.turn_detection
        language = None if self.language is None else LANGUAGE_CODES.get(self.language, self.language)
        heard = {
            "format": {"type": "audio/pcm", "rate": self.rate},
            "noise_reduction": None,
            "transcription": {"model": model, "language": language, "prompt": self.prompt},
            "turn_detection": None if vad is None else {"type": "server_vad", **vars(vad)},
        }
        return {
            "id": id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {"input": heard},
            "include": None,
        }


class _Format(msgspec.Struct):
    type: str = "audio/pcm"
    rate: int = Settings.rate


class _Transcription(msgspec.Struct):
    language: str | None = None
    prompt: Annotated[str, Meta(max_length=MAX_CONTEXT_CHARACTERS)] | None = None


class _TurnDetection(msgspec.Struct):
    type: str
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=_MAX_PADDING_MS)] | None = None
    silence_duration_ms: Annotated[int, Meta(ge=0, le=_MAX_SILENCE_MS)] | None = None


class _Input(msgspec.Struct):
    format: _Format | UnsetType | None = UNSET
    transcription: _Transcription | UnsetType | None = UNSET
    turn_detection: _TurnDetection | UnsetType | None = UNSET


class _Audio(msgspec.Struct):
    input: _Input | None = None


class _Session(msgspec.Struct):
    type: str
    audio: _Audio | None = None


class SessionUpdate(msgspec.Struct):
    session: _Session


class Append(msgspec.Struct):
    """`audio`: little-endian 16-bit PCM, base64 on the wire."""

    audio: bytes


class Commit(msgspec.Struct):
    pass


class Clear(msgspec.Struct):
    pass


Event = SessionUpdate | Append | Commit | Clear
_EVENTS: dict[str, type[Event]] = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Commit,
    "input_audio_buffer.clear": Clear,
}


class Head(msgspec.Struct):
    """`event_id`: the client's own, which an error repeats."""

    type: str
    event_id: str | None = None


def decoded_head(text: str) -> Head:
    """Raises Problem."""
    return _decoded(text, Head)


def decoded_event(type: str, text: str) -> Event:
    """Raises Problem."""
    kind = _EVENTS.get(type)
    if kind is None:
        raise invalid(f"expected one of: {', '.join(_EVENTS)}", "type", "unknown_event")
    event = _decoded(text, kind)
    if isinstance(event, Append) and len(event.audio) % 2:
        raise invalid("expected 16-bit samples, got an odd number of bytes", "audio", "invalid_audio")
    return event


def updated(settings: Settings, update: SessionUpdate) -> Settings:
    """What the update does not name stays as it is. Raises Problem."""
    session = update.session
    if session.type != "transcription":
        raise _unsupported("transcription", "session.type")
    given = (session.audio and session.audio.input) or _Input()
    if given.format is not UNSET:
        settings = replace(settings, rate=_rate(given.format or _Format()))
    if given.transcription is not UNSET:
        transcription = given.transcription or _Transcription()
        settings = replace(settings, language=_language(transcription), prompt=transcription.prompt or None)
    if given.turn_detection is not UNSET:
        settings = replace(settings, turn_detection=_turn_detection(given.turn_detection))
    return settings


def _decoded(text: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise _refused(error) from None
    except (msgspec.DecodeError, RecursionError):  # the second: of lists in lists
        raise invalid("expected an event as a JSON object, in a text message", None, "invalid_json") from None


def _rate(format: _Format) -> int:
    if format.type != "audio/pcm":
        raise _unsupported("audio/pcm", f"{_INPUT}.format.type")
    if format.rate not in RATES:
        raise _unsupported(" or ".join(map(str, RATES)), f"{_INPUT}.format.rate")
    return format.rate


def _language(transcription: _Transcription) -> str | None:
    if not transcription.language:
        return None
    try:
        return language_choice(transcription.language)
    except InvalidParams as error:
        raise invalid(error.message, f"{_INPUT}.transcription.language") from None


def _turn_detection(given: _TurnDetection | None) -> ServerVad | None:
    if given is None:
        return None
    if given.type != "server_vad":
        raise _unsupported("server_vad or null", f"{_INPUT}.turn_detection.type")
    chosen = {name: value for name in ServerVad.__match_args__ if (value := getattr(given, name)) is not None}
    return ServerVad(**chosen)


def _unsupported(expected: str, param: str) -> Problem:
    return invalid(f"expected {expected}", param, "not_supported")


def _refused(error: msgspec.ValidationError) -> Problem:
    """msgspec names the member at the end of its message, as `$.session.type`."""
    message, _, path = str(error).partition(" - at `$")
    return invalid(message, path.strip(".`") or None)
