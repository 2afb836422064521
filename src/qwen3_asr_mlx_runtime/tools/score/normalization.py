"""How texts are normalised before they are compared, and whether words or characters are counted."""

import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from qwen3_asr_mlx_runtime.engines.transcript import WRITTEN_WITHOUT_SPACES
from qwen3_asr_mlx_runtime.tools.manifest import NormaliserChoice

BASIC = "basic (NFKC, case folded, without punctuation and symbols)"
SPACELESS = f"{BASIC[:-1]} and spaces)"
BY_CHARACTER = frozenset({"Chinese", "Cantonese", "Japanese", "Korean", "Thai"})


@dataclass(frozen=True, slots=True)
class Normaliser:
    """`name`: a description, or the library. `words`: whether the word error rate is reported too."""

    name: str
    words: bool
    apply: Callable[[str], str]


def normaliser_of(language: str | None, reference: str, choice: NormaliserChoice | None = None) -> Normaliser:
    """The normaliser of a language. Without a language, the script of the reference decides between words and
    characters. `basic` is for texts of spelt digits, which Whisper's English joins to one number."""
    if language == "English" and choice != "basic":
        return _english()
    by_character = language in BY_CHARACTER or (language is None and WRITTEN_WITHOUT_SPACES.search(reference))
    return _SPACELESS if by_character else _BASIC


def basic(text: str) -> str:
    """Keep combining marks, which are parts of letters in many scripts; remove invisible joiners and controls."""
    shown = (_shown(character) for character in unicodedata.normalize("NFKC", text).casefold())
    return _single_spaced("".join(shown))


def spaceless(text: str) -> str:
    return basic(text).replace(" ", "")


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return " " if category[0] in "PSZ" or category == "Cc" else character


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


_BASIC = Normaliser(BASIC, words=True, apply=basic)
_SPACELESS = Normaliser(SPACELESS, words=False, apply=spaceless)


@cache
def _english() -> Normaliser:
    with warnings.catch_warnings(action="ignore"):  # escapes in its docstrings, of which the first compilation warns
        from whisper_normalizer.english import EnglishTextNormalizer
    standardise = EnglishTextNormalizer()
    name = f"Whisper's English (whisper-normalizer {version('whisper-normalizer')})"
    return Normaliser(name, words=True, apply=lambda text: _single_spaced(standardise(text)))
