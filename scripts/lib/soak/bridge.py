"""The bridge as a child process, and its figures from the operating system."""

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.messages import LineBuffer, encode

Reply = dict[str, Any]
_PROGRAM = "import sys; sys.path[:0] = {paths!r}\nfrom qwen3_asr_mlx_runtime.__main__ import main; main()"


class Bridge:
    """A process. The reading thread calls `receive` with every line, and with None at the end of the output."""

    def __init__(self, root: Path, arguments: Sequence[str], receive: Callable[[Reply | None], None]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the process
        program = _PROGRAM.format(paths=[str(root / "src")])
        self._process = Child([sys.executable, "-I", "-c", program, *arguments], stderr=self._errors).process
        self._thread = threading.Thread(target=self._read, args=(receive,), daemon=True)
        self._thread.start()

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            file.close()

    def send(self, **message: object) -> None:
        view = memoryview(encode(message))
        while view:
            view = view[self._process.stdin.write(view) or 0 :]

    def wait(self, seconds: float) -> int:
        """Wait for the process to end by itself; return the exit code."""
        return self._process.wait(seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    def descriptors(self) -> int:
        return psutil.Process(self._process.pid).num_fds()

    def threads(self) -> int:
        return psutil.Process(self._process.pid).num_threads()

    def stderr(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _read(self, receive: Callable[[Reply | None], None]) -> None:
        lines = LineBuffer()
        while data := os.read(self._process.stdout.fileno(), 1 << 20):
            for line in lines.feed(data):
                receive(json.loads(line))
        receive(None)
