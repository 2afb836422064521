"""Defects of a report's layout, found by the browser that shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.browser import Page

SCREENS = ((1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark"))
LEAST_PIXELS = 10
LEAST_CONTRAST = 4.5
_SHOWN = """
[...document.querySelectorAll("figure")].map(figure => {
  const box = element => { const b = element.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
  const probe = colour => { const e = document.createElement("i"); e.style.color = colour; figure.append(e);
    const told = getComputedStyle(e).color; e.remove(); return told.match(/[\\d.]+/g).slice(0, 3).map(Number); };
  return {
    name: figure.id, box: box(figure), svg: box(figure.querySelector("svg")),
    ground: probe(getComputedStyle(figure).backgroundColor),
    texts: [...figure.querySelectorAll("svg text")].map(text => ({
      text: text.textContent, box: box(text), colour: probe(getComputedStyle(text).fill),
      pixels: text.getScreenCTM().a * parseFloat(getComputedStyle(text).fontSize)})),
    marks: [...figure.querySelectorAll("[id*='-mark-']")].map(mark => ({id: mark.id, box: box(mark),
      colour: probe(getComputedStyle(mark.querySelector("use[style]") ?? mark.querySelector("path")).fill)})),
  };
})
"""
_CUT_CELLS = """
[...document.querySelectorAll(".table td")]
  .filter(cell => cell.getBoundingClientRect().right > cell.closest(".table").getBoundingClientRect().right + 1)
  .map(cell => cell.textContent)
"""


def figures(page: Page) -> dict[str, Any]:
    return {figure["name"]: figure for figure in page.run(_SHOWN)}


def complaints(page: Page, path: Path) -> list[str]:
    """On every screen."""
    return [
        f"{width} {theme}: {written}"
        for width, height, theme in SCREENS
        for written in (page.open(path, width, height, theme), *_complaints(page))
        if written
    ]


def _complaints(page: Page) -> Iterator[str]:
    if page.run("document.documentElement.scrollWidth > window.innerWidth"):
        yield "the page is wider than the screen"
    if cut := page.run(_CUT_CELLS):
        yield f"the table is cut off: {cut}"
    for name, figure in figures(page).items():
        yield from (f"{name}: {written}" for written in _of_figure(figure))


def _of_figure(figure: dict[str, Any]) -> Iterator[str]:
    if _size(figure["svg"]) < (250, 60):
        yield "no plot"
    if not figure["marks"]:
        yield "no marks"
    for mark in figure["marks"]:
        if min(_size(mark["box"])) <= 0 or not _inside(mark["box"], figure["box"]):
            yield f"{mark['id']} is not seen"
        if _contrast(mark["colour"], figure["ground"]) < 1.8:
            yield f"{mark['id']} is as the ground"
    for number, text in enumerate(figure["texts"]):
        yield from (f"{text['text']!r} is {written}" for written in _of_text(text, figure))
        for other in (*figure["texts"][number + 1 :], *figure["marks"]):
            if _overlap(text["box"], other["box"]):
                yield f"{text['text']!r} is over {other.get('text', other.get('id'))!r}"


def _of_text(text: dict[str, Any], figure: dict[str, Any]) -> Iterator[str]:
    if text["pixels"] < LEAST_PIXELS:
        yield f"{text['pixels']:.1f} pixels"
    if _contrast(text["colour"], figure["ground"]) < LEAST_CONTRAST:
        yield "pale"
    if not _inside(text["box"], figure["box"]):
        yield "cut off"


def _size(box: list[float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _inside(box: list[float], outer: list[float]) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _overlap(one: list[float], other: list[float]) -> bool:
    """By more than what a letter's box is larger than the letter."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide > 1.5 and high > 4


def _contrast(one: list[float], other: list[float]) -> float:
    """As WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: list[float]) -> float:
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
