"""Requests that wait for the model alone: `start` and `start_stream`."""

from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import Loaded
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply, Ready, Reply, error_reply
from qwen3_asr_mlx_runtime.session.model_state import Loading
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, Ticket


@dataclass(slots=True, eq=False)
class _Waiting:
    """`undo` takes back what the request did, and tells how many samples that dropped."""

    ticket: Ticket
    reply: Callable[[Loaded], Reply]
    undo: Callable[[], int]


class Starting:
    """Answers these requests when the model is loaded, or with what kept it from being loaded."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading
        self._waiting: list[_Waiting] = []

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def add(self, ticket: Ticket, reply: Callable[[Loaded], Reply], undo: Callable[[], int] = int) -> None:
        if self._loading.model is not None:
            ticket.answer(reply(self._loading.model))
            return
        waiting = _Waiting(ticket, reply, undo)
        self._waiting.append(waiting)
        ticket.on_cancel = lambda: self._cancel(waiting)
        self._loading.need(ticket)

    def loaded(self, model: Loaded) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.ticket.answer(one.reply(model))

    def failed(self, error: BridgeError) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.ticket.answer(_failure(error, one.undo()))

    def _cancel(self, waiting: _Waiting) -> CancelState:
        """The load goes on: others may wait for it."""
        self._waiting.remove(waiting)
        waiting.ticket.answer(_failure(Cancelled("cancelled before the model was loaded"), waiting.undo()))
        return "cancelled"


def _failure(error: BridgeError, dropped_samples: int) -> ErrorReply:
    reply = error_reply(error)
    if dropped_samples:
        reply.data["dropped_samples"] = dropped_samples
    return reply


def ready(model: Loaded) -> Ready:
    return Ready(
        model=model.model,
        model_dir=model.model_dir,
        load_seconds=model.load_seconds,
        load_profile=model.load_profile,
    )
