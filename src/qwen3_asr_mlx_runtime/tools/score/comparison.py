"""What two files of predictions differ in, over the utterances that both have."""

from collections.abc import Sequence

import msgspec

from qwen3_asr_mlx_runtime.tools.score.alignment import Counts
from qwen3_asr_mlx_runtime.tools.score.bootstrap import Bootstrap, Interval
from qwen3_asr_mlx_runtime.tools.score.scoring import Scored, by_language


class Difference(msgspec.Struct, frozen=True):
    """The second rate minus the first: below 0 the second is better. `interval`: 95 %, of a paired bootstrap; the
    difference is beyond chance where it leaves 0 out."""

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval | None


class Differences(msgspec.Struct, frozen=True):
    utterances: int
    wer: Difference | None
    cer: Difference


class Changed(msgspec.Struct, frozen=True):
    """An utterance whose normalised texts are not the same. Errors are of what its language is judged by."""

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
    """`changed` begins with what became worse by most, and ends with what became better by most."""
    others = {one.audio: one for one in second}
    both = [(one, others[one.audio]) for one in first if one.audio in others]
    groups = by_language([one for one, _ in both])
    return Comparison(
        _differences(both, bootstrap),
        {name: _differences([(one, others[one.audio]) for one in group], bootstrap) for name, group in groups.items()},
        sorted(
            (_changed(*pair) for pair in both if pair[0].hypothesis != pair[1].hypothesis),
            key=lambda one: one.first_errors - one.second_errors,
        ),
    )


def _differences(both: Sequence[Both], bootstrap: Bootstrap) -> Differences:
    words = [(one.words, other.words) for one, other in both if one.words is not None and other.words is not None]
    characters = [(one.characters, other.characters) for one, other in both]
    return Differences(len(both), _difference(words, bootstrap) if words else None, _difference(characters, bootstrap))


def _difference(both: Sequence[tuple[Counts, Counts]], bootstrap: Bootstrap) -> Difference:
    first, second = (sum((pair[side] for pair in both), start=Counts()).rate for side in (0, 1))
    interval = bootstrap.difference(
        [one.errors for one, _ in both], [other.errors for _, other in both], [one.length for one, _ in both]
    )
    difference = None if first is None or second is None else second - first
    return Difference(first, second, difference, interval)


def _changed(one: Scored, other: Scored) -> Changed:
    return Changed(
        one.audio,
        one.language,
        one.reference,
        one.hypothesis,
        other.hypothesis,
        one.counts.errors,
        other.counts.errors,
    )
