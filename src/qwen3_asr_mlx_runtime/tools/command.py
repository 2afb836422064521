"""What the tools have in common: tables, and the bridge that they start."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_mlx_runtime import option_values as values

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # of tables not written to a terminal
_SOURCE = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, {source!r}); from qwen3_asr_mlx_runtime.__main__ import main; main()"


def table_console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def bridge_command() -> list[str]:
    """The command line of this package's bridge."""
    return [sys.executable, "-I", "-X", "utf8", "-c", _START.format(source=str(_SOURCE))]


def add_bridge_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bridge",
        type=values.shell_words,
        default=[],
        metavar="OPTIONS",
        help="more options of the bridge, as one string",
    )
