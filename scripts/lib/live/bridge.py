"""The bridge as a child process that is asked and listened to on one thread."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]
_SECONDS_TO_END = 10.0


class Failed(Exception):
    """What keeps a run from its end, for people, in one line."""


class Bridge:
    """One process, in a group of its own: what interrupts this command is not sent to it as well."""

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,
        )
        self._in, self._out = self._process.stdin, self._process.stdout
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for file in (self._in, self._out, self._errors):
            file.close()

    def say(self, type: str, **message: object) -> None:
        """Members that are None are left out."""
        given = {name: value for name, value in message.items() if value is not None}
        view = memoryview(json.dumps({"type": type, **given}).encode() + b"\n")
        try:
            while view:
                view = view[self._in.write(view) or 0 :]
        except BrokenPipeError:
            return  # it has ended, and what it said before tells why

    def hear(self, until: float | None = None) -> Line | None:
        """The next line; None when `until`, by time.monotonic, has come before it. Raises Failed at the end of lines,
        and for a line that says that something went wrong."""
        try:
            seconds = None if until is None else max(0.0, until - time.monotonic())
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if line is None:
            raise Failed(f"the bridge ended with exit code {self._process.wait()}: {self._last_words()}")
        if line["type"] in ("error", "fatal", "stream_error"):
            raise Failed(f"{line['code']}: {line['message']}")
        return line

    def end(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.say("stop")
        self._process.wait(_SECONDS_TO_END)

    def _read(self) -> None:
        rest = bytearray()
        while data := os.read(self._out.fileno(), 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def _last_words(self) -> str:
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").splitlines()
        return said[-1] if said else "it said nothing"
