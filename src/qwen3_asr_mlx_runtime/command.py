"""What every command has in common: how it ends if its output has no reader, or on an error that a user can fix."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from typing import ParamSpec, TextIO

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.entry import interruptible, report_interrupt
from qwen3_asr_mlx_runtime.errors import BridgeError

Arguments = ParamSpec("Arguments")


def guarded(
    program: str, *, cleans_up: bool = True
) -> Callable[[Callable[Arguments, int | None]], Callable[Arguments, int]]:
    """Wraps the `main` of a command. Returns main's exit code; 1 with one line on stderr for an error that a user can
    fix, such as a full disk; 1 and nothing on stderr if the output has no reader; 130 when interrupted. `cleans_up`: an
    interrupt raises KeyboardInterrupt in `main`, which can clean up; otherwise it ends the process at once."""

    def decorate(main: Callable[Arguments, int | None]) -> Callable[Arguments, int]:
        @wraps(main)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
            try:
                try:
                    with interruptible() if cleans_up else nullcontext():
                        return main(*args, **kwargs) or 0
                finally:  # also for --help, which raises SystemExit
                    if sys.stdout is not None:
                        sys.stdout.flush()
            except BridgeError as error:
                return complain(program, error.message)
            except BrokenPipeError:
                return 1
            except OSError as error:
                return complain(program, reason_of(error))
            except KeyboardInterrupt:
                return report_interrupt()
            finally:
                _settle(sys.stdout)
                _settle(sys.stderr)

        return run

    return decorate


def print_version(program: str) -> int:
    """One line to stdout, and exit code 0."""

    @guarded(program, cleans_up=False)
    def write() -> None:
        sys.stdout.write(f"{version_line(program)}\n")

    return write()


def version_line(program: str) -> str:
    return f"{program} {__version__}"


def reason_of(error: OSError) -> str:
    """For people: what failed, and of which file, if that is known."""
    reason = error.strerror or type(error).__name__
    return f"{reason}: {error.filename}" if error.filename else reason


def complain(program: str, message: str) -> int:
    """One line to stderr, and exit code 1."""
    note(f"{program}: {message}")
    return 1


def note(line: str) -> None:
    """Write a line to stderr; drop it if that fails."""
    with suppress(OSError, AttributeError):  # a closed stderr is None
        sys.stderr.write(f"{printable(line)}\n")


def printable(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def _settle(stream: TextIO | None) -> None:
    """Drop output that cannot be written: Python would try again at exit and report the failure."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
