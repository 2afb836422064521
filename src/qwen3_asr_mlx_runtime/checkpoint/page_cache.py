"""How much of some files is in memory before they are read: whether a load is cold or warm."""

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from qwen3_asr_mlx_runtime.engines.api import LoadSource

WARM_FRACTION = 0.9
_WINDOW_BYTES = 2**30  # mapped at a time
_IN_CORE = 1


def load_source(files: Iterable[Path]) -> LoadSource:
    """`warm` if the page cache has nearly all of the files, as mincore(2) tells."""
    stats = {file: file.stat() for file in files}
    cached = sum(_cached_bytes(file, stat) for file, stat in stats.items())
    return "warm" if cached >= WARM_FRACTION * sum(stat.st_size for stat in stats.values()) else "cold"


def _cached_bytes(file: Path, stat: os.stat_result) -> int:
    """0 where the system does not tell: Linux calls every page of another user's file resident."""
    try:
        if stat.st_uid != os.geteuid() and not os.access(file, os.W_OK):
            return 0
        with file.open("rb") as opened:
            return sum(
                _cached_in(opened.fileno(), start, min(_WINDOW_BYTES, stat.st_size - start))
                for start in range(0, stat.st_size, _WINDOW_BYTES)
            )
    except (OSError, ValueError):
        return 0


def _cached_in(descriptor: int, start: int, length: int) -> int:
    with mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start) as window:
        pages = np.zeros(-(-length // mmap.PAGESIZE), np.uint8)
        address = np.frombuffer(window, np.uint8).ctypes.data  # the view is gone before the mapping is
        mincore = ctypes.CDLL(None, use_errno=True).mincore
        failed = mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_void_p(pages.ctypes.data))
        return 0 if failed else min(length, int((pages & _IN_CORE).sum()) * mmap.PAGESIZE)
