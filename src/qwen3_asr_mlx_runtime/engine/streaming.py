"""Open utterances and their partials, computed one after the other, one step at a time."""

from collections import OrderedDict, deque
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import failure
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import (
    Append,
    Failed,
    Finalize,
    Job,
    Partial,
    PartialDone,
    Provisional,
)
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import Cancelled
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class _RunningPartial(NamedTuple):
    id: int
    audio_id: int
    watch: Stopwatch
    steps: Generator[None, None, Hypothesis]


class OpenUtterances:
    """Open utterances by their audio id. Each is kept until its Finalize or Forget.

    `_samples` holds all samples of each. `_utterances` holds the streaming state of those with partials: only a cache.
    """

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: StreamingDrift,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._governor = governor
        self._drift = drift
        self._samples: dict[int, list[Samples]] = {}
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

    @property
    def appended(self) -> list[Append]:
        """All samples of all utterances."""
        return [Append(audio_id, samples) for audio_id, chunks in self._samples.items() for samples in chunks]

    def append(self, request: Append) -> None:
        """Add samples; the first samples open an utterance."""
        self._samples.setdefault(request.audio_id, []).append(request.samples)
        if request.audio_id in self._utterances:
            self._utterances[request.audio_id].append(request.samples)

    def partial(self, request: Partial) -> None:
        """Compute a hypothesis of the samples so far."""
        utterance = self._utterances.get(request.audio_id)
        if utterance is None:
            self._drift.try_again()
            self._governor.evict = self.drop
            utterance = StreamingUtterance(self._model, self._tokenizer, self._preparation, self._drift, request)
            utterance.append(self._whole(request.audio_id))
            self._utterances[request.audio_id] = utterance
        watch = Stopwatch()
        self._partials.append(_RunningPartial(request.id, request.audio_id, watch, utterance.partial(watch)))

    def _whole(self, audio_id: int) -> Samples:
        return np.concatenate([NO_SAMPLES, *self._samples.get(audio_id, ())])

    def cancel(self, job_id: int) -> Failed | None:
        """Cancel a partial; None if there is none with this id."""
        return self._end([partial for partial in self._partials if partial.id == job_id])

    def forget(self, audio_id: int) -> Failed | None:
        """Drop an utterance, and cancel its partial if it has one."""
        self._samples.pop(audio_id, None)
        self._utterances.pop(audio_id, None)
        return self._end([partial for partial in self._partials if partial.audio_id == audio_id])

    def end(self, audio_id: int) -> tuple[Samples, Failed | None]:
        """End an utterance: all its samples, and its partial, cancelled now."""
        samples = self._whole(audio_id)
        return samples, self.forget(audio_id)

    def take(self, request: Finalize) -> tuple[Job, StreamingUtterance | None, Failed | None]:
        """End an utterance: its job, its streaming state if the job can use it, and its partial, cancelled now."""
        utterance = self._utterances.get(request.audio_id)
        samples, ended = self.end(request.audio_id)
        return request.job(samples), (utterance if utterance is not None and utterance.serves(request) else None), ended

    def provisional(self, request: Provisional) -> tuple[Job, StreamingUtterance | None, Failed | None]:
        """The job of a Provisional, the streaming state if the job can use it, and the partial of the utterance,
        cancelled now."""
        samples = np.concatenate([self._whole(request.audio_id)[: request.samples], request.tail])
        utterance = self._utterances.get(request.audio_id)
        is_whole = utterance is not None and utterance.sample_count == request.samples
        if utterance is not None and not (is_whole and utterance.serves(request)):
            utterance = None
        asked = (request.language, request.context, request.max_new_tokens, request.logprobs, request.languages)
        audio = Utterance(samples, *asked, terms=request.terms)
        ended = self._end([partial for partial in self._partials if partial.audio_id == request.audio_id])
        return Job(request.id, audio, provisional=True), utterance, ended

    def step(self) -> PartialDone | Failed | None:
        """One step of the oldest partial; its outcome if that was the last step. Without a partial, one step of
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
        except Exception as error:  # noqa: BLE001 only this partial fails, and the next starts over
            self._utterances[partial.audio_id].drop()
            outcome = Failed(partial.id, failure(error), partial.watch.busy)
        self._partials.popleft()
        self._utterances.move_to_end(partial.audio_id)
        self._make_room()
        return outcome

    def _make_room(self) -> None:
        """Evict the caches of the utterances idle for longest; they are computed again when needed."""
        kept = sum(utterance.nbytes for utterance in self._utterances.values())
        for utterance in [*self._utterances.values()][:-1]:
            if kept <= self._governor.streaming_bytes:
                return
            kept -= utterance.nbytes
            utterance.drop()

    def _end(self, partials: list[_RunningPartial]) -> Failed | None:
        for partial in partials:
            self._partials.remove(partial)
            return Failed(partial.id, Cancelled("cancelled before its text was computed"), partial.watch.busy)
        return None
