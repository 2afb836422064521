"""Detects that the process is out of threads or descriptors, which libraries report as missing or damaged files."""

import importlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from qwen3_asr_mlx_runtime.errors import ResourceExhausted

NEEDED = 8  # descriptors that loading a model or reading a file needs at a time


@contextmanager
def named_shortage() -> Iterator[None]:
    """Within, an error for lack of threads, or while descriptors are short, becomes ResourceExhausted."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RuntimeError) and "start new thread" in str(error):  # Python has no class for it
            raise ResourceExhausted("the process gets no more threads") from error
        if not _runs_short():
            raise
        with suppress(OSError, ImportError):  # it imports itself
            importlib.invalidate_caches()  # a folder that could not be opened counts as empty until then
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        message = f"the process has no more file descriptors: its limit is {limit} (ulimit -n)"
        raise ResourceExhausted(message, limit=limit) from error


def _runs_short() -> bool:
    opened: list[int] = []
    try:
        while len(opened) < NEEDED:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return True
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False
