"""How a task waits for what happens on a thread."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from qwen3_asr_mlx_runtime.client.events import EventQueue

T = TypeVar("T")


async def change(queue: EventQueue) -> None:
    """Until there is an event, or the end."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        _call(loop, changed.set)

    queue.call_when_changed(wake)
    try:
        await changed.wait()
    finally:
        queue.forget(wake)


def on_thread(call: Callable[[], T], client: object) -> "Future[T]":
    """On one of its own: those of the loop's executor may all be waiting for this, and are waited for at its end.
    Holds `client` until then."""
    result: Future[T] = Future()

    def run(_client: object) -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 whoever waits raises it
            result.set_exception(error)

    result.set_running_or_notify_cancel()  # a task that is cancelled leaves it to its end
    threading.Thread(target=run, args=(client,), name="qwen3-asr-bridge-wait", daemon=True).start()
    return result


def _call(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(call)
