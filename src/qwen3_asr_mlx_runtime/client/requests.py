"""What was asked and has no reply yet."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any
from weakref import WeakSet

from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM, Command, Id, StartStream
from qwen3_asr_mlx_runtime.protocol.replies import Line


class Requests:
    """Ids that are made here are never used twice in one process. Whoever holds it locks it, but for `answer`, which
    one thread alone calls."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[Id, Future[Line]] = {}
        self._starts: dict[str, WeakSet[Future[Line]]] = {}  # of each stream, since it was begun anew

    def __len__(self) -> int:
        return len(self._waiting)

    def name(self, own: object = None) -> Id:
        """The id of the next request. `own`: one that the app chose. Raises ValueError if it is in flight."""
        while own is None:
            self._count += 1
            own = None if (made := f"c{self._count}") in self._waiting else made
        if not isinstance(own, str | int):
            raise ValueError("expected a string or a whole number as the id of a request")
        if own in self._waiting:
            raise ValueError("a request with this id is in flight")
        return own

    def add(self, id: Id, message: Command | Mapping[str, Any]) -> "Future[Line]":
        """The reply to come, which cannot be cancelled: it comes, or the process ends."""
        reply = self._waiting[id] = Future[Line]()
        reply.set_running_or_notify_cancel()
        started = _started(message)
        if started is not None:
            self._note_start(*started, reply)
        return reply

    def is_owner(self, stream_id: str, reply: "Future[Line]") -> bool:
        """Whether `reply` is that of a `start_stream` behind which none began this stream anew."""
        return reply in self._starts.get(stream_id, ())

    def _note_start(self, stream_id: str, anew: bool, reply: "Future[Line]") -> None:
        self._starts = {name: replies for name, replies in self._starts.items() if replies}
        replies = WeakSet() if anew else self._starts.get(stream_id, WeakSet())
        replies.add(reply)
        self._starts[stream_id] = replies

    def answer(self, message: Line) -> bool:
        """Give the reply to whoever waits; False if it answers no request of ours."""
        id = getattr(message, "id", None)
        reply = self._waiting.pop(id, None) if isinstance(id, str | int) else None
        if reply is None:
            return False
        reply.set_result(message)
        return True

    def clear(self) -> "list[Future[Line]]":
        waiting, self._waiting = [*self._waiting.values()], {}
        return waiting


def _started(message: Command | Mapping[str, Any]) -> tuple[str, bool] | None:
    """The stream that a request begins, and whether anew."""
    if isinstance(message, StartStream):
        return message.stream_id, message.restart
    if isinstance(message, Mapping) and message.get("type") == StartStream.__struct_config__.tag:
        name = message.get("stream_id")
        return DEFAULT_STREAM if name is None else str(name), message.get("restart") is True
    return None
