"""A transcript and its language → the units that the forced aligner gives times.

The units are those of qwen-asr 0.0.6, on which the aligner was trained. Letters, digits and `'` are kept and everything
else is deleted. Whitespace ends a unit, and a Chinese character is one by itself. In Korean a dictionary separates stem
and ending, and in Japanese nagisa finds the words.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

WITHOUT_NAGISA = "words_approximate: nagisa is not installed"

_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf"
_CHINESE_APART = re.compile(f"[{_CHINESE}]|[^{_CHINESE}]+")
_SCRIPTS_APART = re.compile(f"[{_CHINESE}]|[ぁ-ゟー]+|[゠-ヿㇰ-ㇿ]+|[^{_CHINESE}ぁ-ヿㇰ-ㇿ]+")

_Form = Literal["NFC", "NFKC"]
_DECOMPOSED: dict[_Form, Literal["NFD", "NFKD"]] = {"NFC": "NFD", "NFKC": "NFKD"}


@dataclass(frozen=True, slots=True)
class WordUnit:
    """`letters` are given to the model: the kept characters of the normalised transcript. `text` is
    `transcript[char_start:char_end]` without the whitespace around it, and never empty."""

    letters: str
    text: str
    char_start: int
    char_end: int


@dataclass(frozen=True, slots=True)
class WordUnits:
    """`warning` is WITHOUT_NAGISA if the units are not those of the reference, else None."""

    units: tuple[WordUnit, ...]
    warning: str | None = None


def word_units(transcript: str, language: str | None) -> WordUnits:
    """Cut a transcript as qwen-asr 0.0.6 cuts its NFC (`encode_timestamp`); Japanese is in NFKC.

    `language` is a name of `languages.py`; anything else takes the rule of English and Chinese. Offsets count code
    points of the transcript as it is given. The ranges of the units cover all of it: what lies before the first unit
    belongs to it, and what lies behind a unit belongs to that. A transcript without letters and digits has no units.

    Japanese needs the extra `japanese`. Without it a unit is a run of hiragana, of katakana or of other letters, or one
    kanji, and `warning` says so. Words that begin within one character (`㍿`) are one unit. nagisa is not thread-safe.
    """
    form: _Form = "NFKC" if language == "Japanese" else "NFC"
    text, origins = _normalised(transcript, form)
    warning = None
    match language:
        case "Japanese" if (segment := _nagisa()) is not None:
            pieces: Iterable[str] = segment(text)
        case "Japanese":
            pieces, warning = _runs_of_one_script(text), WITHOUT_NAGISA
        case "Korean":
            pieces = _stems_and_endings(text)
        case _:
            pieces = _words_and_characters(text)
    kept = [origin for character, origin in zip(text, origins, strict=True) if _is_kept(character)]
    return WordUnits(tuple(_placed(filter(None, map(_letters, pieces)), kept, transcript)), warning)


def _placed(pieces: Iterable[str], kept: list[int], transcript: str) -> Iterator[WordUnit]:
    """`kept`: where in the transcript each kept character begins; the pieces are these characters, in order."""
    letters, starts, position = list[str](), list[int](), 0
    for piece in pieces:
        if position and kept[position] == kept[position - 1]:
            letters[-1] += piece
        else:
            letters.append(piece)
            starts.append(kept[position])
        position += len(piece)
    bounds = [*starts, len(transcript)]
    bounds[0] = 0
    for piece, (start, end) in zip(letters, pairwise(bounds), strict=True):
        yield WordUnit(piece, transcript[start:end].strip(), start, end)


def _is_kept(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LN"


def _letters(text: str) -> str:
    return "".join(filter(_is_kept, text))


def _normalised(text: str, form: _Form) -> tuple[str, list[int]]:
    """The text in a normal form, and where in `text` each character of it begins.

    Characters that normalise together, as a letter and its accents do, begin where the first of them does.
    """
    result, origins, start = list[str](), list[int](), 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _combines(text[start:end], text[end], form):
            cluster = unicodedata.normalize(form, text[start:end])
            result.append(cluster)
            origins += [start] * len(cluster)
            start = end
    return "".join(result), origins


def _combines(cluster: str, character: str, form: _Form) -> bool:
    """Whether a character normalises together with those before it: a mark, or a later part of a syllable."""
    normalize = unicodedata.normalize
    if unicodedata.combining(normalize(_DECOMPOSED[form], character)[0]):
        return True
    return normalize(form, cluster + character) != normalize(form, cluster) + normalize(form, character)


def _words_and_characters(text: str) -> Iterator[str]:
    for token in text.split():
        yield from _CHINESE_APART.findall(_letters(token))


def _stems_and_endings(text: str) -> Iterator[str]:
    """Each token as its longest prefix in the dictionary and the rest, or whole; punctuation counts."""
    words = _korean_words()
    longest = max(map(len, words))
    for token in text.split():
        prefixes = (end for end in range(min(longest, len(token)), 1, -1) if token[:end] in words)
        end = next(prefixes, len(token))
        yield token[:end]
        yield token[end:]


def _runs_of_one_script(text: str) -> Iterator[str]:
    for token in text.split():
        yield from _SCRIPTS_APART.findall(_letters(token))


@cache
def _korean_words() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("korean_words.txt").read_text(encoding="utf-8").split())


@cache
def _nagisa() -> Callable[[str], list[str]] | None:
    """On a thread of its own: DyNet, as it is compiled, makes the thread that imports it flush small floats to zero."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_imported).result()


def _imported() -> Callable[[str], list[str]] | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of its regular expressions, when Python compiles them
            import nagisa
    except ImportError:
        return None
    segment: Callable[[str], list[str]] = nagisa.wakati
    return segment
