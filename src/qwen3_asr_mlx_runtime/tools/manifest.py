"""A manifest: JSON lines with sound files, their texts, and when their words are said."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.languages import AUTO, language_choice
from qwen3_asr_mlx_runtime.model_name import DEMO

# How texts are normalised before they are compared; `basic` keeps the words.
NormaliserChoice = Literal["by-language", "basic"]
NORMALISER_HELP = "for all lines; default: as in the line, else by-language, or basic for the demonstration"


class ReferenceWord(msgspec.Struct, frozen=True):
    """A word and when it is said, in seconds from the first sample of the file."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Entry:
    """`audio`: as written. `path`: relative to the manifest's folder. `language`: a canonical name or None. `words`:
    None if their times are not known."""

    audio: str
    path: Path
    text: str
    language: str | None
    line: int
    normaliser: NormaliserChoice | None = None
    words: tuple[ReferenceWord, ...] | None = None

    def completed(
        self, language: str | None, normaliser: NormaliserChoice | None, default: NormaliserChoice | None
    ) -> "Entry":
        """Apply options of a command line: `language` if the line has none, `normaliser` over the line's own, and
        `default` if neither names a normaliser."""
        return replace(self, language=self.language or language, normaliser=normaliser or self.normaliser or default)


class _Line(msgspec.Struct):
    audio: str
    text: str
    language: str | None = None
    normaliser: NormaliserChoice | None = None
    words: tuple[ReferenceWord, ...] | None = None


def read_manifest(path: Path) -> list[Entry]:
    """The lines of a manifest in order. Raises InvalidParams, which names the line at fault."""
    entries = [_entry(path, number, line) for number, line in lines_of(path)]
    if not entries:
        raise InvalidParams(f"{path}: expected at least one line with `audio` and `text`")
    first: dict[str, int] = {}
    for entry in entries:
        if first.setdefault(entry.audio, entry.line) != entry.line:
            raise bad_line(path, entry.line, f"the audio of line {first[entry.audio]} again")
    return entries


def normaliser_for(models: Iterable[str | None]) -> NormaliserChoice | None:
    """The default normaliser: `basic` for the demonstration, which is scored digit by digit."""
    return "basic" if set(models) == {DEMO} else None


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers. Raises OSError."""
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield number, line


def bad_line(path: Path, number: int, message: str) -> InvalidParams:
    return InvalidParams(f"{path}: line {number}: {message}")


def _entry(path: Path, number: int, line: bytes) -> Entry:
    try:
        found = msgspec.json.decode(line, type=_Line)
        language = language_choice(found.language or AUTO)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise bad_line(path, number, str(error)) from None
    except InvalidParams as error:
        raise bad_line(path, number, error.message) from None
    if not found.audio:
        raise bad_line(path, number, "`audio` is empty")
    if trouble := _trouble(found.words or ()):
        raise bad_line(path, number, f"`words`: {trouble}")
    resolved = path.parent / found.audio
    named = None if language == AUTO else language
    return Entry(found.audio, resolved, found.text, named, number, found.normaliser, found.words)


def _trouble(words: Sequence[ReferenceWord]) -> str:
    """What is wrong with the times, if anything is."""
    latest = 0.0
    for place, word in enumerate(words, 1):
        if not latest <= word.start <= word.end < math.inf:
            got = f"{word.start:g} to {word.end:g} as no. {place}"
            return f"expected 0 ≤ `start` ≤ `end`, in the order of `start`, got {got}"
        latest = word.start
    return ""
