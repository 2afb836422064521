"""The routes: an upload → the bridge → an answer; a WebSocket → a realtime session."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus

from prometheus_client import Gauge
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected

from qwen3_asr_mlx_runtime.client import ClientError
from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.diagnostics import raised_at
from qwen3_asr_mlx_runtime.errors import BridgeError, Busy
from qwen3_asr_mlx_runtime.tools.doors.service import Service
from qwen3_asr_mlx_runtime.tools.serve.answers import answer, seconds_of
from qwen3_asr_mlx_runtime.tools.serve.forms import wanted
from qwen3_asr_mlx_runtime.tools.serve.guard import Guard, TokenCheck
from qwen3_asr_mlx_runtime.tools.serve.metrics import Measured, Metrics
from qwen3_asr_mlx_runtime.tools.serve.problems import Problem, invalid, of_client
from qwen3_asr_mlx_runtime.tools.serve.realtime import Connection
from qwen3_asr_mlx_runtime.tools.serve.realtime_session import RealtimeSession
from qwen3_asr_mlx_runtime.tools.serve.upload import Uploads, client_gone

OWNER = "qwen3-asr-mlx-runtime"
REALTIME = "/v1/realtime"


@dataclass(frozen=True)
class Access:
    """`names`: of this server, in `Host`. `origins`: of web pages that may ask. `token`: None where none is needed."""

    names: Collection[str] = ()
    origins: Collection[str] = ()
    token: str | None = None


class App:
    """`model`: the name that `/v1/models` gives, since `started` (seconds of Unix time). `max_requests`:
    transcriptions at a time, their uploads included, and realtime sessions."""

    def __init__(
        self, service: Service, metrics: Metrics, uploads: Uploads, *, model: str, started: int, max_requests: int
    ) -> None:
        self._service, self._metrics, self._uploads = service, metrics, uploads
        self._model = model
        self._models = [{"id": model, "object": "model", "created": started, "owned_by": OWNER}]
        self._max_requests, self._requests = max_requests, 0
        self._connections: set[Connection] = set()

    async def transcriptions(self, request: Request) -> Response:
        with self._place(self._metrics.in_progress):
            async with self._uploads.received(request) as (form, path):
                asked = wanted(form)
                work = self._service.transcribe(asked.message(str(path)))
                reply = await _unless_gone(request, work)
            self._metrics.audio_seconds.inc(seconds_of(reply))
            return await asyncio.to_thread(answer, asked, reply)

    async def realtime(self, websocket: WebSocket) -> None:
        try:
            with self._place(self._metrics.realtime):
                if websocket.query_params.get("intent") != "transcription":
                    raise invalid("expected intent=transcription: there are no other sessions", "intent")
                connection = Connection(websocket, self._session)
                self._connections.add(connection)
                try:
                    await connection.run()
                finally:
                    self._connections.discard(connection)
        except Problem as problem:  # it was not accepted yet
            await websocket.send_denial_response(problem.response())

    def end(self) -> None:
        """Realtime sessions take no more events, and are closed once all that was committed is answered."""
        for connection in self._connections:
            connection.end()

    def _session(self, send: Callable[[str], None]) -> RealtimeSession:
        return RealtimeSession(self._service, self._model, send, self._metrics.audio_seconds.inc)

    async def models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": self._models})

    async def health(self, _request: Request) -> Response:
        health = self._service.health
        members = {"status": health.state, **{name: value for name, value in asdict(health).items() if value}}
        members.pop("state")
        return JSONResponse(members, HTTPStatus.OK if health.state == "ready" else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, request: Request) -> Response:
        return self._metrics.answer(request)

    @contextmanager
    def _place(self, gauge: Gauge) -> Iterator[None]:
        """Raises Problem before anything of the body is read. uvicorn drops what the client still sends: to close the
        connection instead could cost it the answer."""
        if self._requests >= self._max_requests:
            message = f"{self._max_requests} requests are being answered: try again"
            raise Problem(503, Busy.code, message, may_retry=True)
        self._requests += 1
        gauge.inc()
        try:
            yield
        finally:
            self._requests -= 1
            gauge.dec()


async def _unless_gone(request: Request, work: Awaitable[TranscriptReply]) -> TranscriptReply:
    """The result, unless the client goes away, which cancels the work. Raises Problem, or what the work raises."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise client_gone()
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def application(app: App, metrics: Metrics, access: Access) -> ASGIApp:
    routes: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
        "/v1/audio/transcriptions": ("POST", app.transcriptions),
        "/v1/models": ("GET", app.models),
        "/health": ("GET", app.health),
        "/metrics": ("GET", app.metrics),
    }
    inner: ASGIApp = Starlette(
        routes=[
            *(Route(path, endpoint, methods=[method]) for path, (method, endpoint) in routes.items()),
            WebSocketRoute(REALTIME, app.realtime),
        ],
        exception_handlers={
            Problem: _on_problem,
            ClientError: _on_client_error,
            HTTPException: _on_http,
            Exception: _on_bug,
        },
    )
    if access.token is not None:
        inner = TokenCheck(inner, access.token)
    if access.origins:
        inner = CORSMiddleware(inner, [*access.origins], allow_methods=["GET", "POST"], allow_headers=["*"])
    return Measured(_Quiet(Guard(inner, access.names, access.origins)), metrics, frozenset([*routes, REALTIME]))


class _Quiet:
    """Ends what the framework raises again once it is answered: a traceback may quote anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnected:  # before its WebSocket was accepted or refused
            pass
        except Exception as error:  # noqa: BLE001 the boundary
            note(f"qwen3-asr-mlx-serve: a bug: {raised_at(type(error), error.__traceback__)}")


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 so it is registered
    return error.response()


async def _on_client_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)  # noqa: S101 so it is registered
    return of_client(error).response()


async def _on_http(_request: Request, error: Exception) -> Response:
    """No such path, or no such method there."""
    assert isinstance(error, HTTPException)  # noqa: S101 so it is registered
    status = HTTPStatus(error.status_code)
    problem = Problem(status, status.name.lower(), status.phrase, headers=dict(error.headers or {}))
    return problem.response()


async def _on_bug(_request: Request, _error: Exception) -> Response:
    return Problem(500, BridgeError.code, "the server has failed, by a bug", may_retry=False).response()
