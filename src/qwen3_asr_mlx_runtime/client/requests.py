"""Requests that have no reply yet."""

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any
from weakref import WeakSet

from qwen3_asr_mlx_runtime.protocol.commands import DEFAULT_STREAM, Command, Id, StartStream
from qwen3_asr_mlx_runtime.protocol.replies import Line


class Requests:
    """Generated ids are never used twice in one process, and with `resend` never at all. The caller holds a lock,
    except for `answer`, which only one thread calls."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[Id, Future[Line]] = {}
        self._starts: dict[str, WeakSet[Future[Line]]] = {}  # of each stream, since its last restart

    def __len__(self) -> int:
        return len(self._waiting)

    def name(self, id: object = None) -> Id:
        """The id of the next request: `id`, which the app chose, or a new one. Raises ValueError if it is in flight."""
        while id is None:
            self._count += 1
            id = None if (generated := f"c{self._count}") in self._waiting else generated
        if not isinstance(id, str | int):
            raise ValueError("expected a string or a whole number as the id of a request")
        if id in self._waiting:
            raise ValueError("a request with this id is in flight")
        return id

    def add(self, id: Id, message: Command | Mapping[str, Any]) -> "Future[Line]":
        """The future of the reply. It cannot be cancelled: the reply comes, or the process ends."""
        reply = self._waiting[id] = Future[Line]()
        reply.set_running_or_notify_cancel()
        started = _started(message)
        if started is not None:
            self._note_start(*started, reply)
        return reply

    def is_owner(self, stream_id: str, reply: "Future[Line]") -> bool:
        """Whether `reply` is that of a `start_stream` after which none restarted this stream."""
        return reply in self._starts.get(stream_id, ())

    def _note_start(self, stream_id: str, is_restart: bool, reply: "Future[Line]") -> None:
        self._starts = {name: replies for name, replies in self._starts.items() if replies}
        replies = WeakSet() if is_restart else self._starts.get(stream_id, WeakSet())
        replies.add(reply)
        self._starts[stream_id] = replies

    def answer(self, message: Line) -> bool:
        """Set the reply in its future; False if it answers no request of this client."""
        id = getattr(message, "id", None)
        reply = self._waiting.pop(id, None) if isinstance(id, str | int) else None
        if reply is None:
            return False
        reply.set_result(message)
        return True

    def forget(self, id: Id) -> None:
        """Its reply will not come. From any thread."""
        self._waiting.pop(id, None)

    def clear(self, keeps: Collection[object] = ()) -> "list[Future[Line]]":
        """Remove all but those with the ids `keeps`; return the removed."""
        cleared = [self._waiting.pop(id, None) for id in list(self._waiting) if id not in keeps]
        return [reply for reply in cleared if reply is not None]


def _started(message: Command | Mapping[str, Any]) -> tuple[str, bool] | None:
    """The stream that a request starts, and whether it restarts it."""
    if isinstance(message, StartStream):
        return message.stream_id, message.restart
    if isinstance(message, Mapping) and message.get("type") == StartStream.__struct_config__.tag:
        name = message.get("stream_id")
        return DEFAULT_STREAM if name is None else str(name), message.get("restart") is True
    return None
