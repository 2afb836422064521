"""The engine as a child process: this side starts it, exchanges messages with it and ends it. Imports no MLX."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import ExitStack, closing
from typing import IO

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.diagnostics import DIAGNOSTIC_PREFIX, diagnose
from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    EngineEnded,
    Failed,
    Finalize,
    Load,
    Loaded,
    LoadFailed,
    Partial,
    Post,
    Progress,
    Provisional,
    Request,
    Unloaded,
)
from qwen3_asr_mlx_runtime.engines.channel import (
    READ_BYTES,
    Beat,
    Configure,
    CorruptFrame,
    Ending,
    ToBridge,
    ToWorker,
    encode,
    parts,
    to_bridge,
)
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import DecodeFailed
from qwen3_asr_mlx_runtime.settings import Settings

SOCKET_BYTES = 512 * 1024
KILL_SECONDS = 5.0  # how long a process that was killed may take to be gone
# From the first moment on, signals of the process group are the bridge's, and the process ends with the bridge: at the
# end of a pipe, and on Linux also by PR_SET_PDEATHSIG, with the thread that started it. An import that fails ends it at
# once: the exit handlers of a library that lacks memory may wait for ever.
_PROGRAM = (
    "import _thread, os, signal as s, sys; "
    "[s.signal(number, s.SIG_IGN) for number in (s.SIGINT, s.SIGTERM, s.SIGHUP)]; "
    "sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(1)); "
    "_thread.start_new_thread(lambda: (os.read({life}, 1), os._exit(0)), ()); "
    "sys.platform == 'linux' and __import__('ctypes').CDLL(None).prctl(1, s.SIGKILL); "
    "sys.path[:] = {path!r}; from qwen3_asr_mlx_runtime.engine.worker import main; main({channel})"
)


class WorkerEngine:
    """An `Engine` whose work is done by a process. When that ends, EngineEnded is posted, and the next Load starts
    another. Called on one thread, which must outlive the process: Linux ends the child with the thread that made it."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        self._worker: _Worker | None = None

    def start(self) -> None:
        """Start a process and its imports, if none runs."""
        if self._worker is not None and not self._worker.has_ended:
            return
        try:
            self._worker = _Worker(self._settings, self._post)
        except (OSError, RuntimeError):  # no process, thread or descriptor is left
            self._worker = None
            self._post(EngineEnded("start_failed"))

    @property
    def heartbeats(self) -> int:
        return self._worker.heartbeats if self._worker is not None else 0

    @property
    def load_stage(self) -> str | None:
        return self._worker.load_stage if self._worker is not None else None

    @property
    def pid(self) -> int | None:
        """Of the process, None while none runs."""
        return self._worker.pid if self._worker is not None and not self._worker.has_ended else None

    @property
    def memory(self) -> Memory | None:
        """Of the process, by its latest report."""
        return self._worker.memory if self._worker is not None and not self._worker.has_ended else None

    def send(self, request: Request) -> None:
        if isinstance(request, Load):
            self.start()
        if self._worker is not None:
            self._worker.send(request)

    def kill(self, reason: str) -> None:
        """End the process now. EngineEnded with this reason follows."""
        if self._worker is not None:
            self._worker.kill(reason)

    def unload(self) -> None:
        """End the process: Unloaded follows once it is gone."""
        if self._worker is None or not self._worker.unload():
            self._post(Unloaded(0))

    def close(self) -> None:
        """End the process; nothing is posted of it."""
        if self._worker is not None:
            self._worker.close()

    def join(self, timeout: float) -> bool:
        return self._worker is None or self._worker.join(timeout)


class _Worker:
    """One process from its start to its end, and the thread that reads and writes its channel."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self.load_stage: str | None = None
        self.has_ended = False
        self.memory: Memory | None = None
        self._post = post
        self._steps = 0
        self._messages = 0
        self._reason: str | None = None
        self._freed_bytes: int | None = None  # once the model is to be unloaded
        self._is_broken = False
        self._is_closed = False
        self._lock = threading.Lock()
        self._outgoing: deque[ToWorker] = deque([Configure.of(settings)])
        self._sending = memoryview(b"")
        with ExitStack() as undo:
            self._start(undo)
            undo.pop_all()

    def _start(self, undo: ExitStack) -> None:
        """`undo` takes back what was done, where the rest fails."""
        self._socket, theirs = socket.socketpair()
        undo.enter_context(self._socket)
        with theirs:
            self._life, their_life = _pipe()
            undo.callback(os.close, self._life)
            try:
                self._start_process(theirs, their_life)
            finally:
                os.close(their_life)
        undo.callback(self._process.wait)
        undo.callback(self._process.kill)
        self._wake, self._woken = _pipe()
        undo.callback(os.close, self._wake)
        undo.callback(os.close, self._woken)
        self._stderr = undo.enter_context(closing(_MarkedLines(self._process.stdout)))
        self._socket.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def _start_process(self, theirs: socket.socket, their_life: int) -> None:
        for end in (self._socket, theirs):  # macOS has 8 KiB
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        program = _PROGRAM.format(path=sys.path, channel=theirs.fileno(), life=their_life)
        self._process = subprocess.Popen(  # noqa: S603 this interpreter, and a program of our own
            [sys.executable, "-I", "-X", "utf8", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(), their_life),
        )
        self.pid = self._process.pid

    @property
    def heartbeats(self) -> int:
        return self._steps + self._messages

    def send(self, request: Request) -> None:
        with self._lock:
            if isinstance(request, Load):
                self.load_stage = "start"
            self._outgoing += parts(request)
        self._wake_up()

    def kill(self, reason: str) -> None:
        self._note_reason(reason)
        self._signal_end()

    def _note_reason(self, reason: str) -> None:
        """The first one counts."""
        with self._lock:
            self._reason = self._reason or reason

    def unload(self) -> bool:
        """False where it has ended already."""
        size = process_memory.footprint_bytes(self.pid) or process_memory.rss_bytes(self.pid) or 0
        with self._lock:
            if self.has_ended:
                return False
            self._freed_bytes = size
        self.kill("unloaded")
        return True

    def close(self) -> None:
        self._is_closed = True
        self._signal_end()

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _signal_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def _wake_up(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # full: the thread is awake
            if not self.has_ended:
                os.write(self._wake, b"x")

    def _run(self) -> None:
        try:
            self._converse()
        except CorruptFrame:
            self.kill("corrupt_frame")
        except Exception as error:  # noqa: BLE001 a bug here costs the process, and no more
            diagnose(f"the channel to the worker failed: {type(error).__name__}")
            self.kill("channel_failed")
        self._end()

    def _converse(self) -> None:
        """Until the channel ends, or the process does not end although it was killed."""
        messages = to_bridge()
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.register(self._stderr, selectors.EVENT_READ)
            while True:
                wants = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._has_more() else 0)
                selector.modify(self._socket, wants)
                ready = selector.select(KILL_SECONDS if self._reason else None)
                if not ready and self._reason:
                    return
                for key, events in ready:
                    if key.fileobj is self._stderr:
                        if not self._stderr.read():
                            selector.unregister(self._stderr)
                    elif key.fileobj == self._woken:
                        os.read(self._woken, READ_BYTES)
                    elif events & selectors.EVENT_READ:
                        data = self._receive()
                        if data == b"":
                            return
                        for message in messages.feed(data or b""):
                            self._take(message)
                    else:
                        self._write()

    def _receive(self) -> bytes | None:
        try:
            return self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _has_more(self) -> bool:
        if not self._sending:
            with self._lock:
                message = self._outgoing.popleft() if self._outgoing else None
            if message is not None:
                self._sending = memoryview(self._encoded(message))
        return bool(self._sending) and not self._is_broken

    def _encoded(self, message: ToWorker) -> bytes:
        """Its frames. A request that has none, as one with half a surrogate pair in its context, fails alone."""
        try:
            return encode(message)
        except ValueError as error:
            if isinstance(message, Partial | Provisional | Finalize | Align):
                failure = DecodeFailed(f"the request cannot be passed on: {type(error).__name__}")
                self._post(Failed(message.id, failure))
            return b""

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._sending)
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more; what was sent before is still to be read
            self._is_broken = True
            return
        self._sending = self._sending[sent:]

    def _take(self, message: ToBridge) -> None:
        match message:
            case Beat(steps, memory):
                self._steps, self.memory = steps, memory
            case Ending(reason):
                self._note_reason(reason)
            case _:
                self._messages += 1
                if isinstance(message, Progress | Loaded | LoadFailed):
                    self.load_stage = message.stage if isinstance(message, Progress) else None
                if not self._is_closed:
                    self._post(message)

    def _end(self) -> None:
        """The process is gone, or goes now."""
        code = self._wait_for_end()
        while code is not None and self._stderr.read():
            pass
        with self._lock:
            self.has_ended, self.load_stage = True, None
            self._stderr.close()
            self._socket.close()
            for descriptor in (self._life, self._wake, self._woken):
                os.close(descriptor)
            self._outgoing.clear()
            self._sending = memoryview(b"")
            if not self._is_closed:  # posted under the lock: what `unload` posts comes after it
                freed = self._freed_bytes
                self._post(EngineEnded(self._reason or _reason_of(code)) if freed is None else Unloaded(freed))
        self._process.wait()

    def _wait_for_end(self) -> int | None:
        """Its exit status. A process that has closed its channel is about to end; otherwise it is killed. None if it
        does not end even then, as in a driver."""
        for _ in range(2):
            try:
                return self._process.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal_end()
        return None


class _MarkedLines:
    """What the process writes to stdout and stderr, as marked lines of this process."""

    def __init__(self, output: IO[bytes] | None) -> None:
        if output is None:
            raise ValueError("the process has no pipe for its output")
        self._output = output
        self._line = b""
        os.set_blocking(output.fileno(), False)

    def fileno(self) -> int:
        return self._output.fileno()

    def read(self) -> bool:
        """Pass on some of what is there. False at the end."""
        try:
            data = os.read(self._output.fileno(), READ_BYTES)
        except BlockingIOError:
            return True
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._pass_on(line)
        self._line = self._line[-READ_BYTES:]
        return bool(data)

    def close(self) -> None:
        if self._line:
            self._pass_on(self._line)
        self._output.close()

    def _pass_on(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").removeprefix(DIAGNOSTIC_PREFIX)
        diagnose(f"worker: {text}")


def _reason_of(code: int | None) -> str:
    """Of a process that ended unasked."""
    if code is None:
        return "stalled"
    if code >= 0:
        return f"exit_{code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal_{-code}"


def _pipe() -> tuple[int, int]:
    """(end to write, end to read), closed on exec."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    return write_end, read_end
