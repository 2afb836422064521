"""How the process ends: exit codes, signals, and the parent that it must not outlive."""

import os
import signal
import threading
from collections.abc import Callable
from enum import IntEnum

FORCED_EXIT_SECONDS = 1.5  # from a signal to the forced end


class Exit(IntEnum):
    """The exit status for the parent."""

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


def install_signal_handlers(post: Callable[[Exit], None]) -> None:
    """Post the exit code of the first SIGTERM, SIGINT or SIGHUP; a second signal ends the process at once.

    A separate thread posts it, because a Python signal handler runs only when the main thread returns to the
    interpreter, which may wait on the inbox. SIGPIPE is ignored: a closed pipe raises in the write. Main thread only.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    threading.Thread(target=_post_signals, args=(read_end, post), name="signals", daemon=True).start()
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in _EXITS:
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _post_signals(fd: int, post: Callable[[Exit], None]) -> None:
    is_second = False
    while True:
        [number] = os.read(fd, 1)
        code = _EXITS.get(number)
        if code is None:
            continue
        if is_second:
            os._exit(code)
        is_second = True
        post(code)


class ParentWatch:
    """Whether the parent has ended: the process that started this one, or the one named by `parent_pid`.

    `started_by`: the pid of the starting process, if known; meanwhile another process may have adopted this one.
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
        """Also end when this process ends."""
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
