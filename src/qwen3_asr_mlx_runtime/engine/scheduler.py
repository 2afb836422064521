"""Schedules the engine's jobs: which step comes next, and the outcome of each job."""

from collections.abc import Sequence
from dataclasses import replace

from qwen3_asr_mlx_runtime.engine.align import Alignments
from qwen3_asr_mlx_runtime.engine.continuous_batch import ContinuousBatch
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence
from qwen3_asr_mlx_runtime.engine.single import SingleDecoder
from qwen3_asr_mlx_runtime.engine.streaming import OpenUtterances
from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Append,
    Failed,
    Finalize,
    Finished,
    Job,
    LoadAligner,
    Partial,
    PartialDone,
    Promote,
    Provisional,
)
from qwen3_asr_mlx_runtime.engines.fair_queue import INTERACTIVE_IN_A_ROW
from qwen3_asr_mlx_runtime.errors import Cancelled
from qwen3_asr_mlx_runtime.model.drift import Drift, StreamingDrift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class EngineScheduler:
    """One step at a time, on the thread that loaded the model.

    `sequential` and `batched` jobs take turns. The turns of batched jobs alternate between the batch and the segments
    that left it to be decoded alone.
    """

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: Drift,
        streaming_drift: StreamingDrift,
        alignments: Alignments,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._governor = governor
        self._preparation = preparation
        self._sequential = SingleDecoder(model, tokenizer, preparation)
        self._ahead = SingleDecoder(model, tokenizer, preparation)  # provisional jobs
        self._alone = SingleDecoder(model, tokenizer, preparation)
        self._open_utterances = OpenUtterances(model, tokenizer, preparation, governor, streaming_drift)
        alone = self._alone
        self._batching = ContinuousBatch(
            model, tokenizer, preparation, governor, drift, alone.add_segment, alone.add_decoded
        )
        self._alignments = alignments
        self._open: dict[int, JobSequence] = {}
        self._provisionals: dict[int, int] = {}  # jobs of open utterances, by audio id
        self._ended: list[Failed] = []  # partials that ended because their utterance did
        self._before_files_in_a_row = 0
        self._batch_is_next = False
        self._alone_is_next = False

    @property
    def is_busy(self) -> bool:
        return bool(self._open or self._ended or self._open_utterances.is_busy or self._alignments.is_busy)

    @property
    def open_ids(self) -> list[int]:
        return [*self._open, *self._open_utterances.open_ids, *self._alignments.open_ids]

    @property
    def appended(self) -> list[Append]:
        """All samples of open utterances."""
        return self._open_utterances.appended

    def take(self, request: Append | Partial | Provisional | Promote | Finalize | Align | LoadAligner) -> None:
        match request:
            case Provisional():
                self.provisional(request)
            case Promote():
                self.promote(request)
            case Append():
                self.append(request)
            case Partial():
                self.partial(request)
            case Finalize():
                self.finalize(request)
            case Align():
                self.align(request)
            case LoadAligner():
                self.load_aligner()

    def append(self, request: Append) -> None:
        """More samples of an utterance."""
        self._open_utterances.append(request)

    def partial(self, request: Partial) -> None:
        """Compute a partial of an open utterance, when no job of a stream is open."""
        self._open_utterances.partial(request)

    def provisional(self, request: Provisional) -> None:
        """Transcribe an open utterance, when no job of a stream is open and no Align waits."""
        self._end_provisional(request.audio_id)
        job, utterance, partial = self._open_utterances.provisional(request)
        if partial is not None:
            self._ended.append(partial)
        self._open[job.id] = recognition = JobSequence.of(job, self._preparation)
        self._provisionals[request.audio_id] = job.id
        steps = None if utterance is None else utterance.provisional(recognition, request.tail)
        self._ahead.add(recognition, steps)

    def promote(self, request: Promote) -> None:
        """A provisional job becomes that of an utterance that has ended."""
        recognition = self._open.get(request.job_id)
        if recognition is not None and recognition.job.provisional:
            self._provisionals = {audio: id for audio, id in self._provisionals.items() if id != request.job_id}
            job = replace(recognition.job, interactive=True, provisional=False)
            self._ahead.hand_over(recognition, job, self._sequential)

    def _end_provisional(self, audio_id: int) -> None:
        """Cancel that of an utterance, if it is open."""
        job_id = self._provisionals.pop(audio_id, None)
        if job_id in self._open:
            self._remove(self._open.pop(job_id))
            self._ended.append(Failed(job_id, Cancelled("its utterance has ended")))

    def finalize(self, request: Finalize) -> None:
        """End an open utterance and transcribe it."""
        self._end_provisional(request.audio_id)
        job, utterance, partial = self._open_utterances.take(request)
        if partial is not None:
            self._ended.append(partial)
        if utterance is None:
            self.submit(job)
        else:
            self._open[job.id] = recognition = JobSequence.of(job, self._preparation)
            self._sequential.add(recognition, utterance.finish(recognition))

    def align(self, request: Align) -> None:
        """End an open utterance and time its words, when no job of a stream is open."""
        self._end_provisional(request.audio_id)
        samples, partial = self._open_utterances.end(request.audio_id)
        if partial is not None:
            self._ended.append(partial)
        self._alignments.add(request, samples)

    def load_aligner(self) -> None:
        """Load the aligner when no job of a stream is open."""
        self._alignments.load()

    def submit(self, job: Job) -> None:
        """Transcribe a whole utterance."""
        self._open[job.id] = recognition = JobSequence.of(job, self._preparation)
        if job.decoder_mode == "batched":
            self._batching.add(recognition)
        else:
            self._sequential.add(recognition)

    def forget(self, audio_id: int) -> Failed | None:
        """Drop an open utterance: its partial, if it has one, ends."""
        self._end_provisional(audio_id)
        return self._open_utterances.forget(audio_id)

    def cancel(self, job_id: int) -> Failed | None:
        """Cancel a waiting or running job of any kind; None if there is none with this id."""
        recognition = self._open.pop(job_id, None)
        if recognition is None:
            return self._open_utterances.cancel(job_id) or self._alignments.cancel(job_id)
        self._remove(recognition)
        return Failed(job_id, Cancelled("cancelled before its transcript was written"))

    def step(self) -> list[Finished | PartialDone | Aligned | Failed]:
        """One decoder step. Returns the outcomes of the jobs and partials that ended."""
        ended, self._ended = self._ended, []
        aligns = self._alignments.is_ready
        if self._goes_before_files(aligns or self._ahead.is_busy or self._open_utterances.is_busy):
            return [*ended, *self._step_before_files(aligns=aligns)]
        if not self._open:
            self._alignments.wait()
        return [*ended, *self._decode()]

    def _goes_before_files(self, is_busy: bool) -> bool:
        """Whether it is time for an Align or a partial, if there is one. They never delay a final; files have one turn
        in five."""
        urgent = any(recognition.job.interactive for recognition in self._open.values())
        is_time = is_busy and not urgent
        is_time = is_time and not (self._open and self._before_files_in_a_row >= INTERACTIVE_IN_A_ROW)
        self._before_files_in_a_row = self._before_files_in_a_row + 1 if is_time else 0
        return is_time

    def _step_before_files(self, *, aligns: bool) -> Sequence[Finished | PartialDone | Aligned | Failed]:
        if aligns:
            return self._alignments.step()
        if self._ahead.is_busy:
            self._ahead.step()
            return self._take_done()
        return self._step_partials()

    def _step_partials(self) -> list[PartialDone | Failed]:
        outcome = self._open_utterances.step()
        return [] if outcome is None else [outcome]

    def _decode(self) -> list[Finished | Failed]:
        batched = self._batching.is_busy or self._alone.is_busy
        self._batch_is_next = batched and (self._batch_is_next or not self._sequential.is_busy)
        if self._batch_is_next:
            self._step_batched()
        elif self._sequential.is_busy:
            self._sequential.step()
        self._batch_is_next = not self._batch_is_next
        return self._take_done()

    def _take_done(self) -> list[Finished | Failed]:
        return [self._end(recognition) for recognition in [*self._open.values()] if recognition.is_done]

    def _step_batched(self) -> None:
        self._alone_is_next = self._alone.is_busy and (self._alone_is_next or not self._batching.is_busy)
        (self._alone if self._alone_is_next else self._batching).step()
        self._alone_is_next = not self._alone_is_next

    def idle(self) -> bool:
        """Call when no job has waited for a while: releases cached memory. Whether there will be more to release."""
        again = self._alignments.idle()
        self._governor.on_idle()
        return again

    def _end(self, recognition: JobSequence) -> Finished | Failed:
        del self._open[recognition.job.id]
        self._remove(recognition)
        self._governor.after_job()
        outcome = recognition.outcome(self._model.config.text.hidden_size, self._tokenizer)
        if isinstance(outcome, Finished):
            profile = outcome.transcript.profile
            for part in filter(None, (profile, profile.prepare)):
                part.quantization = self._model.quantization
        return outcome

    def _remove(self, recognition: JobSequence) -> None:
        self._sequential.remove(recognition)
        self._ahead.remove(recognition)
        self._alone.remove(recognition)
        self._batching.remove(recognition)
