"""The one bridge behind a door: loads its model, watches it, and asks it once more where it was lost."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from qwen3_asr_mlx_runtime.client import (
    AsyncBridge,
    AsyncStream,
    BridgeLost,
    ClientError,
    Event,
    EventsLost,
    Limits,
    LossError,
    Setup,
    UtteranceLost,
)
from qwen3_asr_mlx_runtime.client.options import StreamOptions
from qwen3_asr_mlx_runtime.client.results import FinalResult, RealtimeBatchFinal, TranscriptReply
from qwen3_asr_mlx_runtime.command import note
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, Progress, StreamError

STOP_DEADLINE_MS = 3000
_LOADS = 3  # in a row: loads whose bridge was lost, before a request has to ask for the next
_NO_LIMIT = 1_000_000  # of restarts: each crash costs one request, after its second try
State = Literal["ready", "loading", "failed"]
StreamNews = PartialResult | FinalResult | StreamError | ClientError  # the last: its stream is lost


class NewsLost(ClientError):
    """Of an open stream: its result may never come."""

    code = BridgeError.code


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
    aligner. `resend`: that of the client, which sends again what a loss of the bridge has interrupted. `on_retry` is
    called for each request that is sent again."""

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
        self._listeners: dict[str, Callable[[StreamNews], None]] = {}  # of the streams that are open, or being opened
        self._numbers = count(1)
        self._stopping: set[asyncio.Task[None]] = set()  # streams

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
        await self._reopen()
        try:
            reply = await self._bridge.ask(message, TranscriptReply)
        except LossError:
            self.on_retry()
            async with self._alone:
                reply = await self._bridge.ask(message, TranscriptReply)
        self._failure = None
        return reply

    async def open_stream(self, on_news: Callable[[StreamNews], None], **options: Unpack[StreamOptions]) -> AsyncStream:
        """Waits for the model. Raises a ClientError. `on_news` is called on the loop, also while it opens, until
        `close_stream`, which each open stream must get. After a ClientError nothing of it is worth waiting for."""
        await asyncio.sleep(0)  # those that were closed before are stopped first: the bridge limits how many are open
        await self._reopen()
        name = f"stream-{next(self._numbers)}"
        self._listeners[name] = on_news
        try:
            stream = await self._bridge.start_stream(name, **options)
        except BaseException:  # cancelled: the client stops it, if it has been opened all the same
            del self._listeners[name]
            raise
        self._failure = None
        return stream

    def close_stream(self, stream: AsyncStream) -> None:
        """Drop what it has. Returns at once."""
        del self._listeners[stream.stream_id]
        task = asyncio.create_task(_stop(stream))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def drop_utterance(self, stream: AsyncStream, utterance_id: str) -> None:
        """The open one. Raises a ClientError."""
        await self._bridge.cancel_utterance(stream.stream_id, utterance_id)

    async def _reopen(self) -> None:
        """A bridge that has failed, by too many losses or for good: each request and stream tries again. Raises a
        ClientError."""
        if self._bridge.state == "failed":
            await self._bridge.open()

    @property
    def _is_loading(self) -> bool:
        return self._loading is not None and not self._loading.done()

    def _load(self) -> None:
        self._failure = self._progress = None
        self._loading = asyncio.create_task(self._started())

    async def _started(self) -> None:
        for attempt in range(1, _LOADS + 1):
            try:
                await self._bridge.start(words=self._words or None)
                return
            except ClientError as error:
                if not isinstance(error, LossError) or attempt == _LOADS:
                    self._failure = error.cause_code
                    note(f"{self._program}: the model cannot be loaded: {self._failure}: {error.message}")
                    return

    async def _watch(self) -> None:
        async for event in self._bridge.events:
            if isinstance(event, Progress) and self._is_loading:
                self._progress = event
            elif isinstance(event, BridgeLost):
                note(f"{self._program}: the bridge was lost: {event.error.cause_code}")
                if event.will_restart and self._loads and not self._is_loading and self._failure is None:
                    self._load()
            self._hand_out(event)

    def _hand_out(self, event: Event) -> None:
        match event:
            case PartialResult(stream_id=str(name)) | StreamError(stream_id=str(name)):
                self._tell(name, event)
            case RealtimeBatchFinal(items=items):
                for item in items:
                    self._tell(item.stream_id, item)
            case UtteranceLost(stream_id=name, error=error):
                self._tell(name, error)
            case BridgeLost(error=error, streams=names, will_restart=will_restart):
                self._lose(names if will_restart else [*self._listeners], error)
            case EventsLost():  # a result may be among them
                self._lose([*self._listeners], NewsLost("events of the bridge were lost"))

    def _lose(self, names: Iterable[str], error: ClientError) -> None:
        for name in names:
            self._tell(name, error)

    def _tell(self, name: str, news: StreamNews) -> None:
        if (listener := self._listeners.get(name)) is not None:
            listener(news)


async def _stop(stream: AsyncStream) -> None:
    with suppress(ClientError):  # it has ended already
        await stream.stop("discard")
