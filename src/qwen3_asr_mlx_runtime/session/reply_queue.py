"""Requests on their way to their one reply, and the order in which lines leave."""

from collections import OrderedDict, deque
from collections.abc import Callable
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

REMEMBERED = 1024  # answered requests whose ids are still known

CancelState = Literal["cancelled", "cancelling", "already_done", "unknown"]


class Ticket:
    """One request. The first answer stands; `load_seconds` is of the load that this request caused."""

    __slots__ = (
        *("_has_left", "_on_leave", "_outbox", "_size", "_warnings"),
        *("answered", "has_turn", "id", "load_seconds", "on_cancel"),
    )

    def __init__(self, outbox: "Outbox", request: Request | Rejected, size: int = 0) -> None:
        self.id = request.id
        self.answered: Reply | None = None
        self.load_seconds = 0.0
        self.has_turn = False  # it waits until those before it are answered
        self.on_cancel: Callable[[], CancelState] | None = None
        self._has_left = False
        self._on_leave: Callable[[], None] | None = None
        self._outbox = outbox
        self._size = size
        self._warnings = request.warnings if isinstance(request, Request) else ()

    def answer(self, reply: Reply) -> None:
        if self.answered is None:
            self.answered = reply
            self.on_cancel = None
            self._outbox.answered(self)

    def refuse(self, error: BridgeError, **data: int) -> None:
        """Answer with an error; `data` is told besides the error's own."""
        reply = error_reply(error)
        reply.data |= data
        self.answer(reply)

    def when_it_left(self, call: Callable[[], None]) -> None:
        """Have this called when the reply can be overtaken no more, which may be so already."""
        self._on_leave = call
        if self._has_left:
            call()

    def leave(self) -> None:
        self._has_left = True
        if self._on_leave is not None:
            self._on_leave()

    def warn(self, warning: str) -> None:
        """Say this in the reply, besides what the answer says."""
        self._warnings = (*self._warnings, warning)

    def outgoing(self) -> "Outgoing":
        """The reply in the envelope of the request."""
        if self.answered is None:
            raise ValueError("a request without an answer cannot be replied to")
        said = () if self.answered.warnings is UNSET else self.answered.warnings
        warnings = [*self._warnings, *said] if self._warnings else self.answered.warnings
        return Outgoing(msgspec.structs.replace(self.answered, id=self.id, warnings=warnings), self._size)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A line to write, or None; and how many bytes of input it lets go of."""

    line: Line | None
    size: int = 0


class Outbox:
    """Lines that may leave, in their order: replies to requests without an id in the order of these, all others as
    they come; and after all of them one partial text of each stream, unless it is withdrawn before."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._in_order: deque[Ticket] = deque()
        self._with_id: dict[Id, Ticket] = {}
        self._done: OrderedDict[Id, None] = OrderedDict()
        self._ready: deque[Outgoing] = deque()
        self._last: Ticket | None = None
        self._partials: dict[str, PartialResult] = {}

    @property
    def pending(self) -> int:
        """Requests without an answer, and lines that nobody has taken."""
        return self.unanswered + len(self._ready)

    @property
    def unanswered(self) -> int:
        return len(self._in_order) + len(self._with_id)

    @property
    def with_id(self) -> int:
        return len(self._with_id)

    @property
    def is_clear(self) -> bool:
        """Whether all lines were taken: somebody reads them."""
        return not self._ready

    def open(self, request: Request | Rejected, size: int = 0) -> Ticket:
        """A ticket for a request whose id, if it has one, is not in flight."""
        ticket = Ticket(self, request, size)
        if ticket.id is UNSET or ticket.id is None:
            ticket.has_turn = True
            self._in_order.append(ticket)
        else:
            self._with_id[ticket.id] = ticket
        return ticket

    def apart(self, request: Request | Rejected, size: int = 0) -> Ticket:
        """A ticket that is not in flight: answered at once."""
        return Ticket(self, request, size)

    def open_last(self, request: Request, size: int = 0) -> Ticket:
        """A ticket that is answered last, and is not waited for."""
        self._last = Ticket(self, request, size)
        return self._last

    def in_flight(self, identifier: Id | UnsetType | None) -> Ticket | None:
        if identifier is UNSET or identifier is None:
            return None
        if self._last is not None and self._last.id == identifier:
            return self._last
        return self._with_id.get(identifier)

    def was_answered(self, identifier: Id) -> bool:
        """Whether a request of this id was answered, as far as is remembered."""
        return identifier in self._done

    def open_tickets(self) -> list[Ticket]:
        return [ticket for ticket in (*self._in_order, *self._with_id.values()) if ticket.answered is None]

    def answered(self, ticket: Ticket) -> None:
        if ticket.has_turn:
            while self._in_order and self._in_order[0].answered is not None:
                self._leave(self._in_order.popleft())
            return
        if isinstance(ticket.id, str | int) and self._with_id.get(ticket.id) is ticket:
            del self._with_id[ticket.id]
            self._done[ticket.id] = None
            if len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
        self._leave(ticket)

    def release(self, size: int) -> None:
        """A request that gets no line lets go of its bytes."""
        self._ready.append(Outgoing(None, size))

    def tell(self, event: Event | RealtimeBatchFinal | PartialResult) -> None:
        """Say something that answers no request."""
        self.counters.events += 1
        event.event, event.n = True, self.counters.events
        self._count_errors(event)
        self._ready.append(Outgoing(event))

    def take(self) -> Outgoing | None:
        """The next line, for somebody who can write it now."""
        return self._ready.popleft() if self._ready else None

    def tell_partial(self, event: PartialResult) -> None:
        """Say this of its stream, in the place of what was to be said of it and has not left."""
        self._partials[event.stream_id] = event

    def has_partial(self, stream_id: str) -> bool:
        return stream_id in self._partials

    def withdraw_partial(self, stream_id: str) -> None:
        """It is true no more: do not say it, if it has not left."""
        self._partials.pop(stream_id, None)

    def withdraw_partials(self) -> None:
        self._partials.clear()

    @property
    def has_partials(self) -> bool:
        return bool(self._partials)

    def take_partial(self) -> Outgoing | None:
        """The next partial text, for somebody who has written all lines before it."""
        if self._ready or not self._partials:
            return None
        event = self._partials.pop(next(iter(self._partials)))
        self.tell(event)
        return self.take()

    def last(self, line: Line) -> None:
        """A line that answers no request and is no event."""
        self._ready.append(Outgoing(line))

    def _leave(self, ticket: Ticket) -> None:
        outgoing = ticket.outgoing()
        if outgoing.line is not None:
            self._count_errors(outgoing.line)
        self._ready.append(outgoing)
        ticket.leave()

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
