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
    """Wait for its end. If the command ends first, such as by a signal, end the program and all its children: a pip
    that builds, the processes of a compileall."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, text=True, **options) as process:
        try:
            yield process
            process.wait()
        except BaseException:
            with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for an ended process
                os.killpg(process.pid, signal.SIGKILL)
            raise


def run(python: Path, *arguments: str | Path) -> int:
    """Run it isolated, with its output on stderr. Returns its exit code."""
    with child([python, "-I", *arguments], stdout=sys.stderr) as process:
        return process.wait()


def check_run(python: Path, *arguments: str | Path) -> None:
    """Raises CalledProcessError unless it succeeds."""
    if code := run(python, *arguments):
        raise subprocess.CalledProcessError(code, [python])
