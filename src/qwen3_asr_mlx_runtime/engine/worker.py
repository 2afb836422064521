"""The worker: the process that owns MLX and the model. Its main thread is the decoder loop.

It ends with the bridge: the program in engines/worker that calls `main` sees to that before its first import.
"""

import contextlib
import os
import queue
import socket
import threading
from typing import Any, NoReturn

from qwen3_asr_mlx_runtime import process_memory
from qwen3_asr_mlx_runtime.diagnostics import diagnose, install_hooks, raised_at
from qwen3_asr_mlx_runtime.engine.loop import EngineEnds, EngineLoop, import_recognizer
from qwen3_asr_mlx_runtime.engines.channel import (
    READ_BYTES,
    Configure,
    CorruptFrame,
    Ending,
    ToBridge,
    encode,
    to_worker,
)

INBOX_FRAMES = 32  # with the frames in the socket all that is held before the loop takes it


def main(channel: int) -> NoReturn:
    """`channel`: the socket to the bridge."""
    process_memory.keep_little()
    install_hooks(lambda _: os._exit(1))
    stream = socket.socket(fileno=channel)
    stream.setblocking(True)
    inbox: queue.Queue[Any] = queue.Queue(INBOX_FRAMES)
    threading.Thread(target=_read, args=(stream, inbox), name="channel", daemon=True).start()
    configure = inbox.get()
    if not isinstance(configure, Configure):
        os._exit(1)

    def post(message: ToBridge) -> None:
        try:
            stream.sendall(encode(message))
        except OSError:  # the bridge is gone
            os._exit(0)

    try:
        with contextlib.suppress(Exception):  # it fails again in the load, which reports it
            import_recognizer()
        EngineLoop(configure.settings, inbox, post).run()
    except EngineEnds as end:
        post(Ending(end.reason))
        os._exit(1)
    except BaseException as error:  # noqa: BLE001 a bug: its message may quote anything, so only its place is logged
        diagnose(raised_at(type(error), error.__traceback__))
        os._exit(1)


def _read(stream: socket.socket, inbox: queue.Queue[Any]) -> None:
    messages = to_worker()
    try:
        while data := stream.recv(READ_BYTES):
            for message in messages.feed(data):
                inbox.put(message)
    except (OSError, CorruptFrame):
        os._exit(1)
    os._exit(0)
