"""The engine on a thread of its own: MLX is imported, loaded, run and released there, and nowhere else.

One decoder step at a time: between two steps the thread looks at its inbox, so a cancel ends a job at its next step.
"""

import queue
import threading
from typing import TYPE_CHECKING, NamedTuple

from qwen3_asr_mlx_runtime.engines.api import (
    Append,
    Cancel,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    Loaded,
    LoadFailed,
    Partial,
    PartialDone,
    Post,
    Request,
)
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    Cancelled,
    EngineUnavailable,
    ModelError,
    ModelNotFound,
    NonFiniteOutput,
)
from qwen3_asr_mlx_runtime.packages import missing
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.shortage import named_shortage

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
    from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler

_MAX_NON_FINITE = 3
_IDLE_SECONDS = 10.0  # without a request: then memory that is kept for the next is given back


class _Close(NamedTuple):
    pass


class EngineThread:
    """An `Engine` over a Recognizer."""

    def __init__(self, settings: Settings, post: Post) -> None:
        self._settings = settings
        self._post = post
        self._inbox: queue.SimpleQueue[Request | _Close] = queue.SimpleQueue()
        self._schedule: EngineScheduler | None = None
        self._loaded: Loaded | None = None
        self._appended: list[Append | Forget | Cancel] = []  # while there is no model
        self._heartbeats = 0
        self._is_loading = False
        self._non_finite_in_a_row = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def heartbeats(self) -> int:
        return self._heartbeats

    @property
    def is_loading(self) -> bool:
        return self._is_loading

    def send(self, request: Request) -> None:
        self._inbox.put(request)

    def close(self) -> None:
        self._inbox.put(_Close())

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            request = self._next_request()
            if isinstance(request, _Close):
                self._cancel_all()
                return
            if request is not None:
                self._take(request)
            else:
                self._step()

    def _next_request(self) -> Request | _Close | None:
        """The next request; None where there is none and work to do instead."""
        schedule = self._schedule
        if schedule is not None and schedule.is_busy:
            return None if self._inbox.empty() else self._inbox.get()
        try:
            return self._inbox.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            if schedule is not None:
                schedule.idle()
            return self._inbox.get()

    def _take(self, request: Request) -> None:
        match request:
            case Load():
                self._load()
            case Partial() | Finalize():
                self._submit(request)
            case _ if self._schedule is None:
                self._appended.append(request)  # for the next model: a load again has failed
            case Append():
                self._schedule.append(request)
            case Forget(audio_id):
                self._post_any(self._schedule.forget(audio_id))
            case Cancel(job_id):
                self._post_any(self._schedule.cancel(job_id))

    def _load(self) -> None:
        try:
            if self._loaded is None:
                self._loaded = self._load_model()
            self._post(self._loaded)
        except BridgeError as error:
            self._post(LoadFailed(error))
        except OSError as error:
            reason = type(error).__name__
            self._post(LoadFailed(ModelNotFound("the model's files cannot be read", reason=reason)))
        except ImportError as error:
            self._post(LoadFailed(EngineUnavailable(missing(error))))
        except Exception as error:  # noqa: BLE001 the one boundary of loading: whatever a checkpoint provokes becomes a code
            self._post(LoadFailed(ModelError(f"the model could not be loaded: {type(error).__name__}")))

    def _load_model(self) -> Loaded:
        self._is_loading = True
        try:
            with named_shortage():
                recognizer = self._recognizer()
        finally:
            self._is_loading = False
        self._schedule = recognizer.schedule()
        profile = recognizer.load_profile
        return Loaded(self._settings.model, recognizer.model_dir, profile["total_seconds"], profile)

    def _recognizer(self) -> "Recognizer":
        from qwen3_asr_mlx_runtime.model.device import check_device

        check_device()  # before the imports that need one
        from qwen3_asr_mlx_runtime.engine.memory import MemoryLimits
        from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer

        settings = self._settings
        return Recognizer.load(
            settings.model,
            cache_dir=settings.cache_dir,
            dtype=settings.dtype,
            quantize=settings.quantize,
            force_4bit_tower=settings.force_4bit_tower,
            local_files_only=settings.local_files_only,
            max_segment_seconds=settings.segment_seconds,
            verify=settings.verify,
            state_dir=settings.state_dir,
            stall_seconds=settings.stall_seconds,
            limits=MemoryLimits(settings.memory_limit_bytes, settings.cache_limit_bytes, settings.wired_limit_bytes),
            on_progress=self._post,
        )

    def _step(self) -> None:
        """One decoder step."""
        self._heartbeats += 1
        if self._schedule is not None:
            for outcome in self._schedule.step():
                self._count(outcome)
                self._post(outcome)

    def _submit(self, request: Partial | Finalize) -> None:
        try:
            schedule = self._schedule if isinstance(request, Partial) else self._sound_schedule()
        except BridgeError as error:
            self._post(Failed(request.id, error))
            return
        except Exception as error:  # noqa: BLE001 whatever loading provokes: this job has no model
            self._post(Failed(request.id, EngineUnavailable(f"the model could not be loaded: {type(error).__name__}")))
            return
        if schedule is None:
            self._post(Failed(request.id, EngineUnavailable("no model is loaded")))
        elif isinstance(request, Partial):
            schedule.partial(request)
        else:
            schedule.finalize(request)

    def _count(self, outcome: Finished | PartialDone | Failed) -> None:
        if isinstance(outcome, Failed) and isinstance(outcome.error, Cancelled):
            return
        non_finite = isinstance(outcome, Failed) and isinstance(outcome.error, NonFiniteOutput)
        self._non_finite_in_a_row = self._non_finite_in_a_row + 1 if non_finite else 0

    def _sound_schedule(self) -> "EngineScheduler | None":
        """Weights that gave three jobs no numbers may have been damaged in memory: they are read again."""
        if self._non_finite_in_a_row >= _MAX_NON_FINITE and not (self._schedule and self._schedule.is_busy):
            if self._schedule is not None:
                self._appended, self._schedule = [*self._schedule.appended], None
            self._load_model()
            for request in self._appended:
                self._take(request)
            self._appended = []
            self._non_finite_in_a_row = 0
        return self._schedule

    def _post_any(self, outcome: Failed | None) -> None:
        if outcome is not None:
            self._post(outcome)

    def _cancel_all(self) -> None:
        for outcome in self._schedule.cancel_all() if self._schedule is not None else []:
            self._post(outcome)
