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

    def add(self, own: Id | None = None) -> "tuple[Id, Future[Line]]":
        """`own`: an id that the app chose. Raises ValueError if it is in flight."""
        self._count += own is None
        id: Id = f"c{self._count}" if own is None else own
        if id in self._waiting:
            raise ValueError("a request with this id is in flight")
        reply = Future[Line]()
        self._waiting[id] = reply
        return id, reply

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
