"""How a conversation ends: nothing new is taken, what was accepted is finished or named, and one line is the last."""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.protocol.transcripts import Stopped, Unfinished
from qwen3_asr_mlx_runtime.session.batches import Batches
from qwen3_asr_mlx_runtime.session.finals import final_result, finals
from qwen3_asr_mlx_runtime.session.reply_queue import Outbox, Ticket
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.spoken import Reason
from qwen3_asr_mlx_runtime.session.starting import Starting
from qwen3_asr_mlx_runtime.session.stream_registry import Intake

END_OF_INPUT: Reason = "end_of_input"


class Ending:
    """`reason` is None as long as the conversation goes on. The first reason stands, unless a harder one comes."""

    def __init__(
        self,
        outbox: Outbox,
        work: Work,
        starting: Starting,
        batches: Batches,
        intake: Intake,
        clock: Callable[[], float],
    ) -> None:
        self.reason: str | None = None
        self.deadline: float | None = None  # when what is unfinished is no longer waited for
        self._outbox = outbox
        self._work = work
        self._starting = starting
        self._batches = batches
        self._intake = intake
        self._clock = clock
        self._ticket: Ticket | None = None
        self._unfinished_ids: list[tuple[Id, str]] = []

    @property
    def is_on(self) -> bool:
        return self.reason is not None

    def drain(self, reason: str, *, as_events: bool, ticket: Ticket | None = None) -> None:
        """Finish all that was accepted. `ticket`: the request that the last line answers."""
        if self.is_on:
            return
        self.reason = reason
        self._ticket = ticket
        self._intake.partials.close()
        waiting = [*self._batches.batcher]
        self._batches.close_events([one for one in waiting if as_events or one.stream.auto_flush], "flush")
        self._batches.tasks.decode_ahead([*self._batches.batcher])

    def end_after(self, milliseconds: int) -> None:
        self.deadline = self._clock() + milliseconds / 1000

    def abort(self, reason: str, error: BridgeError, *, as_events: bool) -> None:
        """End all that is unfinished with this error."""
        self.drain(reason, as_events=as_events)
        self.reason = reason
        self.deadline = None
        open_tickets = self._outbox.open_tickets()
        self._batches.end = error
        self._starting.failed(error)
        self._work.give_up_all(error)
        for ticket in open_tickets:
            if ticket.answered is None:
                ticket.refuse(error)
            if isinstance(ticket.id, str | int) and _is_error(ticket, error):
                self._unfinished_ids.append((ticket.id, error.code))

    def last_line(self, *, as_events: bool) -> None:
        """Say what is left to say, once nothing is pending.

        At the end of input alone a client that asked for no events is told no more, unless speech would vanish.
        """
        left, dropped = self._batches.take_left(), self._intake.buffered_samples
        if self.reason == END_OF_INPUT and not as_events:
            if left or dropped:
                line = finals(left, END_OF_INPUT, 0.0)
                line.dropped_samples = dropped
                self._outbox.last(line)
            return
        utterances = [
            Unfinished(stream_id=one.stream_id, utterance_id=one.utterance_id, code=error.code)
            for one, error in self._batches.unfinished
        ]
        requests = [Unfinished(id=identifier, code=code) for identifier, code in self._unfinished_ids]
        stopped = Stopped(
            reason=self.reason or END_OF_INPUT,
            completed=self._work.transcripts,
            unfinished=[*utterances, *requests],
            dropped_samples=dropped,
            items=[final_result(one) for one in left],
        )
        if self._ticket is not None:
            self._ticket.answer(stopped)
        else:
            self._outbox.last(stopped)


def _is_error(ticket: Ticket, error: BridgeError) -> bool:
    return isinstance(ticket.answered, ErrorReply) and ticket.answered.code == error.code
