"""The reader of a connection: it knows when the client has gone, and refuses an event that is too large."""

import asyncio
from collections.abc import Callable

from wyoming.event import Event, async_read_event

from qwen3_asr_mlx_runtime.errors import InvalidJson, LimitExceeded

MAX_HEADER_BYTES = 1 << 18  # holds the longest `context`, also in JSON's escapes
MAX_DATA_BYTES = 8 << 20  # of `data` or of PCM: over four minutes at 16 kHz


def _nothing() -> None:
    pass


class Reader(asyncio.StreamReader):
    """`on_end` is called once: at the end of input, or when the connection is lost."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_HEADER_BYTES)
        self.on_end: Callable[[], object] = _nothing
        self.has_ended = False  # all that will come is in the buffer
        self._has_read_all = False

    def feed_eof(self) -> None:
        super().feed_eof()
        self._end()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end()

    def _end(self) -> None:
        self.has_ended = True
        on_end, self.on_end = self.on_end, _nothing
        on_end()

    async def readline(self) -> bytes:
        line = await super().readline()
        self._has_read_all = not line
        return line

    async def readexactly(self, n: int) -> bytes:
        if n > MAX_DATA_BYTES:
            raise LimitExceeded(f"expected at most {MAX_DATA_BYTES} bytes of data or payload, got {n}")
        return await super().readexactly(n)

    async def event(self) -> Event | None:
        """The next one; None at the end of input. Raises InvalidJson, LimitExceeded, or OSError where the connection is
        lost."""
        try:
            event = await async_read_event(self)
        except asyncio.IncompleteReadError:  # the client went away in the middle of an event
            return None
        except (AttributeError, KeyError, RecursionError, TypeError):  # JSON, and no event
            event = None
        if event is None and not self._has_read_all:
            raise InvalidJson(f"expected an event: a line of JSON of at most {MAX_HEADER_BYTES} bytes, with its `type`")
        return event
