"""Fails the n-th call of one kind, in one conversation with a daemon of this process. SQLite tests itself that way."""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from support.fake_engine import FakeEngine
from support.protocol_monitor import ProtocolMonitor

from qwen3_asr_mlx_runtime.audio import recording, regular_file
from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit, ParentWatch
from qwen3_asr_mlx_runtime.bridge.line_reader import LineReader
from qwen3_asr_mlx_runtime.bridge.line_writer import LineWriter
from qwen3_asr_mlx_runtime.bridge.loop import Loop
from qwen3_asr_mlx_runtime.settings import Settings

WAIT = 60.0


@dataclass
class Fault:
    """At the `n`-th call `happen` stands in for it, or runs before it; n = 0 only counts."""

    n: int
    happen: Callable[[Callable[..., Any], tuple], Any]
    calls: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.calls += 1
                number = self.calls
            if number == self.n:
                return self.happen(function, arguments)
            return function(*arguments, **options)

        return called

    @property
    def happened(self) -> bool:
        return 0 < self.n <= self.calls


def raising(error: BaseException) -> Callable[..., Any]:
    def happen(_: Callable[..., Any], __: tuple) -> Any:
        raise error

    return happen


@contextmanager
def planted(kind: str, fault: Fault) -> Iterator[None]:
    """Puts the fault in place of every call of that kind that the bridge makes, and not of others."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "read":
            patch.setitem(LineReader.__init__.__kwdefaults__, "read", fault.around(_read_a_little))
        elif kind == "write":
            patch.setitem(LineWriter.__init__.__kwdefaults__, "write", fault.around(_write_a_little))
        elif kind in ("open", "fstat"):
            own = SimpleNamespace(**vars(os))
            setattr(own, kind, fault.around(getattr(os, kind)))
            for module in (recording, regular_file):
                patch.setattr(module, "os", own)
        yield


READ_BYTES, WRITE_BYTES = 100, 400  # so that a conversation takes many calls, and lines are cut anywhere


def _read_a_little(fd: int, _: int) -> bytes:
    return os.read(fd, READ_BYTES)


def _write_a_little(fd: int, data: memoryview) -> int:
    return os.write(fd, data[:WRITE_BYTES])


@dataclass
class Ended:
    """What became of a conversation. `error` is what `run` raised in place of an exit code."""

    exit: Exit | None
    error: BaseException | None
    replies: list[dict]
    monitor: ProtocolMonitor


def converse(
    lines: Sequence[bytes],
    make_engine: Callable[..., Any] = FakeEngine,
    *,
    bytes_read: int | None = None,
    answered_first: Sequence[bytes] = (),
) -> Ended:
    """Write all, close, and read to the end. Fails where the daemon does not come to its end.

    `bytes_read`: how many bytes of it the daemon gets to read, if not all. `answered_first`: written before, each once
    the one before it has its reply.
    """
    monitor = ProtocolMonitor()
    (stdin, to_daemon), (from_daemon, stdout) = os.pipe(), os.pipe()
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    settings = Settings(max_audio_seconds=10.0)
    watch = ParentWatch(None, getppid=lambda: 500)
    engines: list[Any] = []

    def engine(_: Settings, post: Callable) -> Any:
        engines.append(make_engine(post))
        return engines[0]

    ended = Ended(None, None, [], monitor)

    def run() -> None:
        daemon = Loop(settings, stdin, stdout, engine, inbox=inbox, parent=watch)
        try:
            ended.exit = daemon.run()
        except Exception as error:  # noqa: BLE001 it is looked at by the test
            ended.error = error
            daemon.fail("planted")  # as main does
        os.close(stdout)

    thread = threading.Thread(target=run, daemon=True)
    try:
        reading = threading.Thread(target=_read_all, args=(from_daemon, monitor), daemon=True)
        if answered_first:
            thread.start()
            reading.start()
            _ask(to_daemon, answered_first, monitor, thread)
        _write(to_daemon, lines, monitor, bytes_read)
        os.close(to_daemon)
        if not answered_first:
            thread.start()
            reading.start()
        thread.join(WAIT)
        assert not thread.is_alive(), "the daemon has not ended"
        reading.join(WAIT)
        assert not reading.is_alive(), "the output has not ended"
        _join_stdin()
    finally:
        for one in engines:
            one.close()
        for fd in (stdin, from_daemon):
            with suppress(OSError):
                os.close(fd)
    ended.replies = monitor.replies
    return ended


def _write(fd: int, lines: Sequence[bytes], monitor: ProtocolMonitor, bytes_read: int | None = None) -> None:
    data = b"".join(line + b"\n" for line in lines)
    for line in data[:bytes_read].split(b"\n"):
        monitor.sent(line)
    os.write(fd, data)


def _ask(fd: int, lines: Sequence[bytes], monitor: ProtocolMonitor, daemon: threading.Thread) -> None:
    """Write each once the one before it has its reply, while the daemon lives."""
    for number, line in enumerate(lines):
        _write(fd, [line], monitor)
        deadline = time.monotonic() + WAIT
        while daemon.is_alive() and sum("id" in reply for reply in monitor.replies) <= number:
            assert time.monotonic() < deadline, f"{line!r} has no reply"
            time.sleep(0.001)


def _join_stdin() -> None:
    """A thread that still reads would read the next conversation, whose pipe gets the same number."""
    for thread in threading.enumerate():
        if thread.name == "stdin":
            thread.join(WAIT)


def _read_all(fd: int, monitor: ProtocolMonitor) -> None:
    while data := os.read(fd, 65_536):
        monitor.received(data)


def line(type: str, **members: object) -> bytes:
    return json.dumps({"type": type, **members}).encode()
