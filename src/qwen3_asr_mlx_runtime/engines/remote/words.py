"""Times of words beside a remote engine: a worker process that holds only the aligner."""

import threading

from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Append,
    Cancel,
    EngineEnded,
    Failed,
    Load,
    LoadAligner,
    LoadFailed,
    Outcome,
    Post,
)
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.engines.worker import WorkerEngine
from qwen3_asr_mlx_runtime.errors import BridgeError, EngineCrashed
from qwen3_asr_mlx_runtime.settings import Settings


class Words:
    """Called on one thread, as WorkerEngine is. Each Align gets one outcome, unless `kill` or `close` comes first."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        self._lock = threading.Lock()
        self._open: set[int] = set()  # Aligns
        self._has_failed = False  # to load: the process is there, and takes no Align
        self._worker = WorkerEngine(settings, self._take)

    @property
    def heartbeats(self) -> int:
        return self._worker.heartbeats

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    @property
    def load_stage(self) -> str | None:
        return self._worker.load_stage

    @property
    def memory(self) -> Memory | None:
        return self._worker.memory

    @property
    def pid(self) -> int | None:
        return self._worker.pid

    def align(self, request: Align, samples: Samples) -> None:
        with self._lock:
            self._open.add(request.id)
        self._start()
        self._worker.send(Append(request.audio_id, samples))
        self._worker.send(request)

    def load(self) -> None:
        self._start()
        self._worker.send(LoadAligner())

    def cancel(self, request: Cancel) -> None:
        self._worker.send(request)

    def kill(self) -> None:
        """End the process; its Aligns get no outcome. The next one gets another process, however long this one takes to
        end."""
        with self._lock:
            self._open.clear()
        self._worker.close()
        self._worker = WorkerEngine(self._settings, self._take)

    def close(self) -> None:
        self._worker.close()

    def join(self, timeout: float) -> bool:
        return self._worker.join(timeout)

    def _start(self) -> None:
        if self._worker.pid is None or self._has_failed:
            self._has_failed = False
            self._worker.send(Load())

    def _take(self, outcome: Outcome) -> None:
        """On the thread of the worker's channel."""
        match outcome:
            case Aligned() | Failed():
                if self._ends(outcome.job_id):
                    self._post(outcome)
            case LoadFailed(error):
                self._has_failed = True
                self._fail_all(error)
            case EngineEnded(reason):
                self._fail_all(EngineCrashed(f"the aligner's process has ended: {reason}"))

    def _ends(self, job_id: int) -> bool:
        with self._lock:
            is_open = job_id in self._open
            self._open.discard(job_id)
        return is_open

    def _fail_all(self, error: BridgeError) -> None:
        with self._lock:
            failed, self._open = self._open, set()
        for job_id in failed:
            self._post(Failed(job_id, error))
