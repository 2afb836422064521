"""Matches predictions with expected utterances."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_mlx_runtime.tools.manifest import Entry
from qwen3_asr_mlx_runtime.tools.score.predictions import Prediction, Predictions


@dataclass(frozen=True, slots=True)
class Pair:
    entry: Entry
    text: str


@dataclass(frozen=True, slots=True)
class Matching:
    """Each utterance and each prediction is in one pair or in one of the lists. `failed`: predictions of an expected
    utterance without a text."""

    pairs: list[Pair]
    missing: list[Entry]
    unexpected: list[Prediction]
    failed: list[Prediction]

    @property
    def is_complete(self) -> bool:
        return not (self.missing or self.unexpected or self.failed)


def match(entries: Sequence[Entry], predictions: Predictions) -> Matching:
    """Match by the path as written; then by the resolved path (of a prediction: relative to the working directory, or
    to its file's folder); then by a base name that is unique on both sides. Pairs are in the order of the entries."""
    found: dict[int, Prediction] = {}
    rest = list(predictions.items)
    folder = predictions.path.parent
    expected_names = _unique(Path(entry.audio).name for entry in entries)
    names = expected_names & _unique(Path(item.audio).name for item in rest)
    rest = _take(found, rest, _index(entries, lambda entry: entry.audio), lambda item: [item.audio])
    rest = _take(found, rest, _index(entries, lambda entry: _resolved(entry.path)), lambda item: _paths(item, folder))
    rest = _take(found, rest, _index(entries, lambda entry: Path(entry.audio).name), lambda item: _name(item, names))
    return Matching(
        pairs=[Pair(entry, text) for index, entry in enumerate(entries) if (text := _text(found, index)) is not None],
        missing=[entry for index, entry in enumerate(entries) if index not in found],
        unexpected=rest,
        failed=[item for _, item in sorted(found.items(), key=lambda match: match[0]) if item.text is None],
    )


def _take(
    found: dict[int, Prediction],
    rest: list[Prediction],
    indices: dict[str, int],
    keys: Callable[[Prediction], list[str]],
) -> list[Prediction]:
    """Add predictions with a free match to `found`; return the others."""
    left = []
    for item in rest:
        free = (indices[key] for key in keys(item) if key in indices and indices[key] not in found)
        index = next(free, None)
        if index is None:
            left.append(item)
        else:
            found[index] = item
    return left


def _index(entries: Sequence[Entry], key: Callable[[Entry], str]) -> dict[str, int]:
    return {key(entry): index for index, entry in enumerate(entries)}


def _unique(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count == 1}


def _resolved(path: Path) -> str:
    try:
        return str(path.resolve())
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL
        return str(path)


def _paths(item: Prediction, folder: Path) -> list[str]:
    return [_resolved(Path(item.audio)), _resolved(folder / item.audio)]


def _name(item: Prediction, names: set[str]) -> list[str]:
    name = Path(item.audio).name
    return [name] if name in names else []


def _text(found: dict[int, Prediction], index: int) -> str | None:
    return found[index].text if index in found else None
