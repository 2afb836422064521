"""One WebSocket of a realtime session: reads no faster than the bridge takes audio, and than the client reads."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from qwen3_asr_mlx_runtime.tools.serve.realtime_session import RealtimeSession

SUBPROTOCOL = "realtime"
INBOX_BYTES = 4 << 20  # half a minute at 48 kHz, so that a client that goes away is seen while the model loads
OUTBOX_BYTES = 1 << 18
_OVERHEAD = 100  # bytes of a text besides its characters
_GOING_AWAY, _INTERNAL_ERROR = 1001, 1011


class TextQueue:
    """Texts in their order; None is the end. `put` never waits; `room` does, while they hold `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._texts = asyncio.Queue[str | None]()
        self._limit, self._size = limit, 0
        self._room = asyncio.Event()
        self._room.set()

    def put(self, text: str | None) -> None:
        self._texts.put_nowait(text)
        self._add(_size(text))

    async def get(self) -> str | None:
        text = await self._texts.get()
        self._add(-_size(text))
        return text

    async def room(self) -> None:
        await self._room.wait()

    def _add(self, size: int) -> None:
        self._size += size
        if self._size < self._limit:
            self._room.set()
        else:
            self._room.clear()


class Connection:
    """`session` makes a session that sends by the function that it gets."""

    def __init__(self, websocket: WebSocket, session: Callable[[Callable[[str], None]], RealtimeSession]) -> None:
        self._websocket = websocket
        self._inbox, self._outbox = TextQueue(INBOX_BYTES), TextQueue(OUTBOX_BYTES)
        self._session = session(self._outbox.put)

    async def run(self) -> None:
        """Until the client goes away, or `end` and all that was committed is answered."""
        offered = self._websocket.scope["subprotocols"]
        await self._websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self._session.begin()
        receiving, answering, writing = map(asyncio.create_task, (self._receive(), self._answer(), self._write()))
        try:
            await asyncio.wait({receiving, answering, writing}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
                await asyncio.wait({receiving, writing}, return_when=asyncio.FIRST_COMPLETED)
        except Exception:
            await self._close(_INTERNAL_ERROR)
            raise
        except asyncio.CancelledError:
            await self._close(_GOING_AWAY)
            raise
        finally:
            for task in (receiving, answering, writing):
                task.cancel()
            await asyncio.gather(receiving, answering, writing, return_exceptions=True)
            self._session.close()

    def end(self) -> None:
        """Take no more events; the socket is closed once all is answered."""
        self._inbox.put(None)

    async def _receive(self) -> None:
        """Until the client has gone."""
        while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
            self._inbox.put(message.get("text") or "")  # nothing but text holds an event
            await self._inbox.room()

    async def _answer(self) -> None:
        while (text := await self._inbox.get()) is not None:
            await self._outbox.room()
            await self._session.take(text)
            await asyncio.sleep(0)  # the inbox may be full, and nothing of this gives another task a turn
        await self._session.settle()
        self._outbox.put(None)

    async def _write(self) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):  # it is closed
            while (text := await self._outbox.get()) is not None:
                await self._websocket.send_text(text)
            await self._websocket.close(_GOING_AWAY)

    async def _close(self, code: int) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code)


def _size(text: str | None) -> int:
    return len(text or "") + _OVERHEAD
