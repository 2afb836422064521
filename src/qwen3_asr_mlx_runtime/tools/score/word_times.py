"""When words were found, against when they are said."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.protocol.transcripts import Aligner, Word, words_reason
from qwen3_asr_mlx_runtime.tools.manifest import ReferenceWord
from qwen3_asr_mlx_runtime.tools.score.alignment import align
from qwen3_asr_mlx_runtime.tools.score.normalization import spaceless

LIMITS_MS = (80, 160, 240)

References = Mapping[str, Sequence[ReferenceWord] | None]
"""The words of a manifest, by its `audio`."""


class TimeErrors(msgspec.Struct, frozen=True):
    """How far the times of `matched` words are from those of the `reference_words`. `starts_ms` and `ends_ms`: found
    minus reference, ascending. Means and median are of the distances in ms, over starts and ends together where no name
    says which; `within` is the share of them that are at most so many ms. All null without a match."""

    reference_words: int
    matched: int
    mean_ms: float | None
    start_mean_ms: float | None
    end_mean_ms: float | None
    median_ms: float | None
    within: dict[int, float | None]
    starts_ms: list[int]
    ends_ms: list[int]


class WordFigures(msgspec.Struct, frozen=True):
    """The words of several utterances.

    `utterances` have words; `without` counts the others with a text by reason. `words` have times of their own, and
    `zero_length` of them last 0 s. `seconds`: of the aligner's work; `realtime_factor`: seconds of audio for each of
    these. `errors` is null if no reference words are known.
    """

    utterances: int
    without: dict[str, int]
    words: int
    zero_length: int
    seconds: float
    realtime_factor: float | None
    errors: TimeErrors | None


class Item(Protocol):
    """An utterance; its members have the same meaning as in a reply of the bridge."""

    @property
    def audio(self) -> str: ...
    @property
    def profile(self) -> Profile | None: ...
    @property
    def words(self) -> list[Word] | UnsetType | None: ...
    @property
    def aligner(self) -> Aligner | UnsetType: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Match(NamedTuple):
    reference: ReferenceWord
    found: Word


def word_figures(items: Iterable[Item], references: References) -> WordFigures | None:
    """None if no item was asked for words."""
    asked = [item for item in items if item.words is not UNSET]
    if not asked:
        return None
    words = [word for item in asked for word in timed(item.words or ())]
    aligned = [(item.aligner, item.profile) for item in asked if item.aligner]
    seconds = sum(aligner.seconds for aligner, _ in aligned)
    audio = sum(profile.audio_seconds or 0.0 for _, profile in aligned if profile)
    return WordFigures(
        utterances=sum(item.words is not None for item in asked),
        without=dict(sorted(Counter(_reason(item) for item in asked if item.words is None).items())),
        words=len(words),
        zero_length=sum(word.end <= word.start for word in words),
        seconds=round(seconds, 4),
        realtime_factor=round(audio / seconds, 2) if seconds else None,
        errors=_errors(
            [(known, item.words or ()) for item in asked if (known := references.get(item.audio)) is not None]
        ),
    )


def timed(words: Iterable[Word]) -> list[Word]:
    """Without those that stand for a whole segment."""
    return [word for word in words if word.time_confidence is not None]


def matches(reference: Sequence[ReferenceWord], found: Sequence[Word]) -> Iterator[Match]:
    """The words that both have, in order: equal but for case, punctuation and symbols, aligned as texts are scored."""
    expected = [(name, word) for word in reference if (name := spaceless(word.text))]
    heard = [(name, word) for word in timed(found) if (name := spaceless(word.text))]
    alignment = align(" ".join(name for name, _ in expected), " ".join(name for name, _ in heard), "word")
    first, second = iter(expected), iter(heard)
    for chunk in alignment.chunks:
        left = [next(first)[1] for _ in chunk.reference]
        right = [next(second)[1] for _ in chunk.hypothesis]
        if chunk.kind == "equal":
            yield from map(Match, left, right)


def _reason(item: Item) -> str:
    return words_reason(item.warnings) or ""


def _errors(known: Sequence[tuple[Sequence[ReferenceWord], Sequence[Word]]]) -> TimeErrors | None:
    if not known:
        return None
    matched = [match for reference, words in known for match in matches(reference, words)]
    starts = sorted(_milliseconds(found.start - word.start) for word, found in matched)
    ends = sorted(_milliseconds(found.end - word.end) for word, found in matched)
    distances = np.abs([*starts, *ends])
    return TimeErrors(
        reference_words=sum(len(reference) for reference, _ in known),
        matched=len(matched),
        mean_ms=_rounded(distances.mean()) if matched else None,
        start_mean_ms=_rounded(np.abs(starts).mean()) if matched else None,
        end_mean_ms=_rounded(np.abs(ends).mean()) if matched else None,
        median_ms=_rounded(np.median(distances)) if matched else None,
        within={limit: round(float(np.mean(distances <= limit)), 4) if matched else None for limit in LIMITS_MS},
        starts_ms=starts,
        ends_ms=ends,
    )


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _rounded(milliseconds: float) -> float:
    return round(float(milliseconds), 2)
