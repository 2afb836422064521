"""Jobs on their way through the engine: which step comes next, and what becomes of each."""

from qwen3_asr_mlx_runtime.batching import Batching
from qwen3_asr_mlx_runtime.errors import Cancelled
from qwen3_asr_mlx_runtime.jobs import Failed, Finished, Job
from qwen3_asr_mlx_runtime.model.drift import Drift
from qwen3_asr_mlx_runtime.model.memory import Governor
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.preparation import Preparation
from qwen3_asr_mlx_runtime.recognition import Recognition
from qwen3_asr_mlx_runtime.sequential import Sequential
from qwen3_asr_mlx_runtime.tokenizer import Tokenizer


class Schedule:
    """One step at a time, on the thread that loaded the model.

    Where `sequential` and `batched` jobs are under way, they take turns; and in the turns of the batched ones the batch
    and what left it to be decoded alone.
    """

    def __init__(
        self, model: Qwen3ASR, tokenizer: Tokenizer, preparation: Preparation, governor: Governor, drift: Drift
    ) -> None:
        self._model = model
        self._governor = governor
        self._preparation = preparation
        self._sequential = Sequential(model, tokenizer, preparation)
        self._alone = Sequential(model, tokenizer, preparation)
        self._batching = Batching(model, tokenizer, preparation, governor, drift, self._alone.add_segment)
        self._open: dict[int, Recognition] = {}
        self._batch_is_next = False
        self._alone_is_next = False

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    @property
    def open_ids(self) -> list[int]:
        return [*self._open]

    def submit(self, job: Job) -> None:
        self._open[job.id] = recognition = Recognition.of(job, self._preparation)
        lane = self._batching if job.decoder_mode == "batched" else self._sequential
        lane.add(recognition)

    def cancel(self, job_id: int) -> Failed | None:
        """End a job that waits or is under way; None where there is no such job."""
        recognition = self._open.pop(job_id, None)
        if recognition is None:
            return None
        self._remove(recognition)
        return Failed(job_id, Cancelled("cancelled before its transcript was written"))

    def step(self) -> list[Finished | Failed]:
        """One decoder step. Returns the jobs that ended."""
        batched = self._batching.is_busy or self._alone.is_busy
        self._batch_is_next = batched and (self._batch_is_next or not self._sequential.is_busy)
        if self._batch_is_next:
            self._step_batched()
        elif self._sequential.is_busy:
            self._sequential.step()
        self._batch_is_next = not self._batch_is_next
        return [self._end(recognition) for recognition in [*self._open.values()] if recognition.is_done]

    def _step_batched(self) -> None:
        self._alone_is_next = self._alone.is_busy and (self._alone_is_next or not self._batching.is_busy)
        (self._alone if self._alone_is_next else self._batching).step()
        self._alone_is_next = not self._alone_is_next

    def idle(self) -> None:
        """Nothing waits, and nothing has for a while."""
        self._governor.idle()

    def _end(self, recognition: Recognition) -> Finished | Failed:
        del self._open[recognition.job.id]
        self._remove(recognition)
        self._governor.tidy()
        outcome = recognition.outcome(self._model.config.text.hidden_size)
        if isinstance(outcome, Finished):
            profile = outcome.transcript.profile
            for one in filter(None, (profile, profile.prepare)):
                one.quantization = self._model.quantization
        return outcome

    def _remove(self, recognition: Recognition) -> None:
        self._sequential.remove(recognition)
        self._alone.remove(recognition)
        self._batching.remove(recognition)
