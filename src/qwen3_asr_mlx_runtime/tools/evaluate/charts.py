"""An evaluation → its plots."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qwen3_asr_mlx_runtime.engines.profile import MIB
from qwen3_asr_mlx_runtime.tools.evaluate.evaluation import BANDS, Evaluation, Result, error_rate
from qwen3_asr_mlx_runtime.tools.evaluate.plotting import (
    INK,
    MARKERS,
    POINTS,
    STYLE,
    SURFACE,
    as_svg,
    blank_plot,
    draw_interval,
    draw_mark,
    label_rows,
    series_colour,
)
from qwen3_asr_mlx_runtime.tools.score.scoring import Rate, Scores
from qwen3_asr_mlx_runtime.tools.score.word_times import LIMITS_MS
from qwen3_asr_mlx_runtime.tools.stages import STAGES

_MAX_POINTS = 300  # at most, of one configuration's latencies
_FARTHEST_MS = 400  # of word times
_LOWEST = 48  # pixels from the bottom, above the labels of the axis

_Point = tuple[float, float]


class Chart(NamedTuple):
    """`stages`: whether its colours stand for stages instead of configurations."""

    name: str
    title: str
    caption: str
    svg: str
    stages: bool = False


class _Mark(NamedTuple):
    """One point of one configuration; `series`: the configuration's number."""

    series: int
    key: str
    x: float
    rate: Rate


def charts(evaluation: Evaluation) -> list[Chart]:
    """The charts that have data. `evaluation` has at least one result."""
    results = evaluation.results
    languages = sorted({name for result in results for name in result.score.languages})
    rate = "WER" if any(result.score.overall.wer for result in results) else "CER"
    speed = [(result, result.figures.realtime_factor) for result in results]
    memory = [(result, result.figures.memory_bytes and result.figures.memory_bytes / MIB) for result in results]
    with rc_context(STYLE):
        drawn = (
            _against("speed", f"{rate} against speed", f"{rate} %", "× real time: right is faster", speed),
            _against("memory", f"{rate} against memory", f"{rate} %", "peak memory, MiB: left is less", memory),
            _latency(results),
            _stages(results),
            _groups("language", "Errors by language", languages, results, lambda result: result.score.languages),
            _word_times(results),
            _groups("duration", "Errors by duration", BANDS, results, lambda result: result.durations),
        )
    return [chart for chart in drawn if chart is not None]


_CAPTIONS = {
    "speed": "Lower is better, right is faster. Bars: 95\u00a0% intervals.",
    "memory": "Lower is better, left is smaller. Bars: 95\u00a0% intervals.",
    "latency": "A point is an utterance: the engine's seconds of work on it, in a batch its share. Long line: median. "
    "Short line: 95\u00a0% of the utterances are below.",
    "stages": "Milliseconds of work for each second of audio, by stage. 1000 would be as slow as speech.",
    "language": "Word errors, or character errors (CER) where words are not separated. In brackets: utterances. "
    "Bars: 95\u00a0% intervals.",
    "word-times": "The share of starts and ends of words that are so close to those of the manifest. Upper left "
    "is better. Mark: median. What is farther than 400\u00a0ms is not shown.",
    "duration": "By seconds of audio. In brackets: utterances. Bars: 95\u00a0% intervals.",
}


def _against(
    name: str, title: str, y_label: str, x_label: str, values: Sequence[tuple[Result, float | None]]
) -> Chart | None:
    marks = [
        _Mark(index, result.configuration.key, x, rate)
        for index, (result, x) in enumerate(values)
        if x is not None and (rate := error_rate(result.score.overall)).rate is not None
    ]
    if not marks:
        return None
    figure, axes = blank_plot(250)
    axes.set_title(y_label, loc="left")
    axes.set_xlabel(x_label)
    for mark in marks:
        draw_interval(axes, mark.series, mark.rate, x=mark.x)
        draw_mark(axes, mark.series, f"{name}-mark-{mark.key}", mark.x, 100 * (mark.rate.rate or 0.0))
    _limits(axes, [mark.x for mark in marks], [_upper(mark.rate) for mark in marks])
    _place_keys(figure, axes, marks)
    return Chart(name, title, _CAPTIONS[name], as_svg(figure, name, title))


def _latency(results: Sequence[Result]) -> Chart | None:
    rows = [(index, result) for index, result in enumerate(results) if result.figures.work_seconds]
    if not rows:
        return None
    figure, axes = blank_plot(64 + 34 * len(rows))
    axes.set_xlabel("seconds of work")
    for row, (index, result) in enumerate(rows):
        _spread(axes, row, index, result)
    label_rows(axes, [result.configuration.key for _, result in rows])
    axes.set_xlim(0, None)
    return Chart("latency", "Latency of utterances", _CAPTIONS["latency"], as_svg(figure, "latency", "Latency"))


def _spread(axes: Axes, row: int, index: int, result: Result) -> None:
    figures = result.figures
    seconds = np.array(figures.work_seconds)
    if len(seconds) > _MAX_POINTS:  # evenly over the distribution
        seconds = np.quantile(seconds, np.linspace(0, 1, _MAX_POINTS))
    heights = row + 0.22 * np.resize([0.0, -1.0, 0.6, -0.5, 1.0, -0.2], len(seconds))
    [points] = axes.plot(seconds, heights, MARKERS[index % 8], color=series_colour(index), alpha=0.55, ms=4, mew=0)
    points.set_gid(f"latency-mark-{result.configuration.key}")
    for value, half, width in ((figures.median_seconds, 0.4, 2.0), (figures.p95_seconds, 0.25, 1.25)):
        axes.vlines(value or 0.0, row - half, row + half, color=INK, linewidth=width, zorder=3)


def _stages(results: Sequence[Result]) -> Chart | None:
    rows = [result for result in results if result.figures.audio_seconds and result.figures.stages]
    if not rows:
        return None
    figure, axes = blank_plot(64 + 30 * len(rows))
    axes.set_xlabel("ms of work for each second of audio")
    totals = [_stacked(axes, row, result) for row, result in enumerate(rows)]
    for row, total in enumerate(totals):
        label = f"{total:.0f}" if total >= 10 else f"{total:.1f}"
        axes.annotate(label, (total, row), (4, 0), textcoords="offset points", va="center")
    label_rows(axes, [result.configuration.key for result in rows])
    axes.set_xlim(0, 1.15 * max(totals))
    return Chart("stages", "Where time goes", _CAPTIONS["stages"], as_svg(figure, "stages", "Where time goes"), True)


def _stacked(axes: Axes, row: int, result: Result) -> float:
    left = 0.0
    for index, stage in enumerate(STAGES.values()):
        wide = 1000 * result.figures.stages.get(stage, 0.0) / (result.figures.audio_seconds or 1.0)
        if wide:
            [bar] = axes.barh(row, wide, 0.62, left, color=f"#0002{index + 1:02x}", edgecolor=SURFACE, linewidth=0.75)
            bar.set_gid(f"stages-mark-{result.configuration.key}-{index + 1}")
        left += wide
    return left


def _word_times(results: Sequence[Result]) -> Chart | None:
    found = [(index, result, result.words.errors) for index, result in enumerate(results) if result.words]
    rows = [(index, result, errors) for index, result, errors in found if errors and errors.matched]
    if not rows:
        return None
    name, title = "word-times", "Errors of word times"
    figure, axes = blank_plot(250)
    axes.set_title("starts and ends, %", loc="left")
    axes.set_xlabel("ms from the manifest's: left is better")
    grid = np.arange(0, _FARTHEST_MS + 1, 4)
    for index, result, errors in rows:
        distances = np.sort(np.abs([*errors.starts_ms, *errors.ends_ms]))
        shares = 100 * np.searchsorted(distances, grid, side="right") / len(distances)
        axes.plot(grid, shares, color=series_colour(index), linewidth=1.5)
        median = min(errors.median_ms or 0.0, _FARTHEST_MS)
        draw_mark(
            axes, index, f"{name}-mark-{result.configuration.key}", median, float(np.interp(median, grid, shares))
        )
    axes.set_xticks([0, *LIMITS_MS, 320, _FARTHEST_MS])
    axes.set_xlim(0, _FARTHEST_MS)
    axes.set_ylim(0, 104)
    return Chart(name, title, _CAPTIONS[name], as_svg(figure, name, title))


def _groups(
    name: str,
    title: str,
    names: Sequence[str],
    results: Sequence[Result],
    groups_of: Callable[[Result], dict[str, Scores]],
) -> Chart | None:
    found = {group: [groups_of(result).get(group) for result in results] for group in names}
    rows = {group: row for group, row in found.items() if any(scores and error_rate(scores).length for scores in row)}
    if not rows:
        return None
    figure, axes = blank_plot(60 + len(rows) * (16 + 11 * len(results)))
    axes.set_xlabel("errors, %")
    for row, index in product(range(len(rows)), range(len(results))):
        scores = list(rows.values())[row][index]
        _group_mark(axes, f"{name}-mark-{row}-{results[index].configuration.key}", row, index, len(results), scores)
    label_rows(axes, [_group_label(group, row) for group, row in rows.items()])
    rates = [error_rate(scores) for row in rows.values() for scores in row if scores]
    axes.set_xlim(0, max(1.0, 1.06 * max(map(_upper, rates))))
    return Chart(name, title, _CAPTIONS[name], as_svg(figure, name, title))


def _group_mark(axes: Axes, gid: str, row: int, index: int, count: int, scores: Scores | None) -> None:
    rate = None if scores is None else error_rate(scores)
    if rate is None or rate.rate is None:
        return
    height = row + 0.7 * ((index + 0.5) / count - 0.5)
    draw_interval(axes, index, rate, y=height)
    draw_mark(axes, index, gid, 100 * rate.rate, height)


def _group_label(group: str, row: Sequence[Scores | None]) -> str:
    scores = next(scores for scores in row if scores)
    return f"{group}{'' if scores.wer else ' CER'} ({scores.utterances})"


def _limits(axes: Axes, x: Sequence[float], upper: Sequence[float]) -> None:
    """Both axes from 0, with room for the keys."""
    axes.set_xlim(0, 1.15 * max(x) or 1)
    axes.set_ylim(0, max(1.0, 1.12 * max(upper)))


def _upper(rate: Rate) -> float:
    return 100 * max(rate.rate or 0.0, rate.interval[1] if rate.interval else 0.0)


def _place_keys(figure: Figure, axes: Axes, marks: Sequence[_Mark]) -> None:
    """Put each key beside its mark, at the first free position."""
    figure.draw_without_rendering()  # computes the layout
    dots = [_pixels(axes, mark) for mark in marks]
    taken: list[_Point] = []
    for index, (mark, dot) in enumerate(zip(marks, dots, strict=True)):
        right, up = _free_offset(dot, [*taken, *dots[:index], *dots[index + 1 :]])
        taken.append((dot[0] + right, dot[1] + up))
        at, away = (mark.x, 100 * (mark.rate.rate or 0.0)), (right * POINTS, up * POINTS)
        axes.annotate(mark.key, at, away, textcoords="offset points", ha="center", va="center")


def _pixels(axes: Axes, mark: _Mark) -> _Point:
    x, y = axes.transData.transform((mark.x, 100 * (mark.rate.rate or 0.0)))
    return float(x), float(y)


def _free_offset(dot: _Point, taken: Sequence[_Point]) -> _Point:
    """Pixels from the mark: on ever wider rings around it, at least a letter's width from everything drawn."""
    offsets = [(12.0 * ring * x, 12.0 * ring * y) for ring in range(1, 9) for x, y in _AROUND]
    for right, up in offsets:
        apart = (max(abs(dot[0] + right - x) / 12, abs(dot[1] + up - y) / 14) for x, y in taken)
        if min(apart, default=1.0) >= 1 and dot[1] + up > _LOWEST:
            return right, up
    return offsets[0]


_AROUND = ((1, 0.9), (-1, 0.9), (1, 0), (-1, 0), (0, 1.2), (1, -0.9), (-1, -0.9))
