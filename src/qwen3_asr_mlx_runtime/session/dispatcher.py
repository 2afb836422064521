"""Where requests come in: whether they may, who hears of it if not, and who works on them."""

from msgspec import UNSET

from qwen3_asr_mlx_runtime.errors import BridgeError, Busy, DuplicateId, InvalidParams, RequestError, ShuttingDown
from qwen3_asr_mlx_runtime.protocol import commands as ask
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request
from qwen3_asr_mlx_runtime.protocol.replies import CancelResult
from qwen3_asr_mlx_runtime.protocol.streams import StreamError
from qwen3_asr_mlx_runtime.session.effects import WatchParent
from qwen3_asr_mlx_runtime.session.file_requests import FilesRequest
from qwen3_asr_mlx_runtime.session.parts import Conversation
from qwen3_asr_mlx_runtime.session.reply_queue import Ticket
from qwen3_asr_mlx_runtime.session.starting import ready

RETRY_AFTER_MS = 500

_CONTROL = (ask.Ping, ask.Status, ask.Cancel)  # answered to the end
_AT_ONCE = (*_CONTROL, ask.Capabilities, ask.Hello, ask.AudioChunk, ask.StopStream, ask.Stop)


class Reception:
    """Takes requests into a conversation. `size`: the bytes of input that are let go of once a line is answered."""

    def __init__(self, conversation: Conversation) -> None:
        self._talk = conversation
        self._outbox = conversation.outbox

    def handle(self, request: Request | Rejected, size: int) -> None:
        self._outbox.counters.requests += 1
        if self._outbox.in_flight(request.id) is not None:
            error = DuplicateId("a request with this `id` is in flight", field="id")
            self._mark_gap(request)
            self._outbox.apart(request, size).refuse(error)
        elif isinstance(request, Rejected):
            self._refuse(request, request.error, size)
        elif self._talk.ending.is_on and not isinstance(request.command, _CONTROL):
            self._refuse(request, ShuttingDown("the process is ending and takes no new requests"), size)
        elif self._is_busy(request):
            limit = self._talk.settings.max_pending_requests
            self._refuse(request, Busy(f"{limit} requests are in flight", retry_after_ms=RETRY_AFTER_MS), size)
        else:
            self._accept(request, size)

    def _is_busy(self, request: Request) -> bool:
        """Only a request with an id is told so: for all others the reader stops taking input."""
        counts = request.id is not UNSET and not isinstance(request.command, _AT_ONCE)
        return counts and self._outbox.with_id >= self._talk.settings.max_pending_requests

    def _refuse(self, request: Request | Rejected, error: BridgeError, size: int) -> None:
        """Answer a request with an error, or, where it gets no reply, say the error in an event."""
        self._mark_gap(request)
        if self._is_silent(request):
            self._tell_stream_error(request, error)
            self._outbox.release(size)
        else:
            self._outbox.open(request, size).refuse(error)

    def _mark_gap(self, request: Request | Rejected) -> None:
        """A chunk that is refused before its stream sees it is missing there all the same."""
        chunk = request if isinstance(request, Rejected) else request.command
        if isinstance(chunk, Rejected | ask.AudioChunk) and chunk.stream_id is not None:
            self._talk.speech.intake.mark_gap(chunk.stream_id)

    def _is_silent(self, request: Request | Rejected) -> bool:
        """A chunk without an id gets no reply where events are wanted."""
        is_chunk = request.is_chunk if isinstance(request, Rejected) else isinstance(request.command, ask.AudioChunk)
        return is_chunk and self._talk.has_events and request.id is UNSET

    def _tell_stream_error(self, request: Request | Rejected, error: BridgeError) -> None:
        chunk = request if isinstance(request, Rejected) else request.command
        stream_id: str | None = getattr(chunk, "stream_id", None)
        seq, pcm16 = None, ""
        if isinstance(chunk, ask.AudioChunk):
            seq, pcm16 = chunk.seq, chunk.pcm16
        elif isinstance(chunk, Rejected):
            pcm16 = chunk.pcm16
        self._outbox.tell(
            StreamError(
                stream_id=stream_id,
                seq=seq,
                dropped_samples=self._talk.speech.intake.count_samples(stream_id, pcm16),
                code=error.code,
                message=error.message,
                retryable=error.retryable,
                data=dict(error.data),
            )
        )

    def _accept(self, request: Request, size: int) -> None:
        """Take in a request that may be taken in. A command that raises a RequestError has changed nothing."""
        command = request.command
        if isinstance(command, ask.AudioChunk) and self._is_silent(request):
            try:
                self._talk.speech.intake.chunk(command, known_only=True)
            except RequestError as error:
                self._tell_stream_error(request, error)
            self._outbox.release(size)
            return
        is_last = isinstance(command, ask.Stop)
        ticket = self._outbox.open_last(request, size) if is_last else self._outbox.open(request, size)
        try:
            self._perform(ticket, command)
        except RequestError as error:
            ticket.refuse(error)

    def _perform(self, ticket: Ticket, command: ask.Command) -> None:
        talk = self._talk
        match command:
            case ask.Ping():
                ticket.answer(talk.pong())
            case ask.Status():
                ticket.answer(talk.status())
            case ask.Capabilities():
                ticket.answer(talk.capabilities())
            case ask.Hello():
                self._hello(ticket, command)
            case ask.Cancel():
                ticket.answer(self._cancel(command))
            case ask.Start():
                talk.starting.add(ticket, ready)
            case ask.Transcribe() | ask.BatchTranscribe():
                talk.loading.need(ticket)
                FilesRequest(ticket, command).begin(talk.work, talk.settings, talk.job_ids, talk.clock)
            case ask.Stop():
                self._stop(ticket, command)
            case _:
                self._perform_of_stream(ticket, command)

    def _perform_of_stream(self, ticket: Ticket, command: ask.Command) -> None:
        speech = self._talk.speech
        known_only = self._talk.has_events or ticket.id is not UNSET
        match command:
            case ask.StartStream():
                self._start_stream(ticket, command, may_replace=not known_only)
            case ask.AudioChunk():
                ticket.answer(speech.intake.chunk(command, known_only=known_only))
            case ask.Boundary():
                speech.boundary(ticket, command, known_only=known_only)
            case ask.Flush():
                speech.flush(ticket, command)
            case ask.StopStream():
                speech.stop(ticket, command)

    def _hello(self, ticket: Ticket, command: ask.Hello) -> None:
        if command.want is not None:
            if "events" not in command.want and self._talk.speech.needs_events:
                raise InvalidParams("`want`: streams with `auto_flush` need `events`; stop them first", field="want")
            self._talk.wants = [want for want in ask.WANTS if want in command.want]
            if not self._talk.has_events:
                self._outbox.withdraw_partials()
        if command.parent_pid is not None:
            self._talk.work.effects.append(WatchParent(command.parent_pid))
        ticket.answer(self._talk.capabilities())

    def _start_stream(self, ticket: Ticket, command: ask.StartStream, *, may_replace: bool) -> None:
        if command.auto_flush and not self._talk.has_events:
            message = "`auto_flush`: batches come as events; say `hello` and want `events` first"
            raise InvalidParams(message, field="auto_flush")
        intake = self._talk.speech.intake
        stream, reply = self._talk.speech.start(command, may_replace=may_replace)
        self._talk.starting.add(ticket, lambda _: reply, lambda: reply.dropped_samples + intake.forget(stream))

    def _cancel(self, command: ask.Cancel) -> CancelResult:
        if command.target is None:
            return self._cancel_utterance(command.stream_id or "", command.utterance_id or "")
        ticket = self._outbox.in_flight(command.target)
        if ticket is None:
            return CancelResult(state="already_done" if self._outbox.was_answered(command.target) else "unknown")
        return CancelResult(state="unknown" if ticket.on_cancel is None else ticket.on_cancel())

    def _cancel_utterance(self, stream_id: str, utterance_id: str) -> CancelResult:
        """All of the name: one that is still being spoken, and those whose boundaries have come."""
        dropped = self._talk.speech.intake.cancel(stream_id, utterance_id)
        state = self._talk.batches.cancel_named(stream_id, utterance_id)
        if not dropped:
            return CancelResult(state=state)
        return CancelResult(state="cancelling" if state == "cancelling" else "cancelled", dropped_samples=dropped)

    def _stop(self, ticket: Ticket, command: ask.Stop) -> None:
        ending, events = self._talk.ending, self._talk.has_events
        ending.drain("stop", as_events=events, ticket=ticket)
        if command.mode == "abort":
            ending.abort("abort", ShuttingDown("`stop` ended it before it was finished"), as_events=events)
        elif command.deadline_ms is not None:
            ending.end_after(command.deadline_ms)
