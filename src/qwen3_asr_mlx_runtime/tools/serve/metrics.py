"""Figures for Prometheus, by its own library: numbers, routes and codes alone."""

import time
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwen3_asr_mlx_runtime.tools.serve.problems import CLIENT_GONE

_NAME = "qwen3_asr_mlx_"
_OTHER = "other"  # a path that is none of the routes may hold anything
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """`is_ready` and `restarts` are those of the bridge."""

    def __init__(self, is_ready: Callable[[], bool], restarts: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            f"{_NAME}requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            f"{_NAME}request_seconds", "From the head of a request to the end of its answer", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.in_progress = Gauge(f"{_NAME}transcriptions_in_progress", "Uploads included", registry=registry)
        self.realtime = Gauge(f"{_NAME}realtime_connections", "Open ones", registry=registry)
        self.audio_seconds = Counter(f"{_NAME}audio_seconds", "Audio that was transcribed", registry=registry)
        self.retries = Counter(f"{_NAME}retries", "Requests sent again after a loss of the bridge", registry=registry)
        Gauge(f"{_NAME}ready", "1 if the model is ready", registry=registry).set_function(is_ready)
        Gauge(f"{_NAME}bridge_restarts", "Of the bridge's process", registry=registry).set_function(restarts)

    def answer(self, request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"Content-Type": media_type})


class Measured:
    """Counts each request and times its answer. A WebSocket is counted when it ends. `routes`: the paths that are
    named."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["path"] if scope["path"] in self._routes else _OTHER
        status, started = CLIENT_GONE, time.perf_counter()

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = int(HTTPStatus.SWITCHING_PROTOCOLS)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._metrics.requests.labels(route, str(status)).inc()
            if scope["type"] == "http":
                self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
