"""The form of a transcription, as OpenAI defines it → what the bridge is asked for, and how to answer."""

from dataclasses import dataclass, field

from starlette.datastructures import FormData, UploadFile

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.languages import AUTO, language_choice
from qwen3_asr_mlx_runtime.limits import MAX_CONTEXT_CHARACTERS
from qwen3_asr_mlx_runtime.tools.serve.problems import invalid

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
STREAMED = ("json", "text")
_GRANULARITIES = ("timestamp_granularities[]", "timestamp_granularities")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "": False}
_WITHOUT_EFFECT = ("temperature", "include[]", "include", "chunking_strategy")
_OBJECT = "expected a file with a name, as a part of multipart/form-data"


@dataclass(frozen=True)
class Wanted:
    """`language`: a canonical name, or None for the server's own setting. `without_effect`: fields that were given and
    change nothing."""

    response_format: str = "json"
    granularities: frozenset[str] = frozenset({"segment"})
    is_streamed: bool = False
    language: str | None = None
    context: str | None = None
    without_effect: tuple[str, ...] = field(default=())

    @property
    def words(self) -> bool:
        """Whether the answer has times of words."""
        is_verbose = self.response_format == "verbose_json"
        return self.response_format in ("srt", "vtt") or (is_verbose and "word" in self.granularities)

    def message(self, path: str) -> dict[str, object]:
        """The request for a file."""
        return {
            "type": "transcribe",
            "audio": path,
            "decoder_mode": "batched",
            "language": self.language,
            "context": self.context,
            "segments": True,
            "words": self.words,
        }


def wanted(form: FormData) -> Wanted:
    """Raises Problem. The file is checked by `file_of`; any `model` is accepted."""
    chosen = _choice(form, "response_format", RESPONSE_FORMATS) or "json"
    is_streamed = _is_true(form, "stream")
    if is_streamed and chosen not in STREAMED:
        raise invalid(f"expected response_format {' or '.join(STREAMED)} with stream, got {chosen}", "stream")
    return Wanted(
        response_format=chosen,
        granularities=_granularities(form),
        is_streamed=is_streamed,
        language=_language(form),
        context=_context(form),
        without_effect=tuple(name for name in _WITHOUT_EFFECT if _text(form, name)),
    )


def file_of(form: FormData) -> UploadFile:
    """Raises Problem."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise invalid(_OBJECT, "file")
    return file


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise invalid("expected text, got a file", name)
    return value


def _choice(form: FormData, name: str, choices: tuple[str, ...]) -> str:
    value = _text(form, name)
    if value and value not in choices:
        raise invalid(f"expected one of: {', '.join(choices)}", name)
    return value


def _granularities(form: FormData) -> frozenset[str]:
    values = [value for name in _GRANULARITIES for value in form.getlist(name)]
    if not all(value in GRANULARITIES for value in values):
        raise invalid(f"expected one of: {', '.join(GRANULARITIES)}", _GRANULARITIES[0])
    return frozenset(map(str, values)) or frozenset({"segment"})


def _is_true(form: FormData, name: str) -> bool:
    value = _BOOLEANS.get(_text(form, name).lower())
    if value is None:
        raise invalid("expected true or false", name)
    return value


def _language(form: FormData) -> str | None:
    value = _text(form, "language")
    if not value.strip():
        return None
    try:
        choice = language_choice(value)
    except InvalidParams as error:
        raise invalid(error.message, "language") from None
    return AUTO if choice == AUTO else choice


def _context(form: FormData) -> str | None:
    value = _text(form, "prompt")
    if len(value) > MAX_CONTEXT_CHARACTERS:
        raise invalid(f"expected at most {MAX_CONTEXT_CHARACTERS} characters, got {len(value)}", "prompt")
    return value or None
