"""What was asked and has no reply yet."""

import contextlib
from concurrent.futures import Future, InvalidStateError

from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Line


class Requests:
    """Ids that are made here are never used twice in one process. Whoever holds it locks it, but for `answer`, which
    one thread alone calls."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[Id, Future[Line]] = {}

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

    def add(self, id: Id) -> "Future[Line]":
        reply = self._waiting[id] = Future[Line]()
        return reply

    def answer(self, message: Line) -> bool:
        """Give the reply to whoever waits; False if it answers no request of ours."""
        id = getattr(message, "id", None)
        reply = self._waiting.pop(id, None) if isinstance(id, str | int) else None
        if reply is None:
            return False
        with contextlib.suppress(InvalidStateError):  # nobody waits any more
            reply.set_result(message)
        return True

    def clear(self) -> "list[Future[Line]]":
        waiting, self._waiting = [*self._waiting.values()], {}
        return waiting
