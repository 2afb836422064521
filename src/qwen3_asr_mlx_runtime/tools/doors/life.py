"""A door's life: from its socket to the signal, or the end of its parent, that ends it."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit, ParentWatch

GRACE_SECONDS = 10  # for the requests that are open when it is to end
_PARENT_SECONDS = 1.0  # between two looks at the parent
_CODES = {signal.SIGINT: int(Exit.INTERRUPTED), signal.SIGTERM: int(Exit.TERMINATED), signal.SIGHUP: 129}


class Life:
    """What ends a door. `code`: the exit code, once something has. The first signal lets open requests end, for a
    while; the second ends them."""

    def __init__(self, task: "asyncio.Task[object] | None") -> None:
        self.code: int | None = None
        self._task = task
        self._on_end: Callable[[bool], None] | None = None

    def begins(self, on_end: Callable[[bool], None]) -> None:
        """From now on `on_end` is called instead of cancelling the task: with False, and once more with True, which
        ends what is still open."""
        self._on_end = on_end

    @contextmanager
    def signals(self) -> Iterator[None]:
        """One that was ignored when the process started stays so, as under nohup."""
        loop = asyncio.get_running_loop()
        numbers = [number for number in _CODES if signal.getsignal(number) is not signal.SIG_IGN]
        for number in numbers:
            loop.add_signal_handler(number, self._end, _CODES[number])
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def watch(self, parent_pid: int | None) -> None:
        if parent_pid is None:
            return
        parent = ParentWatch(parent_pid)
        while not parent.is_gone():
            await asyncio.sleep(_PARENT_SECONDS)
        self._end(Exit.PARENT_GONE)

    def _end(self, code: int) -> None:
        is_second, self.code = self.code is not None, self.code or code
        if self._on_end is not None:
            self._on_end(is_second)
        elif self._task is not None:
            self._task.cancel()


async def lived(serve: Callable[[Life], Awaitable[None]], parent_pid: int | None) -> int:
    """Serve until it returns, or until something ends it; the exit code. Raises what `serve` raises."""
    life = Life(asyncio.current_task())
    logging.getLogger().addHandler(logging.NullHandler())  # messages of libraries may quote anything
    with life.signals():
        watching = asyncio.create_task(life.watch(parent_pid))
        try:
            await serve(life)
        except asyncio.CancelledError:
            if life.code is None:
                raise
        finally:
            watching.cancel()
    return life.code or 0


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Raises OSError, with the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)  # without the protocol, asyncio leaves Nagle's delay on
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        is_of_resolver = isinstance(error, socket.gaierror)
        reason = error.strerror if is_of_resolver else os.strerror(error.errno or 0)
        raise OSError(error.errno, reason, f"{host}:{port}") from None
    with listener:
        yield listener


def address_of(listener: socket.socket) -> str:
    """`host:port`, as in a URI."""
    host, port = listener.getsockname()[:2]
    return f"{f'[{host}]' if ':' in host else host}:{port}"
