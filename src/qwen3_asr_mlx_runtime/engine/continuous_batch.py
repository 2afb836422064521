"""Jobs decoded together, each segment a row of the batch."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence, prepare_next
from qwen3_asr_mlx_runtime.engines.fair_queue import FairQueue
from qwen3_asr_mlx_runtime.model.batch import Batch, Row
from qwen3_asr_mlx_runtime.model.decoder import PREFILL_BLOCK
from qwen3_asr_mlx_runtime.model.drift import Drift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class _Place(NamedTuple):
    """Where the tokens of a row belong."""

    recognition: JobSequence
    segment: int


class ContinuousBatch:
    """One decoder step of all rows for each `step`. Segments join as soon as there is room, and those that wait
    together join together. `alone` takes what is not to be decoded in a batch, or not again."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: Drift,
        alone: Callable[[JobSequence, int], None],
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._governor = governor
        self._drift = drift
        self._alone = alone
        self._waiting: FairQueue[JobSequence] = FairQueue(
            lambda recognition: recognition.job.lane
        )  # with segments that are not prepared
        self._ready: dict[Row, _Place] = {}  # prepared, not joined
        self._rows: dict[Row, _Place] = {}
        self._batch = Batch(model, tokenizer.eos_ids)
        self._prepares = False  # in the step before

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or self._ready or self._rows)

    def add(self, recognition: JobSequence) -> None:
        if recognition.segments:
            self._drift.try_again()
            self._waiting.append(recognition)

    def remove(self, recognition: JobSequence) -> None:
        self._waiting.remove(recognition)
        self._ready = {row: place for row, place in self._ready.items() if place.recognition is not recognition}
        for row in [row for row, place in self._rows.items() if place.recognition is recognition]:
            self._batch.leave(row)
            del self._rows[row]

    def step(self) -> None:
        """Prepare what has room, and when no more waits, let it join; then decode. Rows that are under way decode in
        between, and a live one does not wait for others to be prepared."""
        room = self._most_rows() - len(self._rows) - len(self._ready)
        urgent = bool(self._rows) or any(place.recognition.job.interactive for place in self._ready.values())
        self._prepares = room > 0 and bool(self._waiting) and not (urgent and self._prepares)
        if self._prepares:
            self._prepare(room if self._preparation.packs else 1)
            return
        if self._measures():
            return
        if not self._advance():
            self._disband()

    def _advance(self) -> bool:
        """False where the batch could not go on. What it held is free once this has returned."""
        try:
            self._join()
            self._decode()
        except Exception:  # noqa: BLE001 whatever a batch provokes: each row has another chance, alone
            return False
        return True

    def _measures(self) -> bool:
        """Whether this step went into measuring the drift, for which a guarded row waits."""
        places = (*self._ready.values(), *self._rows.values())
        if not any(place.recognition.job.drift_guard for place in places) or self._drift.is_known(self._positions):
            return False
        self._drift.step(self._positions)
        return True

    @property
    def _positions(self) -> int:
        """The most that a row may come to have."""
        return max(self._batch.capacity, *(row.most for row in (*self._ready, *self._rows)), 1)

    def _most_rows(self) -> int:
        """For which there is memory even if each writes all that it may."""
        return self._governor.rows(self._positions)

    def _prepare(self, room: int) -> None:
        """Live segments only with each other: they are not to wait for the audio of files."""
        first = self._waiting.choose()
        if first is None:
            return
        alike = (one for one in self._waiting if one is not first and one.job.interactive == first.job.interactive)
        group = [first, *islice(alike, room - 1)]
        for one in group:
            self._waiting.remove(one)
        before = [one.prepared for one in group]
        prepare_next(group, self._preparation)
        for recognition, index in zip(group, before, strict=True):
            if recognition.unprepared is not None:
                self._waiting.append(recognition)
            if index in recognition.inputs:
                self._place(recognition, index)

    def _place(self, recognition: JobSequence, index: int) -> None:
        made = recognition.inputs[index]
        if made.embeddings.shape[1] > PREFILL_BLOCK:
            self._alone(recognition, index)
            return
        row = Row(made.embeddings, made.max_new_tokens)
        self._ready[row] = _Place(recognition, index)

    def _join(self) -> None:
        """As many as fit; one fits always."""
        room = max(self._most_rows() - len(self._rows), 0 if self._rows else 1)
        joining = dict(islice(self._ready.items(), room))
        if joining:
            self._ready = {row: place for row, place in self._ready.items() if row not in joining}
            self._rows |= joining
            self._guard()
            with _shared("prefill", joining):
                self._batch.join(joining)

    def _guard(self) -> None:
        """A long row may change the kernels, and so the drift, of all."""
        for row, place in self._rows.items():
            row.least_margin = self._drift.margin(self._positions) if place.recognition.job.drift_guard else 0.0

    def _decode(self) -> None:
        with _shared("continuation", self._rows):
            ended = self._batch.step()
        for row in ended:
            self._settle(row, *self._rows[row])
            del self._rows[row]  # not before: one that could not be settled is among those that are disbanded

    def _settle(self, row: Row, recognition: JobSequence, index: int) -> None:
        if row.error is not None and not recognition.job.drift_guard:
            recognition.error = row.error
        elif row.error is not None or row.suspect:
            recognition.redecoded += 1
            self._alone(recognition, index)
        else:
            recognition.written(index, row.tokens, self._tokenizer.decode(token.id for token in row.tokens))

    def _disband(self) -> None:
        rows, self._rows = self._rows, {}
        self._batch = Batch(self._model, self._tokenizer.eos_ids)
        mx.clear_cache()
        for recognition, index in rows.values():
            recognition.redecoded += 1
            self._alone(recognition, index)


@contextmanager
def _shared(stage: str, rows: Mapping[Row, _Place]) -> Iterator[None]:
    """Give each row an equal part of the time that they share."""
    watches = [place.recognition.watch for place in rows.values()]
    started = time.perf_counter()
    yield
    seconds = (time.perf_counter() - started) / max(1, len(watches))
    for watch in watches:
        watch.add(stage, seconds)
