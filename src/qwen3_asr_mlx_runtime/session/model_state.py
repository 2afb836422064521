"""The model: whether it is loaded, its load, the requests that wait for it, and restarts of its engine."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.api import Load, Loaded, Progress
from qwen3_asr_mlx_runtime.engines.info import EngineInfo
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.protocol import streams as lines
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import Ready, Reply
from qwen3_asr_mlx_runtime.session.effects import Effect
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState, PendingRequest

PROGRESS_SECONDS = 0.25

DELAYS = (0.0, 1.0, 2.0, 4.0)  # seconds before the first, second, … start in a row
MAX_ENDS = len(DELAYS) + 1  # then the engine is lost
WINDOW_SECONDS = 600.0


class Cause(Protocol):
    """The request or group that caused a load; its line reports `load_seconds`."""

    @property
    def id(self) -> Id | UnsetType | None: ...

    load_seconds: float


@dataclass(slots=True, eq=False)
class Start:
    """A `start` or `start_stream` that waits for the model. `undo` reverts the request, and returns the number of
    dropped samples."""

    request: PendingRequest
    reply: Callable[[Loaded], Reply]
    undo: Callable[[], int]
    loads: int  # that had ended when it was read

    def fail(self, error: BridgeError) -> None:
        dropped = self.undo()
        self.request.refuse(error, **({"dropped_samples": dropped} if dropped else {}))


@dataclass(slots=True, eq=False)
class Held:
    """What was read behind a barrier. `cause`: the first that needs the model."""

    starts: list[Start] = field(default_factory=list)
    cause: Cause | None = None


class Recovery:
    """Counts ends without a finished job between. `restarts` and `last_reason` are for `status`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.restarts = 0
        self.last_reason: str | None = None
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=MAX_ENDS)

    @property
    def attempt(self) -> int:
        """The number of the next start in a row."""
        return len(self._ends)

    def ended(self, reason: str) -> float | None:
        """The engine has ended: seconds to the next start, None where it is lost."""
        now = self._clock()
        self.last_reason = reason
        self._ends.append(now)
        while now - self._ends[0] > WINDOW_SECONDS:
            self._ends.popleft()
        if len(self._ends) == MAX_ENDS:
            return None
        return DELAYS[len(self._ends) - 1]

    def job_finished(self) -> None:
        self._ends.clear()


class ModelState:
    """One load serves all waiting requests. After a failed load the next request that needs the model tries again."""

    def __init__(self, effects: list[Effect], clock: Callable[[], float]) -> None:
        self.model: Loaded | None = None
        self.engine: EngineInfo | None = None  # what a remote engine found at its last load
        self.failed = False
        self.stage: str | None = None  # of the load that is under way
        self._effects = effects
        self._clock = clock
        self._starts: list[Start] = []
        self._cause: Cause | None = None
        self._progress: Progress | None = None
        self._sent_at = float("-inf")
        self.load_at: float | None = None  # of a load that waits for its time
        self._loads = 0
        self._held: deque[Held] = deque()  # of each barrier: an unload, from its request to its end

    @property
    def is_loading(self) -> bool:
        return self.stage is not None

    @property
    def is_ready(self) -> bool:
        """Whether a request read now finds the model loaded."""
        return self.model is not None and not self._held

    @property
    def is_unloaded(self) -> bool:
        """Whether a load would succeed as far as is known, and none is under way."""
        return self.model is None and not self.is_loading and not self.failed

    @property
    def is_awaited(self) -> bool:
        """Whether a request waits only for the model."""
        return bool(self._starts)

    @property
    def deadline(self) -> float | None:
        """When delayed progress may be sent."""
        return None if self._progress is None else self._sent_at + PROGRESS_SECONDS

    def need(self, cause: Cause | None) -> None:
        """Load the model, unless it is loaded or loading. `cause`: None if no request caused it."""
        if self._held:
            self._held[-1].cause = self._held[-1].cause or cause
        elif self.model is None:
            self._load(cause)

    def _load(self, cause: Cause | None) -> None:
        if self.stage is None:
            self._cause = cause
            self.stage = "resolve"
            self.failed = False
            self._effects.append(Load())

    def withdraw(self) -> None:
        """Nothing needs the model any more: do not begin a load that was not begun."""
        if self.load_at is not None:
            self._end_load()
        if Load() in self._effects:
            self._effects.remove(Load())
            self._end_load()

    def engine_ended(self, delay: float) -> bool:
        """The engine has ended with its model: load again after so many seconds, if it had one or was loading. Returns
        whether."""
        was_wanted = self.model is not None or self.is_loading
        self.model = None
        if was_wanted:
            self.stage = "resolve"
            self._progress = None
            self.load_at = self._clock() + delay
            self.tick()
        return was_wanted

    def tick(self) -> None:
        """Begin a load whose time has come."""
        if self.load_at is not None and self.load_at <= self._clock():
            self.load_at = None
            self._effects.append(Load())

    def start(self, request: PendingRequest, reply: Callable[[Loaded], Reply], undo: Callable[[], int] = int) -> None:
        """Answer a request when the model is loaded, or with the error of the load."""
        start = Start(request, reply, undo, self._loads)
        if self.model is not None and not self._held:
            self._answer(start, self.model)
            return
        request.subject = start
        (self._held[-1].starts if self._held else self._starts).append(start)
        self.need(request)

    def cancel(self, start: Start) -> CancelState:
        """Cancel a request. The load goes on, because others may wait for it."""
        for starts in (self._starts, *(held.starts for held in self._held)):
            if start in starts:
                starts.remove(start)
        start.fail(Cancelled("cancelled before the model was loaded"))
        return "cancelled"

    def loaded(self, model: Loaded) -> None:
        if self._cause is not None:
            self._cause.load_seconds = model.load_seconds
        self.model = model
        self.engine = model.engine
        self._loads += 1
        self._end_load()
        self._answer_starts(model)

    def load_failed(self, error: BridgeError) -> None:
        self.failed = True
        self._end_load()
        self.fail_starts(error)

    def unload(self) -> None:
        """The model leaves memory, and a load ends."""
        self.model, self.failed = None, False
        self._end_load()

    def add_barrier(self) -> None:
        """What is read from now on waits until this barrier is lifted."""
        self._held.append(Held())

    def lift_barrier(self, *, is_needed: bool) -> None:
        """The first barrier is gone. `is_needed`: whether something besides a `start` waits for the model."""
        held = self._held.popleft()
        self._starts += held.starts
        if self.model is not None:
            self._answer_starts(self.model)
        elif self._starts or is_needed:
            self._load(held.cause)

    def fail_starts(self, error: BridgeError) -> None:
        """Answer all requests that wait only for the model with an error."""
        for start in self._take_starts():
            start.fail(error)

    def progress(self, progress: Progress) -> None:
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

    def fail_all(self, error: BridgeError) -> None:
        """Answer all requests that wait only for the model, now or after an unload, with an error."""
        for held in self._held:
            self._starts += held.starts
            held.starts = []
        self.fail_starts(error)

    def _answer_starts(self, model: Loaded) -> None:
        for start in self._take_starts():
            self._answer(start, model)

    def _answer(self, start: Start, model: Loaded) -> None:
        has_waited = self._loads > start.loads
        start.request.answer(start.reply(model if has_waited else msgspec.structs.replace(model, source="none")))

    def _take_starts(self) -> list[Start]:
        starts, self._starts = self._starts, []
        return starts

    def _end_load(self) -> None:
        self._cause = self._progress = self.stage = self.load_at = None


def ready(model: Loaded) -> Ready:
    return Ready(
        model=model.model,
        model_dir=model.model_dir,
        load_seconds=model.load_seconds,
        load_profile=model.load_profile,
        load=model.source,
        engine=model.engine or UNSET,
    )
