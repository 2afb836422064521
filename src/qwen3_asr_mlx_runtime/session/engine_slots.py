"""The jobs that the engine has, and how many more it may get."""

from collections.abc import Callable
from dataclasses import dataclass

from qwen3_asr_mlx_runtime.engines.api import DecoderMode
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.session.transcription import Segment

# Jobs in the engine keep their order; waiting jobs can still be reordered. One sequential job is decoded at a time, and
# the next ones go through the audio tower together. Batched jobs are decoded together, so they may take all rows.
MAX_JOBS: dict[DecoderMode, int] = {"sequential": 4, "batched": MAX_BATCH_ROWS}
MAX_FILES: dict[DecoderMode, int] = {
    "sequential": 2,
    "batched": MAX_BATCH_ROWS - 4,
}  # the rest is for streams
MAX_PARTIAL_SECONDS = 30.0  # of audio that one step of a partial may process, however long the utterance is


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: DecoderMode
    is_file: bool
    seconds: float


class EngineSlots:
    """Jobs and partials in the engine, each from its start until its outcome arrives, also after a cancel."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.busy_since: float | None = None  # start of the current work without a pause
        self._clock = clock
        self._jobs: dict[int, _Entry] = {}
        self._partials: dict[int, float] = {}  # seconds of audio
        self._is_alone = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def job_ids(self) -> list[int]:
        """In the order in which they were started."""
        return [*self._jobs]

    @property
    def is_empty(self) -> bool:
        return not self._jobs and not self._partials

    @property
    def partials(self) -> int:
        return len(self._partials)

    @property
    def may_start_partial(self) -> bool:
        """Whether a partial would start at once. One that waits in the engine misses the audio that comes meanwhile."""
        return not self._is_alone and not self._partials and all(entry.is_file for entry in self._jobs.values())

    @property
    def seconds(self) -> float:
        """The maximal audio that one step may process: of the longest sequential job or partial, or of all batched
        jobs."""
        alone = [entry.seconds for entry in self._jobs.values() if entry.mode == "sequential"]
        together = sum(entry.seconds for entry in self._jobs.values() if entry.mode == "batched")
        return max([together, *alone, *self._partials.values()])

    def admits(self, segment: Segment) -> bool:
        """Whether there is room for this one."""
        if self._is_alone:
            return False
        transcription = segment.transcription
        mode = transcription.options.decoder_mode
        alike = [entry for entry in self._jobs.values() if entry.mode == mode]
        if len(alike) >= MAX_JOBS[mode]:
            return False
        return transcription.stream_id is not None or sum(entry.is_file for entry in alike) < MAX_FILES[mode]

    def start(self, segment: Segment) -> None:
        self._begin()
        transcription = segment.transcription
        is_file = transcription.stream_id is None
        self._jobs[segment.id] = _Entry(transcription.options.decoder_mode, is_file, segment.seconds)

    def start_partial(self, job_id: int, seconds: float) -> None:
        """`seconds`: of the utterance so far."""
        self._begin()
        self._partials[job_id] = min(seconds, MAX_PARTIAL_SECONDS)

    def has_partial(self, job_id: int) -> bool:
        return job_id in self._partials

    def free(self, job_id: int) -> None:
        self._jobs.pop(job_id, None)
        self._partials.pop(job_id, None)
        if self.is_empty:
            self.busy_since, self._is_alone = None, False

    def keep_alone(self) -> None:
        """Nothing else starts until what is under way has ended."""
        self._is_alone = True

    def clear(self) -> None:
        """The engine has ended, and all its work."""
        self._jobs.clear()
        self._partials.clear()
        self.busy_since, self._is_alone = None, False

    def _begin(self) -> None:
        if self.busy_since is None:
            self.busy_since = self._clock()
