"""The model: whether it is there, who waits for it, and how far its load has come."""

from collections.abc import Callable
from typing import Protocol

from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.api import Loaded, Progress
from qwen3_asr_mlx_runtime.protocol import streams as lines
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.session.effects import Effect, LoadModel

PROGRESS_SECONDS = 0.25


class Cause(Protocol):
    """What made a load necessary, and is told how long it took."""

    @property
    def id(self) -> Id | UnsetType | None: ...

    load_seconds: float


class Loading:
    """One load serves all that wait for it. After one that failed the next request that needs a model tries again."""

    def __init__(self, effects: list[Effect], clock: Callable[[], float]) -> None:
        self.model: Loaded | None = None
        self.failed = False
        self.has_begun = False  # MLX is imported then, and has a device
        self.stage: str | None = None  # of the load that is on its way
        self._effects = effects
        self._clock = clock
        self._cause: Cause | None = None
        self._news: Progress | None = None
        self._told = float("-inf")

    @property
    def is_on(self) -> bool:
        return self.stage is not None

    @property
    def deadline(self) -> float | None:
        """When progress that was held back may be told."""
        return None if self._news is None else self._told + PROGRESS_SECONDS

    def need(self, cause: Cause | None) -> None:
        """Load, unless that is done or on its way. `cause`: None where no request asked for it."""
        if self.model is None and self.stage is None:
            self._cause = cause
            self.stage = "resolve"
            self.failed = False
            self._effects.append(LoadModel())

    def withdraw(self) -> None:
        """Nothing needs the model any more: do not begin a load that was not begun."""
        if LoadModel() in self._effects:
            self._effects.remove(LoadModel())
            self._end()

    def loaded(self, loaded: Loaded) -> None:
        if self._cause is not None:
            self._cause.load_seconds = loaded.load_seconds
        self.model = loaded
        self.has_begun = True
        self._end()

    def load_failed(self) -> None:
        self.failed = True
        self._end()

    def progress(self, news: Progress) -> None:
        self.has_begun = True
        if self.stage is not None:
            self.stage = news.stage
            self._news = news

    def take_news(self) -> lines.Progress | None:
        """The latest progress, at most four times a second."""
        now = self._clock()
        if self._news is None or now < self._told + PROGRESS_SECONDS:
            return None
        news, self._news, self._told = self._news, None, now
        cause = UNSET if self._cause is None or self._cause.id is None else self._cause.id
        return lines.Progress(request_id=cause, stage=news.stage, done=news.done, total=news.total)

    def _end(self) -> None:
        self._cause = self._news = self.stage = None
