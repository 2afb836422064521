"""When and how the process ends: exit codes, signals, and the parent it must not outlive."""

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from qwen3_asr_mlx_runtime.bridge.stdio import diagnose

FORCED_EXIT_SECONDS = 1.5  # from a signal to the end, whatever is still running


class Exit(IntEnum):
    """What the exit status tells the parent."""

    DONE = 0
    INTERNAL_ERROR = 1
    ENVIRONMENT = 2
    ENGINE_LOST = 4
    PARENT_GONE = 5  # or stdout closed
    INTERRUPTED = 130
    TERMINATED = 143


_EXITS: dict[int, Exit] = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.TERMINATED,
}


def install_signal_handlers(tell: Callable[[Exit], None]) -> None:
    """The first SIGTERM, SIGINT or SIGHUP is told as the exit to take; a second one ends the process where it stands.

    Told on a thread of its own, whatever the main thread does: a handler in Python waits until that one comes back to
    the interpreter, which may be a whole wait on the inbox later. SIGPIPE is ignored: a closed pipe shows as an error
    of the write. Main thread only.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    threading.Thread(target=_tell_signals, args=(read_end, tell), name="signals", daemon=True).start()
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in _EXITS:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _tell_signals(fd: int, tell: Callable[[Exit], None]) -> None:
    came = False
    while True:
        [number] = os.read(fd, 1)
        code = _EXITS.get(number)
        if code is None:
            continue
        if came:
            os._exit(code)
        came = True
        tell(code)


@dataclass(frozen=True, slots=True)
class Crash:
    """A thread ended by an exception that nothing caught: a bug."""

    thread: str


def install_hooks(tell: Callable[[Crash], None]) -> None:
    """Whatever escapes a thread is told. That, and what libraries warn of, is logged without its message, which may
    quote anything; what they log is dropped."""

    def handle(args: threading.ExceptHookArgs) -> None:
        name = "unknown" if args.thread is None else args.thread.name
        frames = traceback.extract_tb(args.exc_traceback)
        place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
        diagnose(f"the thread {name} failed: {args.exc_type.__name__}{place}")
        tell(Crash(name))

    threading.excepthook = handle
    sys.unraisablehook = lambda unraisable: diagnose(f"an exception was lost: {unraisable.exc_type.__name__}")
    warnings.showwarning = lambda _message, category, *_: diagnose(f"a library warns: {category.__name__}")
    logging.getLogger().addHandler(logging.NullHandler())  # or Python writes to stderr what nobody handles


class ParentWatch:
    """Tells whether the parent has gone: the process that started this one, or the one that `parent_pid` names.

    `started_by`: its process id where it is known from before; another parent has adopted this process.
    """

    def __init__(
        self,
        parent_pid: int | None,
        *,
        started_by: int | None = None,
        getppid: Callable[[], int] = os.getppid,
        exists: Callable[[int], bool] | None = None,
    ) -> None:
        self._named = set() if parent_pid is None else {parent_pid}
        self._getppid = getppid
        self._exists = exists or process_exists
        self._first = getppid() if started_by is None else started_by

    def watch(self, pid: int) -> None:
        """Live and die with this process too."""
        self._named.add(pid)

    def is_gone(self) -> bool:
        if self._getppid() != self._first:
            return True
        return not all(self._exists(pid) for pid in self._named - {self._first})


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
