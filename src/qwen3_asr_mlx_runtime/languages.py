"""The thirty languages Qwen3-ASR writes, by the names it was trained on and their ISO 639 codes."""

from collections.abc import Iterable

from qwen3_asr_mlx_runtime.errors import InvalidParams

LANGUAGE_CODES = {
    "Chinese": "zh",
    "English": "en",
    "Cantonese": "yue",
    "Arabic": "ar",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Portuguese": "pt",
    "Indonesian": "id",
    "Italian": "it",
    "Korean": "ko",
    "Russian": "ru",
    "Thai": "th",
    "Vietnamese": "vi",
    "Japanese": "ja",
    "Turkish": "tr",
    "Hindi": "hi",
    "Malay": "ms",
    "Dutch": "nl",
    "Swedish": "sv",
    "Danish": "da",
    "Finnish": "fi",
    "Polish": "pl",
    "Czech": "cs",
    "Filipino": "fil",
    "Persian": "fa",
    "Greek": "el",
    "Romanian": "ro",
    "Hungarian": "hu",
    "Macedonian": "mk",
}
AUTO = "auto"  # the model decides, also where another setting names a language
_NAMES = {spelling.lower(): name for name, code in LANGUAGE_CODES.items() for spelling in (name, code)} | {AUTO: AUTO}


def language_choice(spelling: str) -> str:
    """The canonical name of a language given by name or ISO code, in any case: `en`, `english` → `English`; or AUTO.

    Raises InvalidParams with the field `language` and the names that are known.
    """
    name = _NAMES.get(spelling.strip().lower())
    if name is None:
        raise InvalidParams(f"unknown language; expected {AUTO} or one of: {_known()}", field="language")
    return name


def allowed_languages(spellings: Iterable[str]) -> tuple[str, ...]:
    """The canonical names of languages that the model may choose from, each once, in the order of LANGUAGE_CODES.

    Raises InvalidParams with the field `languages` for one that is not known, and for AUTO.
    """
    chosen = {_NAMES.get(spelling.strip().lower()) for spelling in spellings}
    if not chosen <= LANGUAGE_CODES.keys():
        raise InvalidParams(f"unknown language; expected each to be one of: {_known()}", field="languages")
    return tuple(name for name in LANGUAGE_CODES if name in chosen)


def _known() -> str:
    return ", ".join(f"{name} ({code})" for name, code in LANGUAGE_CODES.items())
