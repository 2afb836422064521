"""What every command has in common: how it ends where nobody takes its output, or where a user can mend what is
wrong."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from typing import ParamSpec, TextIO

from qwen3_asr_mlx_runtime.entry import interruptible, say_interrupted
from qwen3_asr_mlx_runtime.errors import BridgeError

Arguments = ParamSpec("Arguments")


def guarded(
    program: str, *, puts_away: bool = True
) -> Callable[[Callable[Arguments, int | None]], Callable[Arguments, int]]:
    """For the `main` of a command. It returns its own exit code; 1 with one line on stderr for what a user can mend, a
    disk that is full included; 1 and nothing on stderr where its output has no reader; 130 when interrupted.
    `puts_away`: an interrupt raises KeyboardInterrupt in `main`, which can clean up; otherwise it ends the process at
    once."""

    def decorate(main: Callable[Arguments, int | None]) -> Callable[Arguments, int]:
        @wraps(main)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
            try:
                try:
                    with interruptible() if puts_away else nullcontext():
                        return main(*args, **kwargs) or 0
                finally:  # also of --help, which raises SystemExit
                    if sys.stdout is not None:
                        sys.stdout.flush()
            except BridgeError as error:
                return complain(program, error.message)
            except BrokenPipeError:
                return 1
            except OSError as error:
                reason = error.strerror or type(error).__name__
                return complain(program, f"{reason}: {error.filename}" if error.filename else reason)
            except KeyboardInterrupt:
                return say_interrupted()
            finally:
                _settle(sys.stdout)
                _settle(sys.stderr)

        return run

    return decorate


def complain(program: str, message: str) -> int:
    """One line to stderr, and exit code 1."""
    note(f"{program}: {message}")
    return 1


def note(line: str) -> None:
    """To stderr, or to nobody where it cannot be written."""
    with suppress(OSError, AttributeError):  # it may be closed, which makes it None
        sys.stderr.write(f"{printable(line)}\n")


def printable(text: str) -> str:
    """On one line, and unable to steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _settle(stream: TextIO | None) -> None:
    """Drop what cannot be written: Python would try again at exit, and report that."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
