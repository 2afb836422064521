"""The server's life: from its bridge and its socket to the signal, or the end of the parent, that ends it."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit, ParentWatch
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.tools.serve.app import Access, App, application
from qwen3_asr_mlx_runtime.tools.serve.metrics import Metrics
from qwen3_asr_mlx_runtime.tools.serve.service import Service
from qwen3_asr_mlx_runtime.tools.serve.upload import Uploads, upload_folder

GRACE_SECONDS = 10  # for the requests that are open when it is to end
_PARENT_SECONDS = 1.0  # between two looks at the parent
_CODES = {signal.SIGINT: int(Exit.INTERRUPTED), signal.SIGTERM: int(Exit.TERMINATED), signal.SIGHUP: 129}


@dataclass(frozen=True)
class Plan:
    """`command`, `env`: of the bridge. `model`: its public name. `loads`: the model at once. `parent_pid`: a process
    that the server does not outlive."""

    program: str
    command: Sequence[str]
    env: Mapping[str, str]
    model: str
    access: Access
    max_upload_bytes: int
    max_requests: int
    loads: bool
    words: bool
    parent_pid: int | None = None


async def run(plan: Plan, listener: socket.socket) -> int:
    """Serve until a signal; the exit code. Raises a ClientError if the bridge cannot be started."""
    life = _Life(asyncio.current_task())
    logging.getLogger().addHandler(logging.NullHandler())  # messages of libraries may quote anything
    with life.signals(), upload_folder() as folder:
        watching = asyncio.create_task(life.watch(plan.parent_pid))
        try:
            await _serve(plan, listener, life, folder)
        except asyncio.CancelledError:
            if life.code is None:
                raise
        finally:
            watching.cancel()
    return life.code or 0


async def _serve(plan: Plan, listener: socket.socket, life: "_Life", folder: Path) -> None:
    async with Service(plan.command, plan.env, loads=plan.loads, words=plan.words) as service:
        metrics = Metrics(lambda: service.health.state == "ready", lambda: service.restarts)
        service.on_retry = metrics.retries.inc
        app = App(
            service,
            metrics,
            Uploads(folder, plan.max_upload_bytes),
            model=plan.model,
            started=int(time.time()),
            max_requests=plan.max_requests,
        )
        config = uvicorn.Config(
            application(app, metrics, plan.access),
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            ws="none",
        )
        server = _Server(config)
        life.begins(server)
        host, port = listener.getsockname()[:2]
        note(f"{plan.program}: listening on http://{f'[{host}]' if ':' in host else host}:{port}")
        await server.serve([listener])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`_Life` has the signals: uvicorn knows no SIGHUP, and raises a signal again before the bridge has ended."""
        yield


class _Life:
    """What ends the server. `code`: the exit code, once something has. The first signal lets open requests end, for a
    while; the second ends them."""

    def __init__(self, task: "asyncio.Task[object] | None") -> None:
        self.code: int | None = None
        self._task = task
        self._server: uvicorn.Server | None = None

    def begins(self, server: uvicorn.Server) -> None:
        self._server = server

    @contextmanager
    def signals(self) -> Iterator[None]:
        """One that was ignored when the process started stays so, as under nohup."""
        loop = asyncio.get_running_loop()
        numbers = [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self._end, _CODES[number])
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def watch(self, parent_pid: int | None) -> None:
        if parent_pid is None:
            return
        parent = ParentWatch(parent_pid)
        while not parent.is_gone():
            await asyncio.sleep(_PARENT_SECONDS)
        self._end(Exit.PARENT_GONE)

    def _end(self, code: int) -> None:
        is_second, self.code = self.code is not None, self.code or code
        if self._server is None:
            if self._task is not None:
                self._task.cancel()
            return
        self._server.should_exit = True
        self._server.force_exit = is_second


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Raises OSError, with the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # without the protocol, asyncio leaves Nagle's delay on
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        is_of_resolver = isinstance(error, socket.gaierror)
        reason = error.strerror if is_of_resolver else os.strerror(error.errno or 0)
        raise OSError(error.errno, reason, f"{host}:{port}") from None
    with listener:
        yield listener
