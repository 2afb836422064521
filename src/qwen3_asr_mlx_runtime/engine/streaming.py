"""Open utterances, and the partials that are computed of them: one after the other, one step at a time."""

from collections import OrderedDict, deque
from collections.abc import Generator
from typing import NamedTuple

from qwen3_asr_mlx_runtime.engine.incremental_encoder import ALL, CacheConfig
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import failure
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Failed, Job, PartialDone, PartialJob
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.streaming_drift import StreamingDrift
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class _RunningPartial(NamedTuple):
    id: int
    live_id: int
    steps: Generator[None, None, Hypothesis]


class OpenUtterances:
    """Open utterances by their live id. Each is kept until its job arrives, or it is forgotten."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: StreamingDrift,
        keeps: CacheConfig = ALL,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._governor = governor
        self._drift = drift
        self._keeps = keeps
        self._utterances: OrderedDict[int, StreamingUtterance] = OrderedDict()  # the latest at the end
        self._partials: deque[_RunningPartial] = deque()

    def drop(self) -> None:
        """Evict everything that can be computed again."""
        for utterance in self._utterances.values():
            utterance.drop()

    @property
    def is_busy(self) -> bool:
        return bool(self._partials or (self._utterances and not self._drift.is_known))

    @property
    def open_ids(self) -> list[int]:
        return [partial.id for partial in self._partials]

    def add(self, job: PartialJob) -> Failed | None:
        """Failed where the model was loaded again since the utterance began: its final is decoded whole."""
        utterance = self._utterances.get(job.live_id)
        if (0 if utterance is None else utterance.sample_count) != job.start:
            return Failed(job.id, DecodeFailed("earlier audio of the utterance is lost: the model was loaded again"))
        if utterance is None:
            self._drift.try_again()
            self._governor.evict = self.drop
            utterance = StreamingUtterance(
                self._model, self._tokenizer, self._preparation, self._drift, job, self._keeps
            )
            self._utterances[job.live_id] = utterance
        utterance.append(job.samples)
        self._partials.append(_RunningPartial(job.id, job.live_id, utterance.partial()))
        return None

    def cancel(self, job_id: int) -> Failed | None:
        """End a partial; None where there is no such."""
        return self._end([partial for partial in self._partials if partial.id == job_id])

    def forget(self, live_id: int) -> Failed | None:
        """Drop an utterance, and end its partial if it has one."""
        self._utterances.pop(live_id, None)
        return self._end([partial for partial in self._partials if partial.live_id == live_id])

    def take(self, job: Job) -> tuple[StreamingUtterance | None, Failed | None]:
        """The open utterance of a job, where it can serve; and its partial, which ends now."""
        if job.live_id is None:
            return None, None
        utterance = self._utterances.get(job.live_id)
        ended = self.forget(job.live_id)
        return (utterance if utterance is not None and utterance.serves(job) else None), ended

    def step(self) -> PartialDone | Failed | None:
        """One step of the oldest partial: its outcome, if that was the last step. Where there is none, a step of
        measuring the drift, which the first final needs."""
        if not self._partials:
            self._drift.step()
            return None
        partial = self._partials[0]
        outcome: PartialDone | Failed
        try:
            next(partial.steps)
            return None
        except StopIteration as end:
            outcome = PartialDone(partial.id, end.value)
        except Exception as error:  # noqa: BLE001 the partial at fault fails, and the next starts over
            self._utterances[partial.live_id].drop()
            outcome = Failed(partial.id, failure(error))
        self._partials.popleft()
        self._utterances.move_to_end(partial.live_id)
        self._make_room()
        return outcome

    def _make_room(self) -> None:
        """Evict what the utterances idle for longest keep; it is computed again when they need it."""
        kept = sum(utterance.nbytes for utterance in self._utterances.values())
        for utterance in [*self._utterances.values()][:-1]:
            if kept <= self._governor.live_bytes:
                return
            kept -= utterance.nbytes
            utterance.drop()

    def _end(self, partials: list[_RunningPartial]) -> Failed | None:
        for partial in partials:
            self._partials.remove(partial)
            return Failed(partial.id, Cancelled("cancelled before its text was computed"))
        return None
