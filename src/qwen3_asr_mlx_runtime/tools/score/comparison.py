"""The differences of two prediction files, over the utterances of both."""

from collections.abc import Sequence

import msgspec

from qwen3_asr_mlx_runtime.tools.score.alignment import Counts
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap, Interval
from qwen3_asr_mlx_runtime.tools.score.scoring import Scored, by_language


class Difference(msgspec.Struct, frozen=True):
    """The second rate minus the first: below 0 the second is better. `interval`: 95 %, by a paired bootstrap; the
    difference is significant if it excludes 0."""

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None


class Differences(msgspec.Struct, frozen=True):
    utterances: int
    wer: Difference | None
    cer: Difference


class Changed(msgspec.Struct, frozen=True):
    """An utterance with different normalised texts. Errors are words or characters, by its language."""

    audio: str
    language: str
    reference: str
    first: str
    second: str
    first_errors: int
    second_errors: int


class Comparison(msgspec.Struct, frozen=True):
    overall: Differences
    languages: dict[str, Differences]
    changed: list[Changed]


Both = tuple[Scored, Scored]


def compare(first: Sequence[Scored], second: Sequence[Scored], bootstrap: Bootstrap) -> Comparison:
    """Compare two predictions. `changed` is sorted from the most worsened to the most improved utterance."""
    others = {scored.audio: scored for scored in second}
    both = [(scored, others[scored.audio]) for scored in first if scored.audio in others]
    groups = by_language([scored for scored, _ in both])
    return Comparison(
        _differences(both, bootstrap),
        {
            name: _differences([(scored, others[scored.audio]) for scored in group], bootstrap)
            for name, group in groups.items()
        },
        sorted(
            (_changed(*pair) for pair in both if pair[0].hypothesis != pair[1].hypothesis),
            key=lambda change: change.first_errors - change.second_errors,
        ),
    )


def _differences(both: Sequence[Both], bootstrap: Bootstrap) -> Differences:
    words = [(a.words, b.words) for a, b in both if a.words is not None and b.words is not None]
    characters = [(a.characters, b.characters) for a, b in both]
    return Differences(len(both), _difference(words, bootstrap) if words else None, _difference(characters, bootstrap))


def _difference(both: Sequence[tuple[Counts, Counts]], bootstrap: Bootstrap) -> Difference:
    first, second = (sum((pair[side] for pair in both), start=Counts()).rate for side in (0, 1))
    interval = bootstrap.difference(
        [a.errors for a, _ in both], [b.errors for _, b in both], [a.length for a, _ in both]
    )
    difference = None if first is None or second is None else second - first
    return Difference(first, second, difference, interval)


def _changed(first: Scored, second: Scored) -> Changed:
    return Changed(
        first.audio,
        first.language,
        first.reference,
        first.hypothesis,
        second.hypothesis,
        first.counts.errors,
        second.counts.errors,
    )
