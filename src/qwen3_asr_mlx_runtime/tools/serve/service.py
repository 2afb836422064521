"""The one bridge behind the server: loads its model, watches it, and asks it once more where it was lost."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from qwen3_asr_mlx_runtime.client import AsyncBridge, BridgeLost, ClientError, Event, Limits, LossError, Setup
from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.protocol.streams import Progress

STOP_DEADLINE_MS = 3000
_NO_LIMIT = 1_000_000  # of restarts: each crash costs one request, after its second try
State = Literal["ready", "loading", "failed"]


@dataclass(frozen=True)
class Health:
    """`code`: why loading has failed. `stage`, `done`, `total`: how far it is."""

    state: State
    code: str | None = None
    stage: str | None = None
    done: int | None = None
    total: int | None = None


class Service:
    """`loads`: at once, and again after a crash; otherwise the first request loads the model. `words`: also the
    aligner. `resend`: that of the client, which sends again what a loss has interrupted. `on_retry` is called for each
    request that is sent again."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        program: str,
        loads: bool,
        words: bool = False,
        resend: bool = False,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        limits = Limits() if resend else Limits(restarts=_NO_LIMIT)
        self._bridge = AsyncBridge(Setup(command=command, env=env, name=program, resend=resend, limits=limits))
        self._program = program
        self._loads, self._words = loads, words
        self.on_retry = on_retry
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._progress: Progress | None = None
        self._failure: str | None = None
        self._alone = asyncio.Lock()  # held by a request that is sent again

    async def __aenter__(self) -> Self:
        """Start the process. Raises a ClientError."""
        await self._bridge.__aenter__()
        self._watching = asyncio.create_task(self._watch())
        if self._loads:
            self._load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._loading, self._watching):
            if task is not None:
                task.cancel()
        try:
            await self._bridge.stop("abort", STOP_DEADLINE_MS)
        except BaseException:
            await self._bridge.kill()
            raise

    @property
    def pid(self) -> int | None:
        return self._bridge.pid

    @property
    def restarts(self) -> int:
        return self._bridge.restarts

    @property
    def health(self) -> Health:
        if self._bridge.state == "failed" or self._failure is not None:
            return Health("failed", self._failure or "bridge_failed")
        if self._is_loading:
            at = self._progress
            return Health("loading", None, at.stage, at.done, at.total) if at else Health("loading")
        return Health("ready")

    async def transcribe(self, message: Mapping[str, Any]) -> TranscriptReply:
        """Raises a ClientError. Cancelling cancels the request. A request whose bridge was lost is sent once more, with
        no other such request: the one that is to blame takes no other with it a second time."""
        try:
            reply = await self._bridge.ask(message, TranscriptReply)
        except LossError:
            self.on_retry()
            async with self._alone:
                reply = await self._bridge.ask(message, TranscriptReply)
        self._failure = None
        return reply

    @property
    def _is_loading(self) -> bool:
        return self._loading is not None and not self._loading.done()

    def _load(self) -> None:
        self._failure = self._progress = None
        self._loading = asyncio.create_task(self._started())

    async def _started(self) -> None:
        try:
            await self._bridge.start(words=self._words or None)
        except ClientError as error:
            self._failure = error.cause_code
            note(f"{self._program}: the model cannot be loaded: {self._failure}: {error.message}")

    async def _watch(self) -> None:
        async for event in self._bridge.events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Progress) and self._is_loading:
            self._progress = event
        elif isinstance(event, BridgeLost):
            note(f"{self._program}: the bridge was lost: {event.error.cause_code}")
            if event.will_restart and self._loads and not self._is_loading:
                self._load()
