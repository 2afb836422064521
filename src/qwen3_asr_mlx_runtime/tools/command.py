"""What the tools have in common: tables, and the bridge that they start."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.model_name import DEMO, DEMO_KNOWS, SPEECH_LEAVES, chosen_model, served_model
from qwen3_asr_mlx_runtime.settings import ENGINE_VARIABLE

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


def bridge_model(options: argparse.Namespace) -> str:
    """The model of the bridge: of this machine, or of the servers that decode for it."""
    return (served_model if _has_servers(options) else chosen_model)(options.model, os.environ)


def note_model(program: str, options: argparse.Namespace, *, brief: bool = False) -> None:
    """Write to stderr what people should know of what decodes; `brief`: only that speech leaves the machine."""
    if _has_servers(options):
        note(f"{program}: {SPEECH_LEAVES}")
    elif options.model == DEMO and not brief:
        note(f"{program}: {DEMO_KNOWS}")


def _has_servers(options: argparse.Namespace) -> bool:
    named = any(word.partition("=")[0] == "--engine" for word in options.bridge)
    return named or bool(os.environ.get(ENGINE_VARIABLE))


def add_bridge_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bridge",
        type=values.shell_words,
        default=[],
        metavar="OPTIONS",
        help="more options of the bridge, as one string",
    )
