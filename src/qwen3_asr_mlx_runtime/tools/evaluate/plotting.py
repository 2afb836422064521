"""Plots as inline SVG: colours are CSS variables of the page, so that they follow its theme, and a plot is as wide as a
phone, so that its text is never scaled down."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qwen3_asr_mlx_runtime.tools.score.scoring import Rate

WIDTH = 352  # CSS pixels: a phone of 390 without margins
MARKERS = "osD^vPpX"
_PIXELS_PER_INCH = 96
POINTS = 72 / _PIXELS_PER_INCH
# Colours that matplotlib writes and the page replaces: --ink, --muted and so on, --series-1 and --stage-1 and so on.
_VARIABLES = {"#000001": "ink", "#000002": "muted", "#000003": "grid", "#000004": "surface"}
INK, _MUTED, _GRID, SURFACE = _VARIABLES
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evaluation",
    "font.size": 8.5,  # points: 11.3 pixels
    "text.color": INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.titlecolor": _MUTED,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.75,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def blank_plot(height: int) -> tuple[Figure, Axes]:
    figure = Figure((WIDTH / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH, layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.tick_params(length=0, pad=6)
    axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=2))
    axes.margins(x=0.1)
    return figure, axes


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label rows from the top down."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def draw_mark(axes: Axes, index: int, gid: str, x: float, y: float) -> None:
    """Draw the mark of configuration number `index`."""
    [mark] = axes.plot(
        [x], [y], MARKERS[index % 8], color=series_colour(index), ms=6.5, mec=SURFACE, mew=0.75, zorder=3
    )
    mark.set_gid(gid)
    mark.set_clip_on(False)


def draw_interval(axes: Axes, index: int, rate: Rate, x: float | None = None, y: float | None = None) -> None:
    """Draw the interval of `rate`: vertical at x, or horizontal at y."""
    if rate.interval is None:
        return
    ends = [100 * end for end in rate.interval]
    across, along = ([x, x], ends) if x is not None else (ends, [y or 0.0] * 2)
    axes.plot(across, along, color=series_colour(index), linewidth=1.5, clip_on=False)


def series_colour(index: int) -> str:
    return f"#0001{index % 8 + 1:02x}"


def as_svg(figure: Figure, name: str, title: str) -> str:
    """The drawing as inline SVG. Its ids begin with `name`, because a page has several plots."""
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = svg.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    for pattern, replacement in _replacements(name):
        drawing = re.sub(pattern, replacement, drawing)
    return drawing.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _replacements(name: str) -> Iterator[tuple[str, str]]:
    yield r' (?:xmlns(?::xlink)?="[^"]*"|version="1.1"|(?:width|height)="[0-9.]+pt")', ""
    yield "xlink:href", "href"
    yield rf'id="(?!{name}-)', f'id="{name}-'
    yield rf'href="#(?!{name}-)', f'href="#{name}-'
    yield rf"url\(#(?!{name}-)", f"url(#{name}-"
    yield r"#0001([0-9a-f]{2})", r"var(--series-\1)"
    yield r"#0002([0-9a-f]{2})", r"var(--stage-\1)"
    for colour, variable in _VARIABLES.items():
        yield colour, f"var(--{variable})"
