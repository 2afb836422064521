"""The decoder loop of the worker: MLX is imported, loaded and run on its thread, and nowhere else.

One decoder step at a time: between two steps it looks at its inbox, so a cancel ends a job at its next step.
"""

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Cancel,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    Loaded,
    LoadFailed,
    Outcome,
    Partial,
    PartialDone,
    Provisional,
    Request,
)
from qwen3_asr_mlx_runtime.engines.channel import Beat
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    Cancelled,
    EngineLost,
    EngineUnavailable,
    ModelError,
    ModelNotFound,
    NonFiniteOutput,
)
from qwen3_asr_mlx_runtime.packages import missing
from qwen3_asr_mlx_runtime.settings import Settings
from qwen3_asr_mlx_runtime.shortage import named_shortage

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.engine.align_scheduler import AlignScheduler
    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
    from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler

_MAX_NON_FINITE = 3
BEAT_SECONDS = 0.25
_IDLE_SECONDS = 10.0  # without a request: then memory that is kept for the next is given back


class EngineEnds(Exception):
    """The process can do nothing more for its jobs; a new one may. `reason`: as in EngineEnded."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineLoop:
    """Requests from `inbox` → outcomes to `post`."""

    def __init__(
        self, settings: Settings, inbox: "queue.Queue[Request]", post: Callable[[Outcome | Beat], None]
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._post = post
        self._schedule: EngineScheduler | AlignScheduler | None = None
        self._loaded: Loaded | None = None
        self._steps = 0
        self._beat_at = 0.0
        self._non_finite_in_a_row = 0

    def run(self) -> NoReturn:
        """Work for ever. Raises EngineEnds."""
        while True:
            request = self._next_request()
            if request is not None:
                self._take(request)
            else:
                self._step()

    def _next_request(self) -> Request | None:
        """The next request; None where there is none and work to do instead."""
        schedule = self._schedule
        if schedule is not None and schedule.is_busy:
            return None if self._inbox.empty() else self._inbox.get()
        if self._inbox.empty():
            self._beat()
        while True:
            try:
                return self._inbox.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                is_releasing = schedule is not None and schedule.idle()
                self._beat()
                if not is_releasing:
                    return self._inbox.get()

    def _take(self, request: Request) -> None:
        match request:
            case Load():
                self._load()
            case Partial() | Provisional() | Finalize() | Align() if self._schedule is None:
                self._post(Failed(request.id, EngineUnavailable("no model is loaded")))
            case _ if self._schedule is None:
                pass  # nothing is loaded to append to, to drop or to end
            case Forget(audio_id):
                self._post_any(self._schedule.forget(audio_id))
            case Cancel(job_id):
                self._post_any(self._schedule.cancel(job_id))
            case _:
                self._schedule.take(request)

    def _load(self) -> None:
        try:
            if self._loaded is None:
                self._loaded = self._load_model()
                self._beat()  # the memory is known once the model is
            self._post(self._loaded)
        except EngineLost:
            raise EngineEnds("gpu_ignored") from None
        except BridgeError as error:
            self._post(LoadFailed(error))
        except OSError as error:
            reason = type(error).__name__
            self._post(LoadFailed(ModelNotFound("the model's files cannot be read", reason=reason)))
        except ImportError as error:
            if "failed to map segment" in str(error):  # what Linux says of a library that gets no memory
                raise EngineEnds("exit_1") from None
            self._post(LoadFailed(EngineUnavailable(missing(error))))
        except Exception as error:  # noqa: BLE001 the one boundary of loading: whatever a checkpoint provokes becomes a code
            self._post(LoadFailed(ModelError(f"the model could not be loaded: {type(error).__name__}")))

    def _load_model(self) -> Loaded:
        if self._settings.engine:
            return self._load_nothing()
        with named_shortage():
            recognizer = self._recognizer()
        self._schedule = recognizer.schedule(self._settings)
        profile = recognizer.load_profile
        total, source = profile["total_seconds"], recognizer.load_source
        return Loaded(self._settings.model, recognizer.model_dir, total, profile, source)

    def _load_nothing(self) -> Loaded:
        """Servers decode: this worker is there for words, and loads the aligner with the first of them."""
        import_recognizer()
        from qwen3_asr_mlx_runtime.engine.align_scheduler import AlignScheduler

        self._schedule = AlignScheduler(self._settings)
        return Loaded(self._settings.model, "", 0.0)

    def _recognizer(self) -> "Recognizer":
        recognizer = import_recognizer()
        from qwen3_asr_mlx_runtime.engine.memory import MemoryLimits

        settings = self._settings
        return recognizer.load(
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
        self._steps += 1
        if time.monotonic() >= self._beat_at + BEAT_SECONDS:
            self._beat()
        for outcome in self._schedule.step() if self._schedule is not None else ():
            if isinstance(outcome, Failed) and isinstance(outcome.error, EngineLost):
                raise EngineEnds("gpu_ignored")
            self._post(outcome)
            self._count(outcome)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        with suppress(RuntimeError):  # MLX without a device
            self._post(Beat(self._steps, Memory.read()))

    def _count(self, outcome: Finished | PartialDone | Aligned | Failed) -> None:
        """Weights that gave three jobs no numbers may have been damaged in memory."""
        if isinstance(outcome, Aligned) or (isinstance(outcome, Failed) and isinstance(outcome.error, Cancelled)):
            return
        non_finite = isinstance(outcome, Failed) and isinstance(outcome.error, NonFiniteOutput)
        self._non_finite_in_a_row = self._non_finite_in_a_row + 1 if non_finite else 0
        if self._non_finite_in_a_row >= _MAX_NON_FINITE:
            raise EngineEnds("non_finite_output")

    def _post_any(self, outcome: Failed | None) -> None:
        if outcome is not None:
            self._post(outcome)


def import_recognizer() -> "type[Recognizer]":
    """Import MLX and all that needs it. Raises DeviceUnavailable, or what an import raises."""
    from qwen3_asr_mlx_runtime.model.device import check_device

    check_device()  # before the imports that need one
    from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer

    return Recognizer
