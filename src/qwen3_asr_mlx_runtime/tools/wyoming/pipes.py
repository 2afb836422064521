"""stdin and stdout of this process, as something that asyncio can wait for."""

import os
import stat
import threading
from contextlib import suppress
from shutil import copyfileobj
from typing import BinaryIO, Literal, NamedTuple

from qwen3_asr_mlx_runtime.bridge.stdio import claim_stdio

_Mode = Literal["rb", "wb"]


class Pipes(NamedTuple):
    stdin: BinaryIO
    stdout: BinaryIO

    @classmethod
    def claimed(cls) -> "Pipes":
        """From now on what libraries print goes to stderr."""
        wire = claim_stdio()
        return cls(_waitable(wire.stdin, "rb"), _waitable(wire.stdout, "wb"))


def _waitable(fd: int | None, mode: _Mode) -> BinaryIO:
    """asyncio waits for no file: a thread copies it from or to a pipe."""
    file = _opened(os.open(os.devnull, os.O_RDWR) if fd is None else fd, mode)
    kind = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or file.isatty():
        return file
    read, write = os.pipe()
    source, target = _opened(read, "rb"), _opened(write, "wb")
    ends = (file, target) if mode == "rb" else (source, file)
    threading.Thread(target=_copy, args=ends, daemon=mode == "rb").start()  # what is written is written before the end
    return source if mode == "rb" else target


def _opened(fd: int, mode: _Mode) -> BinaryIO:
    return os.fdopen(fd, mode, buffering=0)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    with suppress(OSError), source, target:
        copyfileobj(source, target)
