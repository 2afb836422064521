"""How partials are shown: rewritten in place on a terminal, one line for each revision elsewhere."""

import shutil
import unicodedata
from collections.abc import Sequence
from typing import Protocol, TextIO

from qwen3_asr_mlx_runtime.tools.live.record import Record, printable

_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"

Cells = list[tuple[str, bool]]  # characters, and whether each is dim


class Screen(Protocol):
    def begin(self, records: Sequence[Record]) -> None:
        """Start with the utterances of a file, one for each stream."""

    def changed(self, record: Record) -> None:
        """The record has a new partial, or its final."""

    def end(self) -> None:
        """All records have their finals."""


class Silent:
    """Shows nothing."""

    def begin(self, records: Sequence[Record]) -> None:
        pass

    def changed(self, record: Record) -> None:
        pass

    def end(self) -> None:
        pass


class Lines(Silent):
    """A line for each revision: the stream, the seconds decoded, the stable prefix, `|`, the rest."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def changed(self, record: Record) -> None:
        self._out.write(f"{label(record)} {self._revision(record)}\n")
        self._out.flush()

    def _revision(self, record: Record) -> str:
        if record.final is not None:
            return f"final, {remarks(record)}: {printable(record.text)}"
        latest = record.partials[-1]
        stable = latest.stable_part
        return f"{latest.audio_seconds:.2f} s: {printable(stable)}|{printable(latest.text[len(stable) :])}"


class Terminal:
    """The utterances of a file, one below the other and rewritten in place: stable text as usual, the rest dim."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._records: Sequence[Record] = ()
        self._rows = 0

    def begin(self, records: Sequence[Record]) -> None:
        self._records, self._rows = records, 0
        self._draw()

    def changed(self, _: Record) -> None:
        self._draw()

    def end(self) -> None:
        self._out.write("\n")
        self._out.flush()

    def _draw(self) -> None:
        width, height = shutil.get_terminal_size()
        lines = [line for record in self._records for line in wrapped(cells(record), width - 1)]
        lines = lines[-(height - 1) :]  # lines that have scrolled out cannot be rewritten
        back = f"\x1b[{self._rows - 1}A" if self._rows > 1 else ""
        self._out.write(f"\r{back}\x1b[J" + "\n".join(map(painted, lines)))
        self._out.flush()
        self._rows = len(lines)


def label(record: Record) -> str:
    return printable(record.name) if record.stream == 0 else f"{printable(record.name)} [{record.stream}]"


def remarks(record: Record) -> str:
    """A summary of the partials, for people."""
    first = "no text before" if record.first_text is None else f"first text after {record.first_text:.2f} s"
    number = len(record.partials)
    partials = "1 partial" if number == 1 else f"{number} partials"
    return f"{first}, {partials}, final {record.end_to_final:.2f} s after the end"


def cells(record: Record) -> Cells:
    """A record as shown on the screen."""
    shown = [(character, True) for character in f"{label(record)}: "]
    if record.final is not None:
        shown += [(character, False) for character in printable(record.text)]
        return shown + [(character, True) for character in f" ({remarks(record)})"]
    if record.partials:
        latest = record.partials[-1]
        stable = len(latest.stable_part)
        shown += [(character, index >= stable) for index, character in enumerate(printable(latest.text))]
    return shown


def wrapped(shown: Cells, width: int) -> list[Cells]:
    """Lines of at most `width` columns, so that the terminal wraps none itself, broken at spaces if possible."""
    lines: list[Cells] = [[]]
    for cell in shown:
        if columns([*lines[-1], cell]) > max(2, width):
            lines.append(_broken_off(lines[-1], cell))
        lines[-1].append(cell)
    return lines


def _broken_off(line: Cells, cell: tuple[str, bool]) -> Cells:
    """Remove the last word of a full line, unless it is the whole line or has just ended."""
    spaces = [index for index, (character, _) in enumerate(line) if character == " "]
    if cell[0] == " " or not spaces:
        return []
    word = line[spaces[-1] + 1 :]
    del line[spaces[-1] + 1 :]
    return word


def columns(line: Cells) -> int:
    return sum(columns_of(character) for character, _ in line)


def columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def painted(line: Cells) -> str:
    text, is_dim = "", False
    for character, dim in line:
        if dim != is_dim:
            text += _DIM if dim else _NORMAL
            is_dim = dim
        text += character
    return text + (_NORMAL if is_dim else "")
