"""Descriptions as the comments that both languages have."""

import textwrap
from collections.abc import Iterator

WIDTH = 120


def documentation(text: str, opening: str, indent: str = "") -> Iterator[str]:
    """Lines of a comment, each after `opening`; none for an empty text."""
    yield from textwrap.wrap(text, WIDTH, initial_indent=indent + opening, subsequent_indent=indent + opening)


def sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}." if note else ""
