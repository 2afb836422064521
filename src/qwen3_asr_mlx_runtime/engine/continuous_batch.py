"""Decodes jobs together, each segment as a row of the batch."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence, prepare_next, with_language
from qwen3_asr_mlx_runtime.engines.fair_queue import FairQueue
from qwen3_asr_mlx_runtime.model.batch import Batch, Row
from qwen3_asr_mlx_runtime.model.decoder import PREFILL_BLOCK
from qwen3_asr_mlx_runtime.model.drift import Drift
from qwen3_asr_mlx_runtime.model.language import LanguageChoice
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class _RowOwner(NamedTuple):
    """The job and segment that a row's tokens belong to. `choice`: of its language, if it was chosen."""

    recognition: JobSequence
    segment: int
    choice: LanguageChoice | None = None


class ContinuousBatch:
    """Each `step` is one decoder step of all rows. Segments join as soon as there is room; segments that wait together
    join together. `decode_alone` gets the segments that must not be decoded in a batch, or not again; `repair` what
    ended in a loop."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        governor: Governor,
        drift: Drift,
        decode_alone: Callable[[JobSequence, int], None],
        repair: Callable[[JobSequence, int, DecodedSegment], None],
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._governor = governor
        self._drift = drift
        self._decode_alone = decode_alone
        self._repair = repair
        self._waiting: FairQueue[JobSequence] = FairQueue(
            lambda recognition: recognition.job.lane
        )  # jobs with unprepared segments
        self._unnamed: FairQueue[_RowOwner] = FairQueue(
            lambda owner: owner.recognition.job.lane
        )  # prepared, their languages are still to be chosen
        self._ready: dict[Row, _RowOwner] = {}  # not in the batch yet
        self._rows: dict[Row, _RowOwner] = {}
        self._batch = Batch(model, tokenizer.eos_ids)
        self._prepares = False  # in the previous step

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting or self._unnamed or self._ready or self._rows)

    def add(self, recognition: JobSequence) -> None:
        if recognition.segments:
            self._drift.try_again()
            self._waiting.append(recognition)

    def remove(self, recognition: JobSequence) -> None:
        self._waiting.remove(recognition)
        for owner in [owner for owner in self._unnamed if owner.recognition is recognition]:
            self._unnamed.remove(owner)
        self._ready = {row: owner for row, owner in self._ready.items() if owner.recognition is not recognition}
        for row in [row for row, owner in self._rows.items() if owner.recognition is recognition]:
            self._batch.leave(row)
            del self._rows[row]

    def step(self) -> None:
        """Prepare segments while there is room, then let them join, then decode. Running rows decode between two
        preparations, and an interactive segment does not wait for others to be prepared."""
        room = self._max_rows() - len(self._rows) - len(self._ready)
        urgent = bool(self._rows) or any(owner.recognition.job.interactive for owner in self._ready.values())
        waits = bool(self._unnamed) or (room > 0 and bool(self._waiting))
        self._prepares = waits and not (urgent and self._prepares)
        if self._prepares:
            if room > 0 and self._waiting_goes_first():
                self._prepare(room if self._preparation.packs else 1)
            elif (owner := self._unnamed.take()) is not None:
                self._choose_language(owner)
            return
        if self._measures():
            return
        if not self._advance():
            self._disband()

    def _waiting_goes_first(self) -> bool:
        """Whether a segment is prepared before a language is chosen: where none is to be chosen, or only of files while
        an interactive segment waits."""
        waits = any(recognition.job.interactive for recognition in self._waiting)
        return not self._unnamed or (waits and not any(owner.recognition.job.interactive for owner in self._unnamed))

    def _advance(self) -> bool:
        """Decode one step; False if the batch failed. The failed batch's arrays are free once this has returned."""
        try:
            self._join()
            self._decode()
        except Exception:  # noqa: BLE001 after any failure each row is decoded alone
            return False
        return True

    def _measures(self) -> bool:
        """Whether this step measured the drift, which a guarded row waits for."""
        owners = (*self._ready.values(), *self._rows.values())
        if not any(owner.recognition.job.drift_guard for owner in owners) or self._drift.is_known(self._positions):
            return False
        self._drift.step(self._positions)
        return True

    @property
    def _positions(self) -> int:
        """The maximal length of any row."""
        return max(self._batch.capacity, *(row.max_length for row in (*self._ready, *self._rows)), 1)

    def _max_rows(self) -> int:
        """The number of rows that fit in memory even if each uses its whole budget."""
        return self._governor.rows(self._positions)

    def _prepare(self, room: int) -> None:
        """Prepare interactive segments only with each other, so that they do not wait for the audio of files."""
        first = self._waiting.choose()
        if first is None:
            return
        alike = (job for job in self._waiting if job is not first and job.job.interactive == first.job.interactive)
        group = [first, *islice(alike, room - 1)]
        for recognition in group:
            self._waiting.remove(recognition)
        before = [recognition.prepared for recognition in group]
        prepare_next(group, self._preparation)
        for recognition, index in zip(group, before, strict=True):
            if recognition.unprepared is not None:
                self._waiting.append(recognition)
            if index in recognition.inputs:
                self._take_prepared(_RowOwner(recognition, index), recognition.inputs[index])

    def _take_prepared(self, owner: _RowOwner, decoder_input: DecoderInput) -> None:
        if decoder_input.embeddings.shape[1] > PREFILL_BLOCK:
            self._decode_alone(owner.recognition, owner.segment)
        elif decoder_input.names:
            self._unnamed.append(owner)
        else:
            utterance, terms = owner.recognition.job.utterance, decoder_input.terms
            row = Row(decoder_input.embeddings, decoder_input.max_new_tokens, terms=terms, logprobs=utterance.logprobs)
            self._ready[row] = owner

    def _choose_language(self, owner: _RowOwner) -> None:
        """The row has its own prefill, that of decoding alone."""
        recognition, index, _ = owner
        named: DecoderInput | None
        try:
            with recognition.watch.stage("prefill"):
                named = with_language(self._model, recognition.inputs[index])
        except Exception:  # noqa: BLE001 after any failure the row is decoded alone
            named = None
        if named is None:
            mx.clear_cache()
            recognition.redecoded += 1
            self._decode_alone(recognition, index)
            return
        margin = math.inf if named.choice is None else named.choice.margin
        logprobs = recognition.job.utterance.logprobs
        row = Row(named.embeddings, named.max_new_tokens, named.cache, margin, terms=named.terms, logprobs=logprobs)
        self._ready[row] = _RowOwner(recognition, index, named.choice)

    def _join(self) -> None:
        """Let as many rows join as fit, at least one."""
        room = max(self._max_rows() - len(self._rows), 0 if self._rows else 1)
        joining = dict(islice(self._ready.items(), room))
        if joining:
            self._ready = {row: owner for row, owner in self._ready.items() if row not in joining}
            self._rows |= joining
            self._guard()
            with _shared("prefill", joining):
                self._batch.join(joining)

    def _guard(self) -> None:
        """Set the margins again: a long row may change the kernels, and so the drift, of all rows."""
        for row, owner in self._rows.items():
            row.min_margin = self._drift.margin(self._positions) if owner.recognition.job.drift_guard else 0.0

    def _decode(self) -> None:
        with _shared("continuation", self._rows):
            ended = self._batch.step()
        for row in ended:
            self._settle(row, self._rows[row])
            del self._rows[row]  # only now: if settling fails, `_disband` decodes this row alone

    def _settle(self, row: Row, owner: _RowOwner) -> None:
        recognition, index, choice = owner
        if row.error is not None and not recognition.job.drift_guard:
            recognition.error = row.error
            return
        if row.error is None and not row.low_margin:
            segment = recognition.segments[index]
            decoded = replace(recognition.inputs[index], choice=choice).decoded(row.tokens, self._tokenizer)
            if not echo.is_suspect(segment.utterance, segment.samples, decoded):
                add = self._repair if decoded.finish_reason == "repetition" else JobSequence.add_decoded
                add(recognition, index, decoded)
                return
        recognition.redecoded += 1
        self._decode_alone(recognition, index)

    def _disband(self) -> None:
        rows, self._rows = self._rows, {}
        self._batch = Batch(self._model, self._tokenizer.eos_ids)
        mx.clear_cache()
        for recognition, index, _ in rows.values():
            recognition.redecoded += 1
            self._decode_alone(recognition, index)


@contextmanager
def _shared(stage: str, rows: Mapping[Row, _RowOwner]) -> Iterator[None]:
    """Give each row an equal part of the time that all share."""
    watches = [owner.recognition.watch for owner in rows.values()]
    started = time.perf_counter()
    yield
    seconds = (time.perf_counter() - started) / max(1, len(watches))
    for watch in watches:
        watch.add(stage, seconds)
