"""The command line that all commands share: examples in the help, one-line errors, `--version`, shell completion."""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from qwen3_asr_mlx_runtime.command import printable, version_line
from qwen3_asr_mlx_runtime.packages import missing

SHELLS = ("bash", "zsh", "tcsh", "fish")


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
        self.add_argument(
            "--version", action="version", version=version_line(prog), help="print name and version, and exit"
        )
        self.add_argument(
            "--print-completion",
            action=_PrintCompletion,
            choices=SHELLS,
            default=argparse.SUPPRESS,
            metavar="SHELL",
            help=f"print the completion for {', '.join(SHELLS)}, and exit",
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


class _PrintCompletion(argparse.Action):
    """Imports shtab, of the extra `completion`, only when it is used."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, _option: object = None) -> NoReturn:
        try:
            import shtab
        except ImportError as error:
            parser.exit(1, f"{parser.prog}: {missing(error)}\n")
        for action in parser._actions:
            if is_folder(action):
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined] # it is how shtab is told
            elif is_file(action):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(f"{shtab.complete(parser, shell)}\n")
        parser.exit()


def is_folder(action: argparse.Action) -> bool:
    """Whether its value names a folder, by the word that the help has for it."""
    return _word(action).endswith(("DIR", "FOLDER"))


def is_file(action: argparse.Action) -> bool:
    return _word(action).endswith(("FILE", "PATH")) or action.type is Path


def _word(action: argparse.Action) -> str:
    return str(action.metavar or action.dest).upper()
