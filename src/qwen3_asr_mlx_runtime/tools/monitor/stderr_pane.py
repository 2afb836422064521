"""Lines of stderr, the bridge's and the monitor's own, that would otherwise overwrite the drawing."""

import os
import re
from collections import deque
from typing import TextIO

from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from qwen3_asr_mlx_runtime.command import printable

_LINES, _LINE_BYTES = 6, 4096


class StderrPane:
    """The last lines of stderr. Of a line rewritten by carriage returns, only the last version."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._count = 0
        self._unfinished = b""

    def take(self, data: bytes) -> None:
        *ended, rest = (self._unfinished + data).split(b"\n")
        self._lines.extend(map(_shown, ended))
        self._count += len(ended)
        self._unfinished = rest[-_LINE_BYTES:]

    def add_line(self, line: str) -> None:
        """Add a line of the monitor itself."""
        self._lines.append(printable(line))
        self._count += 1

    def picture(self) -> list[RenderableType]:
        """A panel of the lines; empty without lines."""
        lines = [*self._lines, _shown(self._unfinished)][-_LINES:]
        while lines and not lines[-1]:
            lines.pop()
        if not lines:
            return []
        count = self._count + bool(self._unfinished)
        title = f"stderr, {count} line{'' if count == 1 else 's'}"
        return [Panel(Text("\n".join(lines)), title=title, title_align="left")]


def stderr_is_on(terminal: TextIO) -> bool:
    return os.isatty(2) and os.ttyname(2) == os.ttyname(terminal.fileno())


def _shown(line: bytes) -> str:
    """The line without control sequences."""
    last = line.removesuffix(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
    return printable(re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", last))
