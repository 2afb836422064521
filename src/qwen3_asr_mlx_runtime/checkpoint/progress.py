"""Progress of a load, reported at a limited rate. Each report is a sign of life: a load without any is stuck."""

import time
from collections.abc import Callable

from qwen3_asr_mlx_runtime.engines.api import OnProgress, Progress

INTERVAL_SECONDS = 0.25


class Reporter:
    """Passes on the first and the last report of a stage, and at most four a second between them, also where nothing
    has changed. Within a stage `done` never decreases."""

    def __init__(self, on_progress: OnProgress | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_progress = on_progress
        self._clock = clock
        self._last: Progress | None = None
        self._reported_at = 0.0
        self._most_done: dict[str, int] = {}

    def __call__(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        if done is not None:
            done = self._most_done[stage] = max(done, self._most_done.get(stage, 0))
        report = Progress(stage, done, total)
        if self._on_progress is None or not self._is_due(report):
            return
        self._last, self._reported_at = report, self._clock()
        self._on_progress(report)

    def _is_due(self, report: Progress) -> bool:
        if self._last is None or report.stage != self._last.stage:
            return True
        complete = report.done is not None and report.done == report.total and report != self._last
        return complete or self._clock() - self._reported_at >= INTERVAL_SECONDS
