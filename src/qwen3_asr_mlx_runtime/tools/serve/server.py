"""The HTTP server: its bridge, its routes and its socket."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.tools.doors.life import GRACE_SECONDS, Life, address_of, lived
from qwen3_asr_mlx_runtime.tools.doors.service import Service
from qwen3_asr_mlx_runtime.tools.serve.app import Access, App, application
from qwen3_asr_mlx_runtime.tools.serve.metrics import Metrics
from qwen3_asr_mlx_runtime.tools.serve.upload import Uploads, upload_folder

PING_SECONDS = 20  # between two pings of a WebSocket
MAX_EVENT_BYTES = 16 << 20  # of one event of a client


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

    async def serve(life: Life) -> None:
        with upload_folder() as folder:
            await _serve(plan, listener, life, folder)

    return await lived(serve, plan.parent_pid)


async def _serve(plan: Plan, listener: socket.socket, life: Life, folder: Path) -> None:
    async with Service(plan.command, plan.env, program=plan.program, loads=plan.loads, words=plan.words) as service:
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
            ws=_WebSocket,
            ws_max_size=MAX_EVENT_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=None,  # a pong is not read while the bridge has no room; TCP sees a peer that is gone
        )
        server = _Server(config, app.end)
        life.begins(server.end)
        note(f"{plan.program}: listening on http://{address_of(listener)}")
        await server.serve([listener])


class _WebSocket(WebSocketsSansIOProtocol):
    def shutdown(self) -> None:
        """uvicorn would close an open one at once, with 1012. The application does, when all is answered."""
        if not self.handshake_complete or self.close_sent:
            super().shutdown()


class _Server(uvicorn.Server):
    """`on_shutdown` is called when it begins to end."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`Life` has the signals: uvicorn knows no SIGHUP, and raises a signal again before the bridge has ended."""
        yield

    def end(self, at_once: bool) -> None:
        self.should_exit, self.force_exit = True, at_once
