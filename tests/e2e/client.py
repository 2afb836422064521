"""Parents of the bridge that watch every line it says: the package's client, and one that speaks raw lines over the
same child process, reads only on demand, and may do everything wrong."""

import json
import os
import select
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.in_worker import in_both
from support.protocol_monitor import ProtocolMonitor

from qwen3_asr_mlx_runtime.client import Bridge, Limits, Setup
from qwen3_asr_mlx_runtime.client.child import Child
from qwen3_asr_mlx_runtime.client.messages import Direction
from qwen3_asr_mlx_runtime.languages import allowed_languages

TESTS = Path(__file__).resolve().parent.parent
WAIT = 120


def command(scenario: str | None, *arguments: str, before: str = "") -> list[str]:
    """The command line of the real bridge, or of the one whose engine plays a scenario; `before` runs in it first."""
    start = "from qwen3_asr_mlx_runtime.__main__ import main; main()"
    before = in_both(before) if scenario is None else before
    if scenario is not None:
        start = f"from e2e.fake_bridge import main; main({scenario!r})"
    paths = [str(TESTS.parent / "src"), str(TESTS)]
    return [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {paths!r}\n{before}\n{start}", *arguments]


class Client:
    """One process. `send` and `read` speak lines; `wait` closes its input, reads the rest, and gives the exit code."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, closed: Sequence[int] = ()
    ) -> None:
        self.monitor = ProtocolMonitor(_languages(argv))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 it lives as long as the client
        if closed:
            closing = " ".join(f"{fd}>&-" for fd in closed)
            argv = ["/bin/sh", "-c", f'exec "$0" "$@" {closing}', *argv]
        self.process = Child(argv, env=env, stderr=self._stderr).process

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            stream.close()

    def write(self, line: bytes) -> None:
        self.monitor.sent(line)
        data = line + b"\n"
        while data:
            data = data[self.process.stdin.write(data) :]

    def send(self, type: str, **members: object) -> None:
        self.write(json.dumps({"type": type, **members}).encode())

    def read(self, size: int = 4096) -> dict:
        """The next reply. At most `size` bytes are read at once."""
        return self.monitor.next_reply(lambda: self._read_more(size))

    def ask(self, type: str, **members: object) -> dict:
        """Lock step: one line in, one line out."""
        self.send(type, **members)
        return self.read()

    def signal(self, number: signal.Signals) -> None:
        self.monitor.signalled()
        self.process.send_signal(number)

    def wait(self, *, close: bool = True, alone: bool = True) -> int:
        """The exit code, after reading all remaining output. `alone`: it must have left no process of its group."""
        if close:
            self.process.stdin.close()
        self.monitor.received(b"")
        while data := self._read_some(65_536):
            self.monitor.received(data)
        code = self.process.wait(WAIT)
        if code == 0 or self.monitor.ended:
            self.monitor.finish()
        if code >= 0:
            self.monitor.exited(code, self.process.pid if alone else None)
        return code

    def stderr(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def _read_more(self, size: int) -> bytes:
        data = self._read_some(size)
        assert data, f"the output has ended; stderr: {self.stderr()}"
        return data

    def _read_some(self, size: int) -> bytes:
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT)
        assert ready, f"no line for {WAIT} s; stderr: {self.stderr()}"
        return os.read(self.process.stdout.fileno(), size)


def _languages(argv: Sequence[str]) -> tuple[str, ...]:
    """Those that a bridge of this command line allows."""
    words = [*argv, ""]
    return allowed_languages(words[words.index("--languages") + 1].split(",")) if "--languages" in words else ()


class Watched:
    """What the package's client writes and reads, as the monitor sees it."""

    def __init__(self) -> None:
        self.monitor = ProtocolMonitor()
        self._lock = threading.Lock()

    def trace(self, direction: Direction, data: bytes) -> None:
        with self._lock:
            if direction == "sent":
                self.monitor.sent(data.removesuffix(b"\n"))
            else:
                self.monitor.received(data)


@contextmanager
def watched(argv: Sequence[str], **limits: float) -> Iterator[Bridge]:
    """The package's client, opened; in the end the monitor checks the whole conversation."""
    watch = Watched()
    bridge = Bridge(Setup(command=argv, limits=Limits(**limits), trace=watch.trace))
    try:
        with bridge:
            yield bridge
    finally:
        if bridge.exit is not None and bridge.exit.code == 0:
            watch.monitor.finish()
            watch.monitor.exited(0, bridge.pid)
