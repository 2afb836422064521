"""Pairs of expected and predicted texts → error rates and the worst utterances."""

from collections.abc import Sequence

import msgspec

from qwen3_asr_mlx_runtime.tools.score.alignment import Alignment, Counts, align
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap, Interval
from qwen3_asr_mlx_runtime.tools.score.matching import Matching, Pair
from qwen3_asr_mlx_runtime.tools.score.normalization import normaliser_of

UNSPECIFIED = "unspecified"


class Scored(msgspec.Struct, frozen=True):
    """One utterance. `reference` and `hypothesis` are normalised; `words` is null where only characters count."""

    audio: str
    language: str
    normaliser: str
    reference: str
    hypothesis: str
    words: Counts | None
    characters: Counts

    @property
    def counts(self) -> Counts:
        """Word counts, or character counts if its language is scored by characters."""
        return self.words or self.characters

    def align(self) -> Alignment:
        return align(self.reference, self.hypothesis, "character" if self.words is None else "word")


class Rate(msgspec.Struct, frozen=True):
    """`rate` is errors / `length`, null where that is 0; `interval` the 95 % bootstrap interval."""

    rate: float | None
    interval: Interval | None
    substitutions: int
    deletions: int
    insertions: int
    length: int


class Scores(msgspec.Struct, frozen=True):
    """Scores of a group of utterances; `wer` is null if none of them counts words."""

    utterances: int
    normalisers: list[str]
    wer: Rate | None
    cer: Rate


class Worst(msgspec.Struct, frozen=True):
    audio: str
    language: str
    rate: float | None
    alignment: Alignment


class Report(msgspec.Struct, frozen=True):
    """The scores of one file of predictions. `missing`, `unexpected` and `failed` name the audio that could not be
    scored; `unnamed` counts predictions without audio."""

    predictions: str
    overall: Scores
    languages: dict[str, Scores]
    worst: list[Worst]
    missing: list[str]
    unexpected: list[str]
    failed: list[str]
    unnamed: int


def score(pair: Pair) -> Scored:
    entry = pair.entry
    normaliser = normaliser_of(entry.language, entry.text, entry.normaliser)
    reference, hypothesis = normaliser.apply(entry.text), normaliser.apply(pair.text)
    return Scored(
        entry.audio,
        entry.language or UNSPECIFIED,
        normaliser.name,
        reference,
        hypothesis,
        align(reference, hypothesis, "word").counts if normaliser.words else None,
        align(reference, hypothesis, "character").counts,
    )


def report(
    path: str, matching: Matching, scored: Sequence[Scored], unnamed: int, bootstrap: Bootstrap, worst: int
) -> Report:
    return Report(
        path,
        scores(scored, bootstrap),
        {language: scores(group, bootstrap) for language, group in by_language(scored).items()},
        [Worst(u.audio, u.language, u.counts.rate, u.align()) for u in _worst(scored)[:worst]],
        [entry.audio for entry in matching.missing],
        [item.audio for item in matching.unexpected],
        [item.audio for item in matching.failed],
        unnamed,
    )


def by_language(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    return {name: [u for u in scored if u.language == name] for name in sorted({u.language for u in scored})}


def scores(scored: Sequence[Scored], bootstrap: Bootstrap) -> Scores:
    words = [utterance.words for utterance in scored if utterance.words is not None]
    return Scores(
        len(scored),
        sorted({utterance.normaliser for utterance in scored}),
        _rate(words, bootstrap) if words else None,
        _rate([utterance.characters for utterance in scored], bootstrap),
    )


def _rate(counts: Sequence[Counts], bootstrap: Bootstrap) -> Rate:
    total = sum(counts, start=Counts())
    interval = bootstrap.rate([count.errors for count in counts], [count.length for count in counts])
    return Rate(total.rate, interval, total.substitutions, total.deletions, total.insertions, total.length)


def _worst(scored: Sequence[Scored]) -> list[Scored]:
    """Utterances with errors, the highest rate first. Insertions into an empty reference rank as the worst."""
    wrong = [utterance for utterance in scored if utterance.counts.errors]
    return sorted(wrong, key=lambda u: (-u.counts.errors / max(u.counts.length, 0.5), -u.counts.errors))
