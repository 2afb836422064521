"""The client for `asyncio`. Cancelling a task cancels its request. docs/clients.md describes it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, cast

from qwen3_asr_mlx_runtime.client.answers import checked, timed_out
from qwen3_asr_mlx_runtime.client.bridge import STOP_DEADLINE_MS, Drain, Queued
from qwen3_asr_mlx_runtime.client.chunks import Chunks
from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.errors import ClientError, LossError
from qwen3_asr_mlx_runtime.client.events import Event
from qwen3_asr_mlx_runtime.client.messages import encoded_pcm
from qwen3_asr_mlx_runtime.client.options import (
    BoundaryOptions,
    FileOptions,
    StreamOptions,
    TimedOptions,
    TranscribeOptions,
)
from qwen3_asr_mlx_runtime.client.properties import BridgeProperties
from qwen3_asr_mlx_runtime.client.results import Aligned, BatchTranscript, RealtimeBatchFinal, Stopped, TranscriptReply
from qwen3_asr_mlx_runtime.client.setup import Setup
from qwen3_asr_mlx_runtime.client.waiting import change, on_thread
from qwen3_asr_mlx_runtime.protocol import commands, replies, streams
from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM, Id

R = TypeVar("R", bound=replies.Line)


class AsyncBridge(BridgeProperties):
    """One bridge, started by the first request or by `open`, and stopped by `stop` or the end of an `async with` block.
    Every method can raise a ClientError. `timeout`: seconds to wait for the reply, counted once the process is open."""

    def __init__(self, setup: Setup | Sequence[str]) -> None:
        super().__init__(setup)
        self._connecting: Future[Connection] | None = None

    async def __aenter__(self) -> "AsyncBridge":
        opening = on_thread(self._session.open, self)
        try:
            await asyncio.wrap_future(opening)
        except asyncio.CancelledError:  # no caller holds the process: without this it would keep running
            opening.add_done_callback(lambda _: self._session.kill_soon())  # also if its thread has not started yet
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            await self.stop()
        else:
            await self.kill()

    async def open(self) -> replies.CapabilitiesReply:
        return await asyncio.wrap_future(on_thread(self._session.open, self))

    async def capabilities(self, *, timeout: float | None = None) -> replies.CapabilitiesReply:
        return await self.ask(commands.Capabilities(), replies.CapabilitiesReply, timeout=timeout)

    async def start(
        self, keep_alive_seconds: float | None = None, *, words: bool | None = None, timeout: float | None = None
    ) -> replies.Ready:
        return await self.ask(commands.Start(keep_alive_seconds, words), replies.Ready, timeout=timeout)

    async def unload(
        self, mode: Drain = "drain", timeout_ms: int | None = None, *, timeout: float | None = None
    ) -> replies.Unloaded:
        command = commands.Unload(mode=mode, timeout_ms=timeout_ms)
        return await self.ask(command, replies.Unloaded, timeout=timeout)

    async def ping(self, *, timeout: float | None = None) -> replies.Pong:
        return await self.ask(commands.Ping(), replies.Pong, timeout=timeout)

    async def status(self, *, timeout: float | None = None) -> replies.StatusReply:
        return await self.ask(commands.Status(), replies.StatusReply, timeout=timeout)

    async def transcribe(
        self, audio: str | Path, *, timeout: float | None = None, **options: Unpack[TranscribeOptions]
    ) -> TranscriptReply:
        command = commands.Transcribe(audio=str(audio), **options)
        return await self.ask(command, TranscriptReply, timeout=timeout)

    async def batch_transcribe(
        self, audio: Sequence[str | Path], *, timeout: float | None = None, **options: Unpack[FileOptions]
    ) -> BatchTranscript:
        command = commands.BatchTranscribe(audio=[str(path) for path in audio], **options)
        return await self.ask(command, BatchTranscript, timeout=timeout)

    async def align(
        self,
        audio: str | Path,
        text: str,
        language: str,
        *,
        track: int | None = None,
        timeout_ms: int | None = None,
        timeout: float | None = None,
    ) -> Aligned:
        command = commands.Align(audio=str(audio), text=text, language=language, track=track, timeout_ms=timeout_ms)
        return await self.ask(command, Aligned, timeout=timeout)

    async def start_stream(
        self, stream_id: str = DEFAULT_STREAM, *, timeout: float | None = None, **options: Unpack[StreamOptions]
    ) -> "AsyncStream":
        command = commands.StartStream(stream_id=stream_id, **options)
        connected = await self._connected()
        process = self._era(command) or connected
        connection = process if isinstance(process, Connection) else None
        ready = await self.ask(command, streams.StreamReady, connection=connection, timeout=timeout)
        return AsyncStream(self, Chunks(process, ready, self._session.setup.limits.chunk_seconds), ready)

    async def flush(
        self, stream_id: str | None = None, *, timeout: float | None = None, **options: Unpack[TimedOptions]
    ) -> RealtimeBatchFinal:
        command = commands.Flush(stream_id=stream_id, **options)
        return await self.ask(command, RealtimeBatchFinal, timeout=timeout)

    async def cancel(self, target: Id, *, timeout: float | None = None) -> replies.CancelResult:
        return await self.ask(commands.Cancel(target=target), replies.CancelResult, timeout=timeout)

    async def cancel_utterance(
        self, stream_id: str, utterance_id: str, *, timeout: float | None = None
    ) -> replies.CancelResult:
        command = commands.Cancel(stream_id=stream_id, utterance_id=utterance_id)
        return await self.ask(command, replies.CancelResult, timeout=timeout)

    async def request(
        self, message: commands.Command | Mapping[str, Any], *, timeout: float | None = None
    ) -> replies.Line:
        """Send any request; return its reply of any type."""
        return await self.ask(message, replies.Line, timeout=timeout)

    async def stop(self, mode: Drain = "drain", deadline_ms: int = STOP_DEADLINE_MS) -> Stopped | None:
        """Finish the open requests (`drain`) or cancel them (`abort`), then end the process. None if no reply came."""
        return await asyncio.wrap_future(on_thread(lambda: self._session.stop(mode, deadline_ms), self))

    async def kill(self) -> None:
        self._session.kill_soon()
        await asyncio.wrap_future(on_thread(self._session.kill, self))

    @property
    async def events(self) -> AsyncIterator[Event]:
        """Events, until the bridge is stopped. `next_event` returns one, with a timeout."""
        while (event := await self.next_event()) is not None:
            yield event

    async def next_event(self, timeout: float | None = None) -> Event | None:
        """None if no event came within `timeout` seconds, or if no more will come."""
        queue = self._session.events
        try:
            async with asyncio.timeout(timeout):
                while (event := queue.take()) is None and not queue.is_ended:
                    await change(queue)
                return event
        except TimeoutError:
            return None

    async def ask(
        self,
        message: commands.Command | Mapping[str, Any],
        *types: type[R],
        connection: Connection | None = None,
        timeout: float | None = None,
    ) -> R:
        """The reply, which has one of `types`. `connection`: send to this process, not to a later one."""
        sent_to, id, reply = await self._sent(message, connection)
        try:
            async with asyncio.timeout(timeout):
                line = await asyncio.wrap_future(reply)
        except TimeoutError:
            self._abandon(sent_to, id, reply)
            raise timed_out(timeout) from None
        except asyncio.CancelledError:
            self._abandon(sent_to, id, reply)
            raise
        return cast(R, checked(self._session.answering(sent_to), line, types))

    async def _sent(
        self, message: commands.Command | Mapping[str, Any], connection: Connection | None
    ) -> tuple[Connection, Id, "Future[replies.Line]"]:
        while True:
            process = connection or await self._connected()
            try:
                return process, *process.ask(message)
            except LossError:
                if connection is not None or not self._session.goes_on(process):
                    raise

    async def _append(self, chunks: Chunks, pcm16: memoryview, utterance_id: str | None) -> None:
        while True:
            process = chunks.connection or await self._connected()
            try:
                room = process.room()
                if not room.done():
                    await asyncio.wrap_future(room)
                else:
                    room.result()
                return chunks.send(process, pcm16, utterance_id)
            except LossError:
                if chunks.connection is not None or not self._session.goes_on(process):
                    raise

    async def _connected(self) -> Connection:
        connection = self._session.connection
        if self._session.state == "running" and connection is not None:
            return connection
        if self._connecting is None or self._connecting.done():
            self._connecting = on_thread(self._session.connected, self)
        try:
            return await asyncio.wrap_future(self._connecting)
        except ClientError as error:  # raised in each waiting task
            raise error.again()  # noqa: B904 the copy keeps its cause


class AsyncStream:
    """A stream of one process. It ends with that process, unless the bridge has `resend`."""

    def __init__(self, bridge: AsyncBridge, chunks: Chunks, ready: streams.StreamReady) -> None:
        self.ready = ready
        self._bridge = bridge
        self._chunks = chunks

    @property
    def stream_id(self) -> str:
        return self.ready.stream_id

    async def append(self, pcm16: bytes | bytearray | memoryview, utterance_id: str | None = None) -> None:
        """Send little-endian samples at the stream's rate; returns when they are queued. Raises ValueError for half
        a sample."""
        for chunk in self._chunks.cut(pcm16):
            await self._bridge._append(self._chunks, chunk, utterance_id)

    async def end_utterance(
        self, pcm16: bytes | None = None, *, timeout: float | None = None, **options: Unpack[BoundaryOptions]
    ) -> Queued:
        return await self._boundary(commands.EndUtterance, pcm16, options, timeout)

    async def vad_boundary(
        self, pcm16: bytes | None = None, *, timeout: float | None = None, **options: Unpack[BoundaryOptions]
    ) -> Queued:
        return await self._boundary(commands.VadBoundary, pcm16, options, timeout)

    async def pause(self, samples: int | None = None, *, timeout: float | None = None) -> streams.Paused:
        return await self._ask(commands.Pause(stream_id=self.stream_id, samples=samples), streams.Paused, timeout)

    async def flush(self, *, timeout: float | None = None, **options: Unpack[TimedOptions]) -> RealtimeBatchFinal:
        command = commands.Flush(stream_id=self.stream_id, **options)
        return await self._ask(command, RealtimeBatchFinal, timeout)

    async def stop(
        self, mode: Literal["drain", "discard"] = "drain", *, timeout: float | None = None
    ) -> streams.StreamStopped:
        command = commands.StopStream(stream_id=self.stream_id, mode=mode)
        return await self._ask(command, streams.StreamStopped, timeout)

    async def _boundary(
        self,
        kind: type[commands.Boundary],
        pcm16: bytes | None,
        options: BoundaryOptions,
        timeout: float | None,
    ) -> Queued:
        pcm = None if pcm16 is None else encoded_pcm(pcm16)
        command = kind(stream_id=self.stream_id, pcm16=pcm, **options)
        connection = self._chunks.connection
        types = (streams.UtteranceQueued, RealtimeBatchFinal)
        return cast(Queued, await self._bridge.ask(command, *types, connection=connection, timeout=timeout))

    async def _ask(self, command: commands.Command, type: type[R], timeout: float | None) -> R:
        return await self._bridge.ask(command, type, connection=self._chunks.connection, timeout=timeout)
