"""How much memory this process uses, and how it returns free memory to the system."""

import os
import resource
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_USAGE_WORDS = 10  # of struct rusage_info_v0, after 16 bytes of UUID
_FOOTPRINT = 7  # ri_phys_footprint
_USAGE_V0 = 0
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of mallopt(3)
_LARGE_BYTES = 256 * 1024
_GROWTH_BYTES = 4 * 1024 * 1024  # after which free memory is returned, which takes about a millisecond


def rss_bytes(pid: int | None = None) -> int | None:
    """Resident memory of a process now, or None where the system does not tell."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):
        return None


def rss_peak_bytes() -> int:
    """The peak of this process. On Linux getrusage(2) starts at the parent's peak, so /proc is read first."""
    try:
        [line] = (line for line in _STATUS.read_bytes().splitlines() if line.startswith(b"VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def footprint_bytes(pid: int | None = None) -> int | None:
    """What macOS charges a process with: compressed and swapped pages and Metal's buffers too, which no other figure
    shows, and which psutil does not read. None elsewhere."""
    return _usage(_FOOTPRINT, pid or os.getpid()) if sys.platform == "darwin" else None


def keep_little() -> None:
    """Make glibc map each larger buffer separately, so that freeing it returns its pages, and share two arenas among
    all threads. Call it before starting threads; other C libraries do not need it."""
    tune = _glibc("mallopt")
    if tune is not None:
        tune(_MMAP_THRESHOLD, _LARGE_BYTES)
        tune(_ARENA_MAX, 2)


def trim() -> None:
    """Make glibc return free memory between used blocks. Buffers of ever new sizes leave more and more of it."""
    release = _glibc("malloc_trim")
    if release is not None:
        release(0)


class Trimming:
    """Returns free memory each time this process has grown."""

    def __init__(self) -> None:
        self._trimmed_bytes = 0  # resident memory after the last time

    def after_growth(self) -> None:
        if (rss_bytes() or 0) > self._trimmed_bytes + _GROWTH_BYTES:
            self.now()

    def now(self) -> None:
        trim()
        self._trimmed_bytes = rss_bytes() or 0


@cache
def _glibc(name: str) -> Callable[..., int] | None:
    import ctypes

    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function


def _usage(word: int, pid: int) -> int | None:
    """A field of proc_pid_rusage(3), of libSystem."""
    import ctypes

    class Usage(ctypes.Structure):
        _fields_ = [("uuid", ctypes.c_uint8 * 16), ("words", ctypes.c_uint64 * _USAGE_WORDS)]

    usage = Usage()
    pid_rusage = getattr(ctypes.CDLL(None), "proc_pid_rusage", None)
    if pid_rusage is None or pid_rusage(pid, _USAGE_V0, ctypes.byref(usage)) != 0:
        return None
    return int(usage.words[word])
