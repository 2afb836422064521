"""A command in a terminal → an SVG of what it shows, as text: scripts/terminal-picture docs/transcribe.svg."""

import argparse
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import wave
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from qwen3_asr_mlx_runtime.command import guarded

ROOT = Path(__file__).resolve().parents[2]
COLUMNS, ROWS = 86, 12
COMMAND = "qwen3-asr-mlx-transcribe --model demo --format txt,srt recordings"
_WANTED = re.compile(r"of \d+ files .* ([4-7]\d)%")  # in the middle of the work
# Rich's own names a font on a server; a picture in a document asks no server for anything.
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 WIDTH HEIGHT" role="img">
<title>COMMAND</title>
<style>
text {{ font: 20px ui-monospace, Menlo, Consolas, monospace; white-space: pre; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="WIDTH" height="HEIGHT" rx="8" fill="#1e1e24"/>
<g transform="translate(9, 12)">{backgrounds}{matrix}</g>
</svg>
"""


@guarded("scripts/terminal-picture")
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=f"Run `{COMMAND}` and draw the terminal in the middle of its work.")
    parser.add_argument("svg", type=Path)
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        _record(Path(folder, "recordings"))
        shots = [*_shots(COMMAND.split(), folder)]
    options.svg.write_text(_drawn(next(shot for shot in shots if _WANTED.search(shot.plain))), encoding="utf-8")


def _record(folder: Path) -> None:
    """The examples, and a talk of some minutes."""
    folder.mkdir()
    audio = ROOT / "examples" / "audio"
    for name in ("arabic-six", "english-five", "noise", "sample"):
        shutil.copy(audio / f"{name}.wav", folder)
    with wave.open(str(audio / "english-ten.wav")) as file, wave.open(str(folder / "talk.wav"), "wb") as talk:
        talk.setparams(file.getparams())
        talk.writeframes(file.readframes(file.getnframes()) * 100)


def _shots(command: list[str], folder: str) -> Iterator[Text]:
    """The screen after each change."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (ROWS, COLUMNS))
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); from qwen3_asr_mlx_runtime.entry import transcribe;"
        "transcribe()"
    )
    stream.feed(f"$ {' '.join(command)}\r\n".encode())
    with subprocess.Popen(
        [sys.executable, "-I", "-c", start, *command[1:]],
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
    ):
        os.close(slave)
        while data := _read(master):
            stream.feed(data)
            yield _text(screen)
    os.close(master)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # on Linux the end of a terminal is an error
        return b""


def _text(screen: pyte.Screen) -> Text:
    text = Text()
    for row in range(screen.cursor.y + 1):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        for style, run in groupby(cells, _style):
            text.append("".join(cell.data for cell in run), style)
        text.rstrip()
        text.append("\n")
    return text


def _style(cell: pyte.screens.Char) -> Style:
    color = f"#{cell.fg}" if re.fullmatch("[0-9a-f]{6}", cell.fg) else cell.fg
    return Style(color=None if color == "default" else color, bold=cell.bold)


def _drawn(text: Text) -> str:
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), color_system="truecolor")
    console.print(text, end="", soft_wrap=True)
    width, height = COLUMNS * 12.2 + 18, text.plain.count("\n") * 24.4 + 24  # as Rich measures
    values = {"WIDTH": f"{width:.0f}", "HEIGHT": f"{height:.0f}", "COMMAND": COMMAND}
    svg = re.sub("|".join(values), lambda found: values[found[0]], _SVG)
    return console.export_svg(code_format=svg)


if __name__ == "__main__":
    sys.exit(main())
