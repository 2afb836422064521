"""What the instruments' command lines have in common: one line for a mistake, an exit code, and nothing else on stdout
than the result."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from qwen3_asr_mlx_runtime.entry import interruptible, say_interrupted
from qwen3_asr_mlx_runtime.errors import BridgeError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120  # of tables that go to no terminal


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, and shows the examples as they are written."""

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


def run(program: str, command: Callable[[], int]) -> int:
    """The exit code of `command`, or 1 with one line on stderr for what a user can mend; 130 when interrupted."""
    try:
        with interruptible():
            code = command()
        sys.stdout.flush()
        return code
    except BridgeError as error:
        return complain(program, error.message)
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return complain(program, f"{reason}: {error.filename}" if error.filename else reason)
    except KeyboardInterrupt:
        return say_interrupted()


def complain(program: str, message: str) -> int:
    sys.stderr.write(f"{program}: {printable(message)}\n")
    return 1


def printable(text: str) -> str:
    """On one line, and unable to steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def table_console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
