"""Programs that are started while a folder is built. None outlives the command that started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def child(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Waits for its end. Whatever ends the command, as a signal does by SystemExit, ends the program and all that it
    started: a pip that builds, the processes of a compileall."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, text=True, **options) as process:
        try:
            yield process
            process.wait()
        except BaseException:
            with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of one that has ended
                os.killpg(process.pid, signal.SIGKILL)
            raise


def run(python: Path, *arguments: str | Path) -> int:
    """Isolated; what it says goes to stderr. Returns its exit code."""
    with child([python, "-I", *arguments], stdout=sys.stderr) as process:
        return process.wait()


def check_run(python: Path, *arguments: str | Path) -> None:
    """Raises CalledProcessError unless it succeeds."""
    if code := run(python, *arguments):
        raise subprocess.CalledProcessError(code, [python])
