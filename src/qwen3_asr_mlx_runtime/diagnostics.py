"""Lines for people on stderr, and what becomes of errors that nothing catches."""

import logging
import os
import select
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

DIAGNOSTIC_PREFIX = "qwen3-asr-mlx: "
_DIAGNOSTIC_BYTES = 512  # what POSIX lets a pipe take in one piece


def diagnose(text: str, fd: int = 2) -> None:
    """Write one line to stderr, or drop it if the pipe is full: stderr without a reader must not stop the process.

    Only counts, durations, codes and names of classes belong here: no audio, no transcript, no path, no id.
    """
    line = f"{DIAGNOSTIC_PREFIX}{text}".encode("ascii", "backslashreplace")[: _DIAGNOSTIC_BYTES - 1] + b"\n"
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    try:
        if poll.poll(0):
            os.write(fd, line)
    except OSError:
        return


@dataclass(frozen=True, slots=True)
class Crash:
    """A thread ended by an exception that nothing caught: a bug."""

    thread: str


def raised_at(kind: type[BaseException], trace: TracebackType | None) -> str:
    """The class of an error and where it was raised, without its message, which may quote anything."""
    frames = traceback.extract_tb(trace)
    return f"{kind.__name__} in {frames[-1].name}, line {frames[-1].lineno}" if frames else kind.__name__


def install_hooks(post: Callable[[Crash], None]) -> None:
    """Post a Crash for each uncaught exception of a thread. Exceptions and library warnings are logged without their
    messages, which may quote anything; log messages of libraries are dropped."""

    def handle(args: threading.ExceptHookArgs) -> None:
        name = "unknown" if args.thread is None else args.thread.name
        diagnose(f"the thread {name} failed: {raised_at(args.exc_type, args.exc_traceback)}")
        post(Crash(name))

    threading.excepthook = handle
    sys.unraisablehook = lambda unraisable: diagnose(f"an exception was lost: {unraisable.exc_type.__name__}")
    warnings.showwarning = lambda _message, category, *_: diagnose(f"a library warns: {category.__name__}")
    logging.getLogger().addHandler(logging.NullHandler())  # otherwise Python writes unhandled log messages to stderr
