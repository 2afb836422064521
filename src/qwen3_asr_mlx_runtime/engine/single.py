"""Decodes jobs one after the other, each segment with its own cache."""

from itertools import islice

from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.repair import LoopRepair
from qwen3_asr_mlx_runtime.engine.sequence import (
    JobSequence,
    Steps,
    decode_alone,
    failure,
    prepare_next,
)
from qwen3_asr_mlx_runtime.engines.api import Job
from qwen3_asr_mlx_runtime.engines.fair_queue import FairQueue
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

_MAX_PACKED = 8  # segments that go through the tower together, at most


class SingleDecoder:
    """Each `step` is one decoder step of the job whose turn it is."""

    def __init__(self, model: Qwen3ASR, tokenizer: Tokenizer, preparation: Preparation) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._repair = LoopRepair(model, tokenizer, preparation)
        self._queue: FairQueue[tuple[JobSequence, Steps]] = FairQueue(lambda entry: entry[0].job.lane)

    @property
    def is_busy(self) -> bool:
        return bool(self._queue)

    def add(self, recognition: JobSequence, streaming: Steps | None = None) -> None:
        """`streaming`: the steps that finish an utterance with partials."""
        steps = self._all_segments(recognition) if streaming is None else self._finish(recognition, streaming)
        self._queue.append((recognition, steps))

    def add_segment(self, recognition: JobSequence, index: int) -> None:
        """Decode alone a segment that was prepared for a batch."""
        self._queue.append((recognition, self._again(recognition, index)))

    def add_decoded(self, recognition: JobSequence, index: int, decoded: DecodedSegment) -> None:
        """Take what a batch has decoded, and repair it if it ended in a loop."""
        self._queue.append((recognition, self._finish_segment(recognition, index, decoded)))

    def remove(self, recognition: JobSequence) -> None:
        for entry in [entry for entry in self._queue if entry[0] is recognition]:
            self._queue.remove(entry)
            entry[1].close()

    def hand_over(self, recognition: JobSequence, job: Job, other: "SingleDecoder") -> None:
        """Another decoder goes on with it, as `job`."""
        entries = [entry for entry in self._queue if entry[0] is recognition]
        for entry in entries:
            self._queue.remove(entry)
        recognition.job = job
        for entry in entries:
            other._queue.append(entry)

    def step(self) -> None:
        entry = self._queue.choose()
        if entry is None:
            return
        recognition, steps = entry
        try:
            next(steps)
        except StopIteration:
            self._queue.remove(entry)
        except Exception as error:  # noqa: BLE001 the boundary of decoding: only the faulty job fails
            self._queue.remove(entry)
            recognition.error = failure(error)

    def _finish(self, recognition: JobSequence, streaming: Steps) -> Steps:
        try:
            yield from streaming
            return
        except Exception:  # noqa: BLE001 after any failure decode from the beginning
            del streaming  # releases its caches, which may be what filled the memory
        yield from self._all_segments(recognition)

    def _all_segments(self, recognition: JobSequence) -> Steps:
        for index in range(len(recognition.segments)):
            if index >= recognition.prepared:
                prepare_next([recognition, *self._followers(recognition)], self._preparation)
                yield
            if recognition.error is not None:
                return
            yield from self._segment(recognition, index)

    def _followers(self, recognition: JobSequence) -> list[JobSequence]:
        """The next unprepared files in the queue, to prepare together with this one. None for an interactive job: it
        would wait for the others' audio, and its last bits would depend on it."""
        if recognition.job.interactive or recognition.job.provisional or not self._preparation.packs:
            return []
        others = (other for other, _ in self._queue if other is not recognition and not other.job.interactive)
        return list(islice((other for other in others if other.segments and not other.prepared), _MAX_PACKED - 1))

    def _again(self, recognition: JobSequence, index: int) -> Steps:
        if self._preparation.packs:
            [decoder_input] = self._preparation.prepare([recognition.segments[index]])
            if isinstance(decoder_input, BridgeError):
                raise decoder_input
            recognition.inputs[index] = decoder_input
            yield
        yield from self._segment(recognition, index)

    def _segment(self, recognition: JobSequence, index: int) -> Steps:
        segment, decoder_input = recognition.segments[index], recognition.inputs[index]
        decoded = yield from decode_alone(self._model, self._tokenizer, self._preparation, segment, decoder_input)
        yield from self._finish_segment(recognition, index, decoded)

    def _finish_segment(self, recognition: JobSequence, index: int, decoded: DecodedSegment) -> Steps:
        repaired = yield from self._repair.steps(recognition.segments[index], decoded)
        recognition.add_decoded(index, repaired)
