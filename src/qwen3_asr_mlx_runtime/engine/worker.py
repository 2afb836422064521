"""The worker: the process that owns MLX and the model. Its main thread is the decoder loop.

It ends with the bridge: at the end of a pipe that the bridge holds, watched by a thread of its own, and on Linux also
by the signal that the kernel sends when the bridge's main thread ends. Signals of the process group are the bridge's.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
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
_PR_SET_PDEATHSIG = 1


def main(channel: int, life: int) -> NoReturn:
    """`channel`: the socket to the bridge. `life`: a pipe of which the bridge holds the other end."""
    _end_with_bridge(life)
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


def _end_with_bridge(life: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(life,), name="life", daemon=True).start()


def _watch(life: int) -> None:
    os.read(life, 1)
    os._exit(0)


def _read(stream: socket.socket, inbox: queue.Queue[Any]) -> None:
    messages = to_worker()
    try:
        while data := stream.recv(READ_BYTES):
            for message in messages.feed(data):
                inbox.put(message)
    except (OSError, CorruptFrame):
        os._exit(1)
    os._exit(0)
