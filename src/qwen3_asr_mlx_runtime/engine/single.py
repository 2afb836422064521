"""Jobs decoded one after the other, each segment in a cache of its own."""

from itertools import islice

from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence, Steps, decode, failure, prepare_next
from qwen3_asr_mlx_runtime.engines.fair_queue import FairQueue
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

_MAX_PACKED = 8  # segments that go through the tower together


class SingleDecoder:
    """One decoder step for each `step`, of the recognition whose turn it is."""

    def __init__(self, model: Qwen3ASR, tokenizer: Tokenizer, preparation: Preparation) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._queue: FairQueue[tuple[JobSequence, Steps]] = FairQueue(lambda entry: entry[0].job.lane)

    @property
    def is_busy(self) -> bool:
        return bool(self._queue)

    def add(self, recognition: JobSequence, live: Steps | None = None) -> None:
        """`live`: the steps that end an utterance of which partials were computed."""
        steps = self._all_segments(recognition) if live is None else self._ended(recognition, live)
        self._queue.append((recognition, steps))

    def add_segment(self, recognition: JobSequence, index: int) -> None:
        """Decode one segment that was prepared for a batch."""
        self._queue.append((recognition, self._again(recognition, index)))

    def remove(self, recognition: JobSequence) -> None:
        for entry in [entry for entry in self._queue if entry[0] is recognition]:
            self._queue.remove(entry)

    def step(self) -> None:
        entry = self._queue.choose()
        if entry is None:
            return
        recognition, steps = entry
        try:
            next(steps)
        except StopIteration:
            self._queue.remove(entry)
        except Exception as error:  # noqa: BLE001 the one boundary of decoding: the guilty job fails, the engine goes on
            self._queue.remove(entry)
            recognition.error = failure(error)

    def _ended(self, recognition: JobSequence, live: Steps) -> Steps:
        try:
            yield from live
            return
        except Exception:  # noqa: BLE001 whatever it provokes: from the beginning it has another chance
            del live  # with all that it kept, which may be what there was no room for
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
        """The next files in the queue of which nothing is prepared: they are prepared together with it. An interactive
        job has none: it would wait for the others' audio, and its last bits would depend on it."""
        if recognition.job.interactive or not self._preparation.packs:
            return []
        others = (one for one, _ in self._queue if one is not recognition and not one.job.interactive)
        return list(islice((one for one in others if one.segments and not one.prepared), _MAX_PACKED - 1))

    def _again(self, recognition: JobSequence, index: int) -> Steps:
        if self._preparation.packs:
            [made] = self._preparation.prepare([recognition.segments[index]])
            if isinstance(made, BridgeError):
                raise made
            recognition.inputs[index] = made
            yield
        yield from self._segment(recognition, index)

    def _segment(self, recognition: JobSequence, index: int) -> Steps:
        tokens = yield from decode(
            self._model,
            self._tokenizer.eos_ids,
            recognition.inputs[index],
            recognition.watch,
            logprobs=recognition.job.utterance.logprobs,
        )
        recognition.written(index, tokens, self._tokenizer.decode(token.id for token in tokens))
