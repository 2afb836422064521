"""What would be written across the drawing: lines of stderr, the bridge's and the monitor's own."""

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
    """The last lines of stderr. A line that is rewritten by carriage returns is what it was last."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._count = 0
        self._unfinished = b""

    def take(self, data: bytes) -> None:
        *ended, rest = (self._unfinished + data).split(b"\n")
        self._lines.extend(map(_shown, ended))
        self._count += len(ended)
        self._unfinished = rest[-_LINE_BYTES:]

    def say(self, line: str) -> None:
        """A line of the monitor's own."""
        self._lines.append(printable(line))
        self._count += 1

    def picture(self) -> list[RenderableType]:
        """Nothing as long as nothing was written."""
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
    """Without what steers a terminal."""
    last = line.removesuffix(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
    return printable(re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", last))
