"""The worker's decoder loop on a thread of this process, for tests that put something else in the model's place."""

import queue
import threading
from collections.abc import Callable

from qwen3_asr_mlx_runtime.engine.loop import EngineEnds, EngineLoop
from qwen3_asr_mlx_runtime.engines.api import Request
from qwen3_asr_mlx_runtime.engines.channel import Beat
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.settings import Settings


class _Close(Exception):
    pass


class _Loop(EngineLoop):
    def _take(self, request: object) -> None:
        if isinstance(request, _Close):
            raise request
        super()._take(request)


class LoopEngine:
    """An `Engine`. `ended` holds the reason once the loop has ended itself."""

    heartbeats = 0
    load_stage = None
    pid = None

    def __init__(self, settings: Settings, post: Callable[[object], None]) -> None:
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.ended: queue.SimpleQueue = queue.SimpleQueue()
        self.memory: Memory | None = None
        self._post = post
        loop = _Loop(settings, self._inbox, self._receive)
        self._thread = threading.Thread(target=self._run, args=(loop,), name="engine", daemon=True)
        self._thread.start()

    def send(self, request: Request) -> None:
        self._inbox.put(request)

    def kill(self, reason: str) -> None:
        raise AssertionError(f"{reason}: a thread cannot be killed")

    def close(self) -> None:
        self._inbox.put(_Close())

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _receive(self, message: object) -> None:
        if isinstance(message, Beat):
            self.memory = message.memory
        else:
            self._post(message)

    def _run(self, loop: EngineLoop) -> None:
        try:
            loop.run()
        except EngineEnds as end:
            self.ended.put(end.reason)
        except _Close:
            pass
