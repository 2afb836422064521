"""Utterances that are being spoken, and the hearings that are asked for: each in turn, one step at a time."""

from collections import OrderedDict, deque
from collections.abc import Generator
from typing import NamedTuple

from qwen3_asr_mlx_runtime.engine.incremental_encoder import ALL, Keeps
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import failure
from qwen3_asr_mlx_runtime.engine.streaming_utterance import LiveUtterance
from qwen3_asr_mlx_runtime.engines.api import Failed, Job, PartialDone, PartialJob
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis
from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed
from qwen3_asr_mlx_runtime.model.live_drift import LiveDrift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class _Hearing(NamedTuple):
    id: int
    live_id: int
    steps: Generator[None, None, Hypothesis]


class Listening:
    """What was heard is kept until the job of its utterance comes, or it is forgotten."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: LiveDrift,
        keeps: Keeps = ALL,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._governor = governor
        self._drift = drift
        self._keeps = keeps
        self._utterances: OrderedDict[int, LiveUtterance] = OrderedDict()  # the one heard last at the end
        self._hearings: deque[_Hearing] = deque()

    def drop(self) -> None:
        """Let go of all that can be made again."""
        for utterance in self._utterances.values():
            utterance.drop()

    @property
    def is_busy(self) -> bool:
        return bool(self._hearings or (self._utterances and not self._drift.is_known))

    @property
    def open_ids(self) -> list[int]:
        return [hearing.id for hearing in self._hearings]

    def add(self, listen: PartialJob) -> Failed | None:
        """Failed where the model was loaded again since the utterance began: its final will be whole all the same."""
        utterance = self._utterances.get(listen.live_id)
        if (0 if utterance is None else utterance.heard) != listen.start:
            return Failed(listen.id, DecodeFailed("what was heard of the utterance before is lost"))
        if utterance is None:
            self._drift.try_again()
            self._governor.relieve = self.drop
            utterance = LiveUtterance(self._model, self._tokenizer, self._preparation, self._drift, listen, self._keeps)
            self._utterances[listen.live_id] = utterance
        utterance.append(listen.samples)
        self._hearings.append(_Hearing(listen.id, listen.live_id, utterance.hear()))
        return None

    def cancel(self, job_id: int) -> Failed | None:
        """End a hearing; None where there is no such."""
        return self._end([hearing for hearing in self._hearings if hearing.id == job_id])

    def forget(self, live_id: int) -> Failed | None:
        """Let go of an utterance, and of its hearing if one is asked for."""
        self._utterances.pop(live_id, None)
        return self._end([hearing for hearing in self._hearings if hearing.live_id == live_id])

    def take(self, job: Job) -> tuple[LiveUtterance | None, Failed | None]:
        """What was heard of the utterance of a job, where it can be used; and its hearing, which ends with that."""
        if job.live_id is None:
            return None, None
        utterance = self._utterances.get(job.live_id)
        ended = self.forget(job.live_id)
        return (utterance if utterance is not None and utterance.serves(job) else None), ended

    def step(self) -> PartialDone | Failed | None:
        """One step of the hearing that was asked for first: its outcome, if that was the last. Where none is, the
        drift is measured, which the first final will ask for."""
        if not self._hearings:
            self._drift.step()
            return None
        hearing = self._hearings[0]
        outcome: PartialDone | Failed
        try:
            next(hearing.steps)
            return None
        except StopIteration as end:
            outcome = PartialDone(hearing.id, end.value)
        except Exception as error:  # noqa: BLE001 the guilty hearing fails, and begins anew with the next
            self._utterances[hearing.live_id].drop()
            outcome = Failed(hearing.id, failure(error))
        self._hearings.popleft()
        self._utterances.move_to_end(hearing.live_id)
        self._make_room()
        return outcome

    def _make_room(self) -> None:
        """What was not heard for longest is made again when it is."""
        kept = sum(utterance.nbytes for utterance in self._utterances.values())
        for utterance in [*self._utterances.values()][:-1]:
            if kept <= self._governor.live_bytes:
                return
            kept -= utterance.nbytes
            utterance.drop()

    def _end(self, hearings: list[_Hearing]) -> Failed | None:
        for hearing in hearings:
            self._hearings.remove(hearing)
            return Failed(hearing.id, Cancelled("cancelled before its text was heard"))
        return None
