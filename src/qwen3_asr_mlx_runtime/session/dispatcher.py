"""Accepts or rejects requests, and routes them to their handlers."""

from functools import partial

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.api import LoadAligner, Loaded
from qwen3_asr_mlx_runtime.errors import BridgeError, Busy, DuplicateId, InvalidParams, RequestError, ShuttingDown
from qwen3_asr_mlx_runtime.protocol import commands
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request
from qwen3_asr_mlx_runtime.protocol.replies import CancelResult, Ready
from qwen3_asr_mlx_runtime.protocol.streams import StreamError
from qwen3_asr_mlx_runtime.session.delivery import Group
from qwen3_asr_mlx_runtime.session.effects import WatchParent
from qwen3_asr_mlx_runtime.session.file_requests import start_files
from qwen3_asr_mlx_runtime.session.model_state import Start, ready
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest
from qwen3_asr_mlx_runtime.session.residency import PendingUnload
from qwen3_asr_mlx_runtime.session.session_state import SessionState
from qwen3_asr_mlx_runtime.session.status import pong, status
from qwen3_asr_mlx_runtime.session.transcription import FileRequest, Transcription

RETRY_AFTER_MS = 500
FINAL_POLICY_GUARDED = "final_policy_guarded"  # every final is guarded, whatever the stream requests

_CONTROL = (commands.Ping, commands.Status, commands.Cancel)  # answered also while draining
_AT_ONCE = (
    *_CONTROL,
    commands.Capabilities,
    commands.Hello,
    commands.AudioChunk,
    commands.Pause,
    commands.StopStream,
    commands.Stop,
)


class Dispatcher:
    """Dispatches the requests of a session. `size`: the bytes of input that are freed once a line is answered."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._replies = state.replies

    def handle(self, request: Request | Rejected, size: int) -> None:
        self._replies.counters.requests += 1
        if self._replies.in_flight(request.id) is not None:
            error = DuplicateId("a request with this `id` is in flight", field="id")
            self._mark_gap(request)
            self._replies.untracked(request, size).refuse(error)
        elif isinstance(request, Rejected):
            self._refuse(request, request.error, size)
        elif self._state.shutdown.is_draining and not isinstance(request.command, _CONTROL):
            self._refuse(request, ShuttingDown("the process is ending and takes no new requests"), size)
        elif self._is_busy(request):
            limit = self._state.settings.max_pending_requests
            self._refuse(request, Busy(f"{limit} requests are in flight", retry_after_ms=RETRY_AFTER_MS), size)
        else:
            self._accept(request, size)

    def _is_busy(self, request: Request) -> bool:
        """Only a request with an id is rejected as `busy`; for others the reader stops reading input."""
        counts = request.id is not UNSET and not isinstance(request.command, _AT_ONCE)
        return counts and self._replies.with_id >= self._state.settings.max_pending_requests

    def _refuse(self, request: Request | Rejected, error: BridgeError, size: int) -> None:
        """Answer a request with an error; if it gets no reply, send the error as an event."""
        self._mark_gap(request)
        if self._is_silent(request):
            self._send_stream_error(request, error)
            self._replies.release(size)
        else:
            self._replies.open(request, size).refuse(error)

    def _mark_gap(self, request: Request | Rejected) -> None:
        """Mark a gap in the stream of a chunk that is rejected here."""
        chunk = request if isinstance(request, Rejected) else request.command
        if isinstance(chunk, Rejected | commands.AudioChunk) and chunk.stream_id is not None:
            self._state.streams.registry.mark_gap(chunk.stream_id)

    def _is_silent(self, request: Request | Rejected) -> bool:
        """Whether a request gets no reply: a chunk without an id, from a client that wants events."""
        is_chunk = (
            request.is_chunk if isinstance(request, Rejected) else isinstance(request.command, commands.AudioChunk)
        )
        return is_chunk and self._state.has_events and request.id is UNSET

    def _send_stream_error(self, request: Request | Rejected, error: BridgeError) -> None:
        chunk = request if isinstance(request, Rejected) else request.command
        stream_id: str | None = getattr(chunk, "stream_id", None)
        seq, pcm16 = None, ""
        if isinstance(chunk, commands.AudioChunk):
            seq, pcm16 = chunk.seq, chunk.pcm16
        elif isinstance(chunk, Rejected):
            pcm16 = chunk.pcm16
        self._replies.send_event(
            StreamError(
                stream_id=stream_id,
                seq=seq,
                dropped_samples=self._state.streams.registry.count_samples(stream_id, pcm16),
                code=error.code,
                message=error.message,
                retryable=error.retryable,
                data=dict(error.data),
            )
        )

    def _accept(self, request: Request, size: int) -> None:
        """Accept a request. A command that raises a RequestError has changed nothing."""
        command = request.command
        if isinstance(command, commands.AudioChunk) and self._is_silent(request):
            try:
                self._state.streams.registry.chunk(command, known_only=True)
            except RequestError as error:
                self._send_stream_error(request, error)
            self._replies.release(size)
            return
        is_last = isinstance(command, commands.Stop)
        pending = self._replies.open_last(request, size) if is_last else self._replies.open(request, size)
        try:
            self._perform(pending, command)
        except RequestError as error:
            pending.refuse(error)

    def _perform(self, request: PendingRequest, command: commands.Command) -> None:
        state = self._state
        match command:
            case commands.Ping():
                request.answer(pong(state))
            case commands.Status():
                request.answer(status(state))
            case commands.Capabilities():
                request.answer(state.capabilities())
            case commands.Hello():
                self._hello(request, command)
            case commands.Cancel():
                result = self._cancel(command)
                state.deliver()  # cancelled requests are answered first
                request.answer(result)
            case commands.Start():
                self._start(request, command)
            case commands.Unload():
                state.residency.unload(request, command)
            case commands.Transcribe() | commands.BatchTranscribe() | commands.Align():
                start_files(request, command, state.scheduler, state.settings)
                state.model.need(request)
            case commands.Stop():
                self._stop(request, command)
            case _:
                self._perform_on_stream(request, command)

    def _perform_on_stream(self, request: PendingRequest, command: commands.Command) -> None:
        streams = self._state.streams
        known_only = self._state.has_events or request.id is not UNSET
        match command:
            case commands.StartStream():
                self._start_stream(request, command, may_replace=not known_only)
            case commands.AudioChunk():
                request.answer(streams.registry.chunk(command, known_only=known_only))
            case commands.Pause():
                streams.pause(request, command, known_only=known_only)
            case commands.Boundary():
                streams.boundary(request, command, known_only=known_only)
            case commands.Flush():
                streams.flush(request, command)
            case commands.StopStream():
                streams.stop(request, command)

    def _hello(self, request: PendingRequest, command: commands.Hello) -> None:
        if command.want is not None:
            if "events" not in command.want and self._state.streams.needs_events:
                raise InvalidParams("`want`: streams with `auto_flush` need `events`; stop them first", field="want")
            self._state.wants = [want for want in commands.WANTS if want in command.want]
            if not self._state.has_events:
                self._replies.withdraw_partials()
        if command.parent_pid is not None:
            self._state.scheduler.effects.append(WatchParent(command.parent_pid))
        request.answer(self._state.capabilities())

    def _start(self, request: PendingRequest, command: commands.Start) -> None:
        residency = self._state.residency
        residency.used()
        if command.keep_alive_seconds is not None:
            residency.keep_for(command.keep_alive_seconds)
        reply = partial(self._ready, wants_words=command.words is True)
        self._state.model.start(request, reply)

    def _ready(self, model: Loaded, *, wants_words: bool) -> Ready:
        if wants_words:
            self._state.scheduler.effects.append(LoadAligner())
        return ready(model)

    def _start_stream(self, request: PendingRequest, command: commands.StartStream, *, may_replace: bool) -> None:
        if command.auto_flush and not self._state.has_events:
            message = "`auto_flush`: results come as events; send `hello` with `want: events` first"
            raise InvalidParams(message, field="auto_flush")
        if command.partials and command.final_policy != "guarded":
            request.warn(FINAL_POLICY_GUARDED)
        registry = self._state.streams.registry
        stream, reply = self._state.streams.start(command, may_replace=may_replace)
        self._state.residency.used()
        self._state.model.start(request, lambda _: reply, lambda: reply.dropped_samples + registry.forget(stream))

    def _cancel(self, command: commands.Cancel) -> CancelResult:
        if command.target is None:
            return self._cancel_utterance(command.stream_id or "", command.utterance_id or "")
        request = self._replies.in_flight(command.target)
        if request is None:
            return CancelResult(state="already_done" if self._replies.was_answered(command.target) else "unknown")
        return CancelResult(state=self._cancel_request(request))

    def _cancel_request(self, request: PendingRequest) -> CancelState:
        scheduler = self._state.scheduler
        match request.subject:
            case FileRequest(transcriptions=transcriptions):
                return scheduler.cancel(transcriptions)
            case Transcription() as transcription:
                return scheduler.cancel([transcription])
            case Group() as group:
                return scheduler.cancel(self._state.utterances.delivery.waited_for(group))
            case Start() as start:
                return self._state.model.cancel(start)
            case PendingUnload() as unload:
                return self._state.residency.cancel(unload)
        return "unknown"

    def _cancel_utterance(self, stream_id: str, utterance_id: str) -> CancelResult:
        """Cancel all utterances of a name: the open one and the queued ones."""
        dropped = self._state.streams.registry.cancel(stream_id, utterance_id)
        state = self._state.utterances.cancel_named(stream_id, utterance_id)
        if not dropped:
            return CancelResult(state=state)
        return CancelResult(state="cancelling" if state == "cancelling" else "cancelled", dropped_samples=dropped)

    def _stop(self, request: PendingRequest, command: commands.Stop) -> None:
        self._state.drain("stop", request)
        if command.mode == "abort":
            self._state.abort("abort", ShuttingDown("`stop` ended it before it was finished"))
        elif command.deadline_ms is not None:
            self._state.shutdown.end_after(command.deadline_ms)
