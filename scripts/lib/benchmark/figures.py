"""What was measured, as values with a unit; medians, spread, ratios; tables."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figure:
    """One figure: the values of each contender, the i-th of each from the same round."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, contender: str) -> float:
        return statistics.median(self.values[contender])

    def ratio(self, contender: str, other: str) -> float:
        """Median over the rounds of the ratio of `contender` to `other`: below 1 is less. Rounds are paired, because
        other load on the machine affects both contenders of a round."""
        pairs = zip(self.values[contender], self.values[other], strict=False)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def as_json(self) -> dict[str, Any]:
        by_contender = {
            contender: {"median": self.median(contender), "min": min(values), "max": max(values), "values": values}
            for contender, values in self.values.items()
        }
        return {"name": self.name, "unit": self.unit, "contenders": by_contender}


class Figures:
    """All figures of a run, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def add(self, name: str, unit: str, contender: str, value: float) -> None:
        self._figures.setdefault(name, Figure(name, unit)).values.setdefault(contender, []).append(value)

    def __iter__(self) -> Iterable[Figure]:
        return iter(self._figures.values())

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]


def markdown(figures: Iterable[Figure], contenders: Sequence[str], missing: str = "") -> str:
    """A table: a row for each figure, a column for each contender, and the first one's ratio to each of the others.
    `missing`: for what was not measured."""
    first, *others = contenders
    titles = ["what", "unit", *contenders, *(f"{first} / {other}" for other in others)]
    rows = [titles, ["---", "---", *["---:"] * (len(titles) - 2)]]
    for figure in figures:
        cells = [_cell(figure, contender) or missing for contender in contenders]
        ratios = [_ratio(figure, first, other) or missing for other in others]
        rows.append([figure.name, figure.unit, *cells, *ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(figure: Figure, contender: str) -> str:
    values = figure.values.get(contender)
    if not values:
        return ""
    median = _short(figure.median(contender))
    return median if len(values) == 1 else f"{median} ({_short(min(values))} … {_short(max(values))})"


def _ratio(figure: Figure, first: str, other: str) -> str:
    if figure.unit == "%" or not {first, other} <= figure.values.keys() or not all(figure.values[other]):
        return ""
    return f"{figure.ratio(first, other):.2f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def agreement(tokens: Mapping[str, Sequence[Sequence[int]]], first: str) -> dict[str, list[int | None]]:
    """For each other contender, and each clip, the index of the first token that differs from `first`'s; None where all
    are equal."""
    return {
        contender: [_first_difference(mine, theirs) for mine, theirs in zip(tokens[first], rows, strict=True)]
        for contender, rows in tokens.items()
        if contender != first
    }


def _first_difference(mine: Sequence[int], theirs: Sequence[int]) -> int | None:
    differing = (i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
    return next(differing, None)
