"""The model: whether it is loaded, how far its load has come, and the requests that wait for nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.api import Load, Loaded, Progress
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.protocol import streams as lines
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Ready, Reply
from qwen3_asr_mlx_runtime.session.effects import Effect
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest

PROGRESS_SECONDS = 0.25


class Cause(Protocol):
    """What made a load necessary; its line says how long the load took."""

    @property
    def id(self) -> Id | UnsetType | None: ...

    load_seconds: float


@dataclass(slots=True, eq=False)
class Start:
    """A `start` or `start_stream` that waits for the model. `undo` takes back what the request did, and returns how
    many samples that dropped."""

    request: PendingRequest
    reply: Callable[[Loaded], Reply]
    undo: Callable[[], int]

    def fail(self, error: BridgeError) -> None:
        dropped = self.undo()
        self.request.refuse(error, **({"dropped_samples": dropped} if dropped else {}))


class ModelState:
    """One load serves all that wait for it. After one that failed the next request that needs a model tries again."""

    def __init__(self, effects: list[Effect], clock: Callable[[], float]) -> None:
        self.model: Loaded | None = None
        self.failed = False
        self.has_begun = False  # MLX is imported then, and has a device
        self.stage: str | None = None  # of the load that is under way
        self._effects = effects
        self._clock = clock
        self._starts: list[Start] = []
        self._cause: Cause | None = None
        self._progress: Progress | None = None
        self._sent_at = float("-inf")

    @property
    def is_loading(self) -> bool:
        return self.stage is not None

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits for the model alone."""
        return bool(self._starts)

    @property
    def deadline(self) -> float | None:
        """When progress that was held back may be sent."""
        return None if self._progress is None else self._sent_at + PROGRESS_SECONDS

    def need(self, cause: Cause | None) -> None:
        """Load, unless that is done or under way. `cause`: None where no request asked for it."""
        if self.model is None and self.stage is None:
            self._cause = cause
            self.stage = "resolve"
            self.failed = False
            self._effects.append(Load())

    def withdraw(self) -> None:
        """Nothing needs the model any more: do not begin a load that was not begun."""
        if Load() in self._effects:
            self._effects.remove(Load())
            self._end_load()

    def start(self, request: PendingRequest, reply: Callable[[Loaded], Reply], undo: Callable[[], int] = int) -> None:
        """Answer a request when the model is loaded, or with what kept it from being loaded."""
        if self.model is not None:
            request.answer(reply(self.model))
            return
        request.subject = start = Start(request, reply, undo)
        self._starts.append(start)
        self.need(request)

    def cancel(self, start: Start) -> CancelState:
        """The load goes on: others may wait for it."""
        self._starts.remove(start)
        start.fail(Cancelled("cancelled before the model was loaded"))
        return "cancelled"

    def loaded(self, model: Loaded) -> None:
        if self._cause is not None:
            self._cause.load_seconds = model.load_seconds
        self.model = model
        self.has_begun = True
        self._end_load()
        for start in self._take_starts():
            start.request.answer(start.reply(model))

    def load_failed(self, error: BridgeError) -> None:
        self.failed = True
        self._end_load()
        self.fail_starts(error)

    def fail_starts(self, error: BridgeError) -> None:
        """Answer all requests that wait for the model alone with an error."""
        for start in self._take_starts():
            start.fail(error)

    def progress(self, progress: Progress) -> None:
        self.has_begun = True
        if self.stage is not None:
            self.stage = progress.stage
            self._progress = progress

    def take_progress(self) -> lines.Progress | None:
        """The latest progress, at most four times a second."""
        now = self._clock()
        if self._progress is None or now < self._sent_at + PROGRESS_SECONDS:
            return None
        progress, self._progress, self._sent_at = self._progress, None, now
        cause = UNSET if self._cause is None or self._cause.id is None else self._cause.id
        return lines.Progress(request_id=cause, stage=progress.stage, done=progress.done, total=progress.total)

    def _take_starts(self) -> list[Start]:
        starts, self._starts = self._starts, []
        return starts

    def _end_load(self) -> None:
        self._cause = self._progress = self.stage = None


def ready(model: Loaded) -> Ready:
    return Ready(
        model=model.model,
        model_dir=model.model_dir,
        load_seconds=model.load_seconds,
        load_profile=model.load_profile,
    )
