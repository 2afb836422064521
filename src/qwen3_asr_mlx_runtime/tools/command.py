"""What the tools' command lines have in common: one-line errors, tables, and the bridge that they start."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from qwen3_asr_mlx_runtime.command import printable

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # of tables not written to a terminal
_SOURCE = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, {source!r}); from qwen3_asr_mlx_runtime.__main__ import main; main()"


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, and shows the examples unwrapped."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


def table_console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def bridge_command() -> list[str]:
    """The command line of this package's bridge."""
    return [sys.executable, "-I", "-X", "utf8", "-c", _START.format(source=str(_SOURCE))]
