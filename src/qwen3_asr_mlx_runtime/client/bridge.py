"""The synchronous client: every call waits for its reply. docs/clients.md describes it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, cast

from qwen3_asr_mlx_runtime.client.answers import checked, result_in_time, timed_out
from qwen3_asr_mlx_runtime.client.chunks import Chunks
from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.errors import LossError
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
from qwen3_asr_mlx_runtime.protocol import commands, replies, streams
from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM, Id

R = TypeVar("R", bound=replies.Line)
Drain = Literal["drain", "abort"]
Queued = streams.UtteranceQueued | RealtimeBatchFinal
STOP_DEADLINE_MS = 10_000


class Bridge(BridgeProperties):
    """One bridge, started by the first request or by `open`, and stopped by `stop` or the end of a `with` block.

    Safe to use from any thread. Every method can raise a ClientError. `timeout`: seconds to wait for the reply,
    counted once the process is open. After a fork only the process that started the bridge can use it.
    """

    def __enter__(self) -> "Bridge":
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    def open(self) -> replies.CapabilitiesReply:
        return self._session.open()

    def capabilities(self, *, timeout: float | None = None) -> replies.CapabilitiesReply:
        return self.ask(commands.Capabilities(), replies.CapabilitiesReply, timeout=timeout)

    def start(
        self, keep_alive_seconds: float | None = None, *, words: bool | None = None, timeout: float | None = None
    ) -> replies.Ready:
        """Load the model. `keep_alive_seconds`: how long it stays loaded while idle, -1 for ever, None as before.
        `words`: then load the aligner too, without waiting for it."""
        return self.ask(commands.Start(keep_alive_seconds, words), replies.Ready, timeout=timeout)

    def unload(
        self, mode: Drain = "drain", timeout_ms: int | None = None, *, timeout: float | None = None
    ) -> replies.Unloaded:
        """Free the memory of the model once accepted work is done (`drain`), or cancel that work (`abort`)."""
        return self.ask(commands.Unload(mode=mode, timeout_ms=timeout_ms), replies.Unloaded, timeout=timeout)

    def ping(self, *, timeout: float | None = None) -> replies.Pong:
        return self.ask(commands.Ping(), replies.Pong, timeout=timeout)

    def status(self, *, timeout: float | None = None) -> replies.StatusReply:
        return self.ask(commands.Status(), replies.StatusReply, timeout=timeout)

    def transcribe(
        self, audio: str | Path, *, timeout: float | None = None, **options: Unpack[TranscribeOptions]
    ) -> TranscriptReply:
        command = commands.Transcribe(audio=str(audio), **options)
        return self.ask(command, TranscriptReply, timeout=timeout)

    def batch_transcribe(
        self, audio: Sequence[str | Path], *, timeout: float | None = None, **options: Unpack[FileOptions]
    ) -> BatchTranscript:
        command = commands.BatchTranscribe(audio=[str(path) for path in audio], **options)
        return self.ask(command, BatchTranscript, timeout=timeout)

    def align(
        self,
        audio: str | Path,
        text: str,
        language: str,
        *,
        track: int | None = None,
        timeout_ms: int | None = None,
        timeout: float | None = None,
    ) -> Aligned:
        """When each word of a known text is said in a file, in seconds. `language`: name or ISO code of the text."""
        command = commands.Align(audio=str(audio), text=text, language=language, track=track, timeout_ms=timeout_ms)
        return self.ask(command, Aligned, timeout=timeout)

    def start_stream(
        self, stream_id: str = DEFAULT_STREAM, *, timeout: float | None = None, **options: Unpack[StreamOptions]
    ) -> "Stream":
        command = commands.StartStream(stream_id=stream_id, **options)
        connected = self._session.connected()
        process = self._era(command) or connected
        connection = process if isinstance(process, Connection) else None
        ready = self.ask(command, streams.StreamReady, connection=connection, timeout=timeout)
        return Stream(self, Chunks(process, ready, self._session.setup.limits.chunk_seconds), ready)

    def flush(
        self, stream_id: str | None = None, *, timeout: float | None = None, **options: Unpack[TimedOptions]
    ) -> RealtimeBatchFinal:
        command = commands.Flush(stream_id=stream_id, **options)
        return self.ask(command, RealtimeBatchFinal, timeout=timeout)

    def cancel(self, target: Id, *, timeout: float | None = None) -> replies.CancelResult:
        """`target`: the `id` that the app gave to a request sent with `request`."""
        return self.ask(commands.Cancel(target=target), replies.CancelResult, timeout=timeout)

    def cancel_utterance(
        self, stream_id: str, utterance_id: str, *, timeout: float | None = None
    ) -> replies.CancelResult:
        command = commands.Cancel(stream_id=stream_id, utterance_id=utterance_id)
        return self.ask(command, replies.CancelResult, timeout=timeout)

    def request(self, message: commands.Command | Mapping[str, Any], *, timeout: float | None = None) -> replies.Line:
        """Send any request; return its reply of any type."""
        return self.ask(message, replies.Line, timeout=timeout)

    def stop(self, mode: Drain = "drain", deadline_ms: int = STOP_DEADLINE_MS) -> Stopped | None:
        """Finish the open requests (`drain`) or cancel them (`abort`), then end the process. None if no reply came."""
        return self._session.stop(mode, deadline_ms)

    def kill(self) -> None:
        self._session.kill()

    @property
    def events(self) -> Iterator[Event]:
        """Events, until the bridge is stopped."""
        while not self._session.events.is_ended:
            event = self._session.events.wait(None)
            if event is not None:
                yield event

    def next_event(self, timeout: float | None = None) -> Event | None:
        """None if no event came within `timeout` seconds, or if no more will come."""
        return self._session.events.wait(timeout)

    def ask(
        self,
        message: commands.Command | Mapping[str, Any],
        *types: type[R],
        connection: Connection | None = None,
        timeout: float | None = None,
    ) -> R:
        """The reply, which has one of `types`. `connection`: send to this process, not to a later one."""
        sent_to, id, reply = self._sent(message, connection)
        line = result_in_time(partial(self._abandon, sent_to), id, reply, timeout)
        return cast(R, checked(self._session.answering(sent_to), line, types))

    def _sent(
        self, message: commands.Command | Mapping[str, Any], connection: Connection | None
    ) -> tuple[Connection, Id, "Future[replies.Line]"]:
        while True:
            process = connection or self._session.connected()
            try:
                return process, *process.ask(message)
            except LossError:
                if connection is not None or not self._session.goes_on(process):
                    raise

    def _append(self, chunks: Chunks, pcm16: memoryview, utterance_id: str | None, timeout: float | None) -> None:
        while True:
            process = chunks.connection or self._session.connected()
            try:
                process.room().result(timeout)
                return chunks.send(process, pcm16, utterance_id)
            except FutureTimeoutError:
                raise timed_out(timeout) from None
            except LossError:
                if chunks.connection is not None or not self._session.goes_on(process):
                    raise


class Stream:
    """A stream of one process. It ends with that process, unless the bridge has `resend`."""

    def __init__(self, bridge: Bridge, chunks: Chunks, ready: streams.StreamReady) -> None:
        self.ready = ready
        self._bridge = bridge
        self._chunks = chunks

    @property
    def stream_id(self) -> str:
        return self.ready.stream_id

    def append(
        self, pcm16: bytes | bytearray | memoryview, utterance_id: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Send little-endian samples at the stream's rate; returns when all are queued. Raises ValueError for half a
        sample, and RequestTimeout if the queue stays full for `timeout` seconds; samples not yet queued are lost."""
        for chunk in self._chunks.cut(pcm16):
            self._bridge._append(self._chunks, chunk, utterance_id, timeout)

    def end_utterance(
        self, pcm16: bytes | None = None, *, timeout: float | None = None, **options: Unpack[BoundaryOptions]
    ) -> Queued:
        return self._boundary(commands.EndUtterance, pcm16, options, timeout)

    def vad_boundary(
        self, pcm16: bytes | None = None, *, timeout: float | None = None, **options: Unpack[BoundaryOptions]
    ) -> Queued:
        return self._boundary(commands.VadBoundary, pcm16, options, timeout)

    def pause(self, samples: int | None = None, *, timeout: float | None = None) -> streams.Paused:
        """The speaker may have ended: compute the final of so many samples, at the stream's rate, or of all so far."""
        return self._ask(commands.Pause(stream_id=self.stream_id, samples=samples), streams.Paused, timeout)

    def flush(self, *, timeout: float | None = None, **options: Unpack[TimedOptions]) -> RealtimeBatchFinal:
        return self._ask(commands.Flush(stream_id=self.stream_id, **options), RealtimeBatchFinal, timeout)

    def stop(
        self, mode: Literal["drain", "discard"] = "drain", *, timeout: float | None = None
    ) -> streams.StreamStopped:
        command = commands.StopStream(stream_id=self.stream_id, mode=mode)
        return self._ask(command, streams.StreamStopped, timeout)

    def _boundary(
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
        return cast(Queued, self._bridge.ask(command, *types, connection=connection, timeout=timeout))

    def _ask(self, command: commands.Command, type: type[R], timeout: float | None) -> R:
        return self._bridge.ask(command, type, connection=self._chunks.connection, timeout=timeout)
