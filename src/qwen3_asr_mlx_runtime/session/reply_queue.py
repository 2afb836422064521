"""Requests that wait for their reply, and the order in which lines are sent."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, Request
from qwen3_asr_mlx_runtime.protocol.replies import Counters, ErrorReply, Line, Reply, error_reply
from qwen3_asr_mlx_runtime.protocol.streams import Event, PartialResult, StreamError
from qwen3_asr_mlx_runtime.protocol.transcripts import BatchTranscript, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.session.local_agreement import agreement

REMEMBERED = 1024  # answered requests whose ids are still known

CancelState = Literal["cancelled", "cancelling", "already_done", "unknown"]


class PendingRequest:
    """One request. Only its first answer counts.

    `load_seconds`: of the load that this request caused. `subject`: the work that a `cancel` of this request ends.
    `sent`: its reply is in the output queue.
    """

    __slots__ = ("_queue", "_size", "_warnings", "answered", "id", "in_order", "load_seconds", "sent", "subject")

    def __init__(self, queue: "ReplyQueue", request: Request | Rejected, size: int = 0) -> None:
        self.id = request.id
        self.answered: Reply | None = None
        self.load_seconds = 0.0
        self.in_order = False  # its reply waits for those before it
        self.subject: object | None = None
        self.sent = False
        self._queue = queue
        self._size = size
        self._warnings = request.warnings if isinstance(request, Request) else ()

    def answer(self, reply: Reply) -> None:
        if self.answered is None:
            self.answered = reply
            self.subject = None
            self._queue.answered(self)

    def refuse(self, error: BridgeError, **data: int) -> None:
        """Answer with an error; `data` is added to the error's data."""
        reply = error_reply(error)
        reply.data |= data
        self.answer(reply)

    def warn(self, warning: str) -> None:
        """Add a warning to the reply."""
        self._warnings = (*self._warnings, warning)

    def outgoing(self) -> "Outgoing":
        """The reply in the envelope of the request."""
        if self.answered is None:
            raise ValueError("a request without an answer cannot be replied to")
        reply_warnings = () if self.answered.warnings is UNSET else self.answered.warnings
        warnings = [*self._warnings, *reply_warnings] if self._warnings else self.answered.warnings
        return Outgoing(msgspec.structs.replace(self.answered, id=self.id, warnings=warnings), self._size)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A line to write, or None; and how many bytes of input it frees."""

    line: Line | None
    size: int = 0


class ReplyQueue:
    """Lines to send, in order: replies to requests without an id in the order of the requests, other lines as they
    come. After all of them the latest partial of each stream, unless it is withdrawn first."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._in_order: deque[PendingRequest] = deque()
        self._with_id: dict[Id, PendingRequest] = {}
        self._done: OrderedDict[Id, None] = OrderedDict()
        self._lines: deque[Outgoing] = deque()
        self._sent: list[PendingRequest] = []
        self._last: PendingRequest | None = None
        self._partials: dict[str, PartialResult] = {}
        self._shown: dict[str, PartialResult] = {}  # the last one that was sent for the open utterance of each stream

    @property
    def pending(self) -> int:
        """The number of requests without an answer, and of lines not yet taken."""
        return self.unanswered + len(self._lines)

    @property
    def unanswered(self) -> int:
        return len(self._in_order) + len(self._with_id)

    @property
    def with_id(self) -> int:
        return len(self._with_id)

    @property
    def is_clear(self) -> bool:
        """Whether all lines were taken, so that the client reads."""
        return not self._lines

    def open(self, request: Request | Rejected, size: int = 0) -> PendingRequest:
        """Track a request whose id, if it has one, is not in flight."""
        pending = PendingRequest(self, request, size)
        if pending.id is UNSET or pending.id is None:
            pending.in_order = True
            self._in_order.append(pending)
        else:
            self._with_id[pending.id] = pending
        return pending

    def untracked(self, request: Request | Rejected, size: int = 0) -> PendingRequest:
        """A request that is answered at once and never in flight."""
        return PendingRequest(self, request, size)

    def open_last(self, request: Request, size: int = 0) -> PendingRequest:
        """A request that is answered last, and not counted as pending."""
        self._last = PendingRequest(self, request, size)
        return self._last

    def in_flight(self, identifier: Id | UnsetType | None) -> PendingRequest | None:
        if identifier is UNSET or identifier is None:
            return None
        if self._last is not None and self._last.id == identifier:
            return self._last
        return self._with_id.get(identifier)

    def was_answered(self, identifier: Id) -> bool:
        """Whether a request with this id was answered, among the last REMEMBERED."""
        return identifier in self._done

    def unanswered_requests(self) -> list[PendingRequest]:
        return [request for request in (*self._in_order, *self._with_id.values()) if request.answered is None]

    def answered(self, request: PendingRequest) -> None:
        if isinstance(request.answered, PartialResult):  # while its utterance is open
            self._note_change(request.answered)
        if request.in_order:
            while self._in_order and self._in_order[0].answered is not None:
                self._send(self._in_order.popleft())
            return
        if isinstance(request.id, str | int) and self._with_id.get(request.id) is request:
            del self._with_id[request.id]
            self._done[request.id] = None
            if len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
        self._send(request)

    def release(self, size: int) -> None:
        """Free the bytes of a request that gets no line."""
        self._lines.append(Outgoing(None, size))

    def send_event(self, event: Event | RealtimeBatchFinal | PartialResult) -> None:
        self.counters.events += 1
        event.event, event.n = True, self.counters.events
        self._count_errors(event)
        self._lines.append(Outgoing(event))

    def send_last(self, line: Line) -> None:
        """Send a line that answers no request and is no event."""
        self._lines.append(Outgoing(line))

    def take_sent(self) -> list[PendingRequest]:
        """Requests whose replies were sent since the last call."""
        sent, self._sent = self._sent, []
        return sent

    def take(self) -> Outgoing | None:
        """Take the next line, for a writer that has room."""
        return self._lines.popleft() if self._lines else None

    def set_partial(self, event: PartialResult) -> None:
        """Send this partial once all other lines are written. It replaces an unsent one of its stream."""
        self._partials[event.stream_id] = event

    def has_partial(self, stream_id: str) -> bool:
        return stream_id in self._partials

    def withdraw_partial(self, stream_id: str) -> None:
        """Do not send the partial of a stream whose utterance has ended."""
        self._partials.pop(stream_id, None)
        self._shown.pop(stream_id, None)

    def withdraw_partials(self) -> None:
        self._partials.clear()

    @property
    def has_partials(self) -> bool:
        return bool(self._partials)

    def take_partial(self) -> Outgoing | None:
        """Take the next partial, for a writer that has written all other lines."""
        if self._lines or not self._partials:
            return None
        partial = self._partials.pop(next(iter(self._partials)))
        self._note_change(partial)
        self.send_event(partial)
        return self.take()

    def _note_change(self, partial: PartialResult) -> None:
        """Say from where on the text differs from that of the last partial."""
        if partial.revision is UNSET:
            return
        before = self._shown.get(partial.stream_id)
        is_same = before is not None and before.utterance_id == partial.utterance_id
        partial.changed_from = agreement(before.text if before and is_same else "", partial.text)
        self._shown[partial.stream_id] = partial

    def _send(self, request: PendingRequest) -> None:
        outgoing = request.outgoing()
        if outgoing.line is not None:
            self._count_errors(outgoing.line)
        self._lines.append(outgoing)
        request.sent = True
        self._sent.append(request)

    def _count_errors(self, line: Line) -> None:
        codes: list[str] = []
        match line:
            case ErrorReply(code=code) | StreamError(code=code):
                codes = [code]
            case BatchTranscript(items=items):
                codes = [error.code for item in items if (error := getattr(item, "error", None))]
            case RealtimeBatchFinal(items=finals):
                codes = [final.error.code for final in finals if final.error is not UNSET]
        for code in codes:
            self.counters.errors[code] = self.counters.errors.get(code, 0) + 1
