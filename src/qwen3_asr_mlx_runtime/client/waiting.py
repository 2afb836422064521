"""Lets a task wait for what happens on a thread."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from qwen3_asr_mlx_runtime.client.events import EventQueue

T = TypeVar("T")


async def change(queue: EventQueue) -> None:
    """Wait until there is an event, or the end."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        _call(loop, changed.set)

    queue.call_when_changed(wake)
    try:
        await changed.wait()
    finally:
        queue.forget(wake)


def on_thread(call: Callable[[], T], client: object) -> "Future[T]":
    """Run `call` on a new thread. The loop's executor will not do: all its threads may wait for this one, and the loop
    waits for them at its end. Keeps `client` alive until then."""
    result: Future[T] = Future()

    def run(_client: object) -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 raised where the result is awaited
            result.set_exception(error)

    result.set_running_or_notify_cancel()  # a cancelled task lets the call run to its end
    threading.Thread(target=run, args=(client,), name="qwen3-asr-bridge-wait", daemon=True).start()
    return result


def _call(loop: asyncio.AbstractEventLoop, call: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits
        loop.call_soon_threadsafe(call)
