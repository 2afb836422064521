"""What the tools' command lines have in common: one-line errors, and tables."""

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from qwen3_asr_mlx_runtime.command import printable

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # of tables not written to a terminal


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
