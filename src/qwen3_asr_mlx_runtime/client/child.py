"""The bridge as a child process: a session of its own, three pipes that nobody else inherits, and its end."""

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from qwen3_asr_mlx_runtime.client.errors import BridgeNotExecutable, BridgeNotFound, BridgeStartFailed, LaunchError
from qwen3_asr_mlx_runtime.client.exits import Exit

STDERR_BYTES = 64 * 1024
STDERR_LINES = 20  # in an error


class Child:
    """A process that leads its own session, so that a terminal's Ctrl-C does not reach it. Nothing of its pipes is
    buffered here. `process` is the `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> None:
        """`stderr`: where it goes instead of into a pipe. Raises a LaunchError."""
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
        """How it ended; None while it runs."""
        status = self.process.poll()
        return None if status is None else Exit.of(status)

    def signal_group(self, number: signal.Signals) -> None:
        """To the process and all that it started. Nothing happens once it has been waited for."""
        if self.process.poll() is None:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS says so of one that has ended
                self.process.send_signal(number)

    def abandon(self) -> None:
        """End it, where nobody can talk to it."""
        self.signal_group(signal.SIGKILL)
        self.process.wait()
        for pipe in self.pipes:
            pipe.close()


class StderrRing:
    """The last of what was said on stderr."""

    def __init__(self, limit: int = STDERR_BYTES) -> None:
        self._limit = limit
        self._blocks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._blocks.append(data)
        self._size += len(data)
        while self._size - len(self._blocks[0]) >= self._limit:
            self._size -= len(self._blocks.popleft())

    def lines(self) -> list[str]:
        text = b"".join(self._blocks)[-self._limit :].decode("utf-8", "replace")
        return text.splitlines()


def _launch_error(program: str, error: OSError | ValueError) -> LaunchError:
    """What keeps `program` from being started."""
    found = shutil.which(program) or (program if Path(program).exists() else None)
    if isinstance(error, FileNotFoundError | NotADirectoryError) and found is None:
        return BridgeNotFound(f"The speech bridge was not found: {program}")
    if isinstance(error, FileNotFoundError) and error.filename not in (None, program):
        return BridgeStartFailed(f"The speech bridge could not be started in the folder {error.filename}.")
    if isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "errno", None) == 8:
        return BridgeNotExecutable(f"The speech bridge cannot be executed: {program}")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "bad arguments"
    return BridgeStartFailed(f"The speech bridge could not be started: {reason}.")
