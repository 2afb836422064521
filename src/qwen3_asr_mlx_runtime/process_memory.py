"""How much memory this process has, and what it no longer needs."""

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


def rss_bytes() -> int | None:
    """Resident memory now, or None where the system does not tell."""
    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return None


def rss_peak_bytes() -> int:
    """Of this process. What Linux tells by getrusage(2) begins with the peak of the process that started it."""
    try:
        [line] = (line for line in _STATUS.read_bytes().splitlines() if line.startswith(b"VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux


def footprint_bytes() -> int | None:
    """What macOS charges the process with: compressed and swapped pages and Metal's buffers too, which no other figure
    shows, and which psutil does not read. None elsewhere."""
    return _usage(_FOOTPRINT) if sys.platform == "darwin" else None


def keep_little() -> None:
    """Have glibc give every larger buffer pages of its own, which go when it is freed, and share two arenas among all
    threads. Call it before there are threads; other C libraries need no such call."""
    tune = _glibc("mallopt")
    if tune is not None:
        tune(_MMAP_THRESHOLD, _LARGE_BYTES)
        tune(_ARENA_MAX, 2)


def trim() -> None:
    """Have glibc give back what is free in the middle of what is used, where buffers of ever new sizes leave more and
    more of it."""
    release = _glibc("malloc_trim")
    if release is not None:
        release(0)


@cache
def _glibc(name: str) -> Callable[..., int] | None:
    import ctypes

    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function


def _usage(word: int) -> int | None:
    """A field of proc_pid_rusage(3), of libSystem."""
    import ctypes

    class Usage(ctypes.Structure):
        _fields_ = [("uuid", ctypes.c_uint8 * 16), ("words", ctypes.c_uint64 * _USAGE_WORDS)]

    usage = Usage()
    ask = getattr(ctypes.CDLL(None), "proc_pid_rusage", None)
    if ask is None or ask(os.getpid(), _USAGE_V0, ctypes.byref(usage)) != 0:
        return None
    return int(usage.words[word])
