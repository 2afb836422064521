"""The waveform of an utterance with its words at their times."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from rich.cells import cell_len

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.tools.evaluate.measurement import MeasuredItem
from qwen3_asr_mlx_runtime.tools.manifest import Entry, ReferenceWord
from qwen3_asr_mlx_runtime.tools.score.scoring import Worst
from qwen3_asr_mlx_runtime.tools.score.word_times import timed

COLUMNS = 400
# Pixels of the drawing.
_A_SECOND = 110
_WIDTHS = (320, 4000)
_HALF = 30  # of the waveform's height
_ROW = 16
_ROWS = 3  # of labels, at most; a word without room has a bar alone
_CELL = 7.5  # of a label


class Spoken(msgspec.Struct, frozen=True):
    """An utterance as it is drawn. `lows` and `highs`: of at most 400 columns, -100 to 100 % of the loudest sample.
    `words` without those that stand for a whole segment; `reference` is empty if it is not known."""

    audio: str
    seconds: float
    lows: list[int]
    highs: list[int]
    words: list[ReferenceWord]
    reference: list[ReferenceWord]


class Label(NamedTuple):
    """`left` and `width` of the word's bar; `x` of its text, and the `row` of that, None without room."""

    text: str
    title: str
    left: float
    width: float
    x: float
    row: int | None


class Drawing(NamedTuple):
    """In pixels. `outline`: the path of the waveform."""

    width: int
    height: int
    outline: str
    found: list[Label]
    found_top: int
    reference: list[Label]
    reference_top: int


def spoken(
    worst: Iterable[Worst],
    items: Iterable[MeasuredItem],
    entries: Iterable[Entry],
    files: Iterable[tuple[str, Path]],
) -> list[Spoken]:
    """One for each of `worst`. `files`: the name and the path of what was transcribed."""
    paths, found, known = dict(files), {item.audio: item for item in items}, {entry.audio: entry for entry in entries}
    return [_spoken(each.audio, paths[each.audio], found[each.audio], known[each.audio]) for each in worst]


def columns(samples: Samples) -> tuple[list[int], list[int]]:
    """float32 (N,) → the least and the greatest of each of at most 400 columns, in per cent of the loudest sample."""
    if not len(samples):
        return [], []
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.intp)
    scale = 100 / (float(np.abs(samples).max()) or 1.0)
    ends = (ufunc.reduceat(samples, starts) * scale for ufunc in (np.minimum, np.maximum))
    lows, highs = (np.rint(end).astype(int).tolist() for end in ends)
    return lows, highs


def drawing(utterance: Spoken) -> Drawing:
    """Words of one kind never touch each other: they have rows, and bars between the waveform and the rows."""
    narrow, wide = _WIDTHS
    width = round(min(max(narrow, _A_SECOND * utterance.seconds), wide))
    scale = width / (utterance.seconds or 1.0)
    found = list(_labels(utterance.words, scale, width))
    reference = list(_labels(utterance.reference, scale, width))
    found_top = 2 * _HALF + 8
    reference_top = found_top + _height(found)
    return Drawing(
        width,
        reference_top + _height(reference),
        _outline(utterance, width),
        found,
        found_top,
        reference,
        reference_top,
    )


def _spoken(audio: str, path: Path, item: MeasuredItem, entry: Entry) -> Spoken:
    samples = read_file(str(path)).samples
    lows, highs = columns(samples)
    words = [ReferenceWord(word.text, word.start, word.end) for word in timed(item.words or ())]
    return Spoken(audio, round(len(samples) / SAMPLE_RATE, 3), lows, highs, words, list(entry.words or ()))


def _outline(utterance: Spoken, width: int) -> str:
    step = width / max(1, len(utterance.highs))
    upper = [(step * (place + 0.5), _HALF - _HALF * high / 100) for place, high in enumerate(utterance.highs)]
    lower = [(step * (place + 0.5), _HALF - _HALF * low / 100) for place, low in enumerate(utterance.lows)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
    return f"M{points}Z" if points else ""


def _labels(words: Sequence[ReferenceWord], scale: float, width: int) -> Iterator[Label]:
    free = [0.0] * _ROWS  # where each row has room again
    for word in words:
        left, wide = scale * word.start, _CELL * cell_len(word.text)
        x = max(0.0, min(left, width - wide))
        row = next((number for number, end in enumerate(free) if end <= x), None)
        if row is not None:
            free[row] = x + wide + _CELL
        bar = max(1.5, scale * (word.end - word.start) - 1)
        title = f"{word.text}: {word.start:.2f} to {word.end:.2f} s"
        yield Label(word.text, title, round(left, 1), round(bar, 1), round(x, 1), row)


def _height(labels: Sequence[Label]) -> int:
    rows = [label.row for label in labels if label.row is not None]
    return 12 + _ROW * (1 + max(rows, default=0)) if labels else 0
