"""The bridge as a child process: its own session, three pipes that no other process inherits, and its end."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from qwen3_asr_mlx_runtime.client.errors import BridgeNotExecutable, BridgeNotFound, BridgeStartFailed, LaunchError
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.messages import LineBuffer

STDERR_BYTES = 64 * 1024
STDERR_LINES = 20  # in an error


class Child:
    """A process that leads its own session, so that a terminal's Ctrl-C does not reach it. Its pipes are unbuffered.
    `process` is the `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> None:
        """`stderr`: its target, by default a pipe. Raises a LaunchError."""
        try:
            self.process = subprocess.Popen(  # noqa: S603 the app names the program
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=None if env is None else dict(env),
                cwd=cwd,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise _launch_error(command[0], error) from error

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pipes(self) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
        """Its stdin, stdout and stderr."""
        process = self.process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise TypeError("a pipe is missing")
        return process.stdin, process.stdout, process.stderr

    def exit(self) -> Exit | None:
        """How it ended; None while it runs. Its own children are killed with it. Call from one thread only."""
        was_seen = self.process.returncode is not None
        status = self.process.poll()
        if status is None:
            return None
        if not was_seen:  # at once: later another group may have its number
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group without a living process
                os.killpg(self.pid, signal.SIGKILL)
        return Exit.of(status)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and its children. Does nothing once its end was seen."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def abandon(self) -> None:
        """Kill it and close its pipes. For a process that no connection serves."""
        self.signal_group(signal.SIGKILL)
        self.process.wait()
        for pipe in self.pipes:
            pipe.close()


class StderrTail:
    """The last bytes of stderr. `on_line` is called with each line."""

    def __init__(self, limit: int, on_line: Callable[[str], None] | None) -> None:
        self._limit = limit
        self._on_line = on_line
        self._lines = LineBuffer()
        self._blocks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._blocks.append(data)
        self._size += len(data)
        while self._size - len(self._blocks[0]) >= self._limit:
            self._size -= len(self._blocks.popleft())
        self._pass_on(data)

    def end(self) -> None:
        """Pass on the last line, which may have no newline."""
        if self._lines.has_rest:
            self._pass_on(b"\n")

    def lines(self) -> list[str]:
        text = b"".join(self._blocks)[-self._limit :].decode("utf-8", "replace")
        return text.splitlines()

    def _pass_on(self, data: bytes) -> None:
        if self._on_line is None:
            return
        try:
            for line in self._lines.feed(data):
                self._on_line(line.decode("utf-8", "replace"))
        except ValueError:  # a line that never ends
            self._lines = LineBuffer()


def _launch_error(program: str, error: OSError | ValueError) -> LaunchError:
    """Why `program` cannot be started."""
    found = shutil.which(program) or (program if Path(program).exists() else None)
    if isinstance(error, FileNotFoundError | NotADirectoryError) and found is None:
        return BridgeNotFound(f"The speech bridge was not found: {program}")
    if isinstance(error, FileNotFoundError) and error.filename not in (None, program):
        return BridgeStartFailed(f"The speech bridge could not be started in the folder {error.filename}.")
    if isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "errno", None) == 8:
        return BridgeNotExecutable(f"The speech bridge cannot be executed: {program}")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "bad arguments"
    return BridgeStartFailed(f"The speech bridge could not be started: {reason}.")
