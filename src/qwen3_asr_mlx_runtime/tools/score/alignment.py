"""Two normalised texts, word by word or character by character: jiwer's alignment, its counts, and its display."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Literal

import jiwer
import msgspec
from rich.cells import cell_len

Unit = Literal["word", "character"]
Kind = Literal["equal", "substitute", "delete", "insert"]


class Counts(msgspec.Struct, frozen=True):
    """Counts of one alignment, or sums of many; `length`: of the reference, in words or characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per unit of the reference; None if the reference is empty."""
        return self.errors / self.length if self.length else None

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


class Chunk(msgspec.Struct, frozen=True):
    """A run of one kind. `equal` and `substitute` have equally many units on both sides, the others on one side."""

    kind: Kind
    reference: list[str]
    hypothesis: list[str]


class Alignment(msgspec.Struct, frozen=True):
    unit: Unit
    counts: Counts
    chunks: list[Chunk]


def align(reference: str, hypothesis: str, unit: Unit) -> Alignment:
    """The alignment with the fewest errors. Spaces count as characters."""
    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    result = process([reference], [hypothesis])
    [expected], [predicted], [chunks] = result.references, result.hypotheses, result.alignments
    counts = Counts(result.substitutions, result.deletions, result.insertions, len(expected))
    return Alignment(unit, counts, [_chunk(chunk, expected, predicted) for chunk in chunks])


def _chunk(chunk: jiwer.AlignmentChunk, expected: Sequence[str], predicted: Sequence[str]) -> Chunk:
    return Chunk(
        _kind(chunk.type),
        list(expected[chunk.ref_start_idx : chunk.ref_end_idx]),
        list(predicted[chunk.hyp_start_idx : chunk.hyp_end_idx]),
    )


def _kind(name: str) -> Kind:
    kinds: tuple[Kind, ...] = ("equal", "substitute", "delete", "insert")
    return next(kind for kind in kinds if kind == name)


def diff_rows(alignment: Alignment, width: int) -> list[tuple[str, str, str]]:
    """(reference, hypothesis, marks) in columns, S, D and I under what differs, in rows of at most `width` cells where
    no single column is wider."""
    space = " " if alignment.unit == "word" else ""
    rows: list[list[tuple[str, str, str]]] = [[]]
    used = 0
    for column in chain.from_iterable(map(_columns, alignment.chunks)):
        wide = cell_len(column[0]) + len(space)
        if rows[-1] and used + wide > width:
            rows.append([])
            used = 0
        rows[-1].append(column)
        used += wide
    return [_lines(row, space) for row in rows if row]


def _lines(row: list[tuple[str, str, str]], space: str) -> tuple[str, str, str]:
    expected, predicted, marks = (space.join(cells).rstrip() for cells in zip(*row, strict=True))
    return expected, predicted, marks


def _columns(chunk: Chunk) -> list[tuple[str, str, str]]:
    mark = "" if chunk.kind == "equal" else chunk.kind[0].upper()
    return [
        _column(expected, predicted, mark) for expected, predicted in zip_longest(chunk.reference, chunk.hypothesis)
    ]


def _column(expected: str | None, predicted: str | None, mark: str) -> tuple[str, str, str]:
    wide = max(cell_len(expected or ""), cell_len(predicted or ""), 1)
    filled = [text if text is not None else "*" * wide for text in (expected, predicted)]
    first, second, below = (text + " " * (wide - cell_len(text)) for text in (*filled, mark))
    return first, second, below
