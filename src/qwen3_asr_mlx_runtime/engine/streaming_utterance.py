"""One open utterance: its partials, and at its end the transcript that the whole would get.

It is cut into segments where the whole would be cut. Of each segment the audio embeddings, the decoder's keys and
values of its closed windows, and the latest text are kept; a partial runs the open window and that text again.
"""

from collections.abc import Generator, Iterable
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from qwen3_asr_mlx_runtime.audio.recording import split_at_quiet
from qwen3_asr_mlx_runtime.engine.assemble import Piece
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation, Segment
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence, Steps, decode, timed
from qwen3_asr_mlx_runtime.engine.streaming_segment import StreamingSegment
from qwen3_asr_mlx_runtime.engines.api import Finalize, Partial
from qwen3_asr_mlx_runtime.engines.profile import Reuse, Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, join_languages, join_pieces, parse_transcript
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift
from qwen3_asr_mlx_runtime.model.features import frame_count
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.speculative import DraftResult
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class Ended(NamedTuple):
    """A segment with its whole text; `verified` of its tokens were in the draft."""

    piece: Piece
    verified: int


class StreamingUtterance:
    """`first`: its first Partial, whose options hold for all."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        preparation: Preparation,
        drift: StreamingDrift,
        first: Partial,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation
        self._drift = drift
        self._first = first
        self._reuse = Reuse()  # of the pieces that have ended
        self._ended: list[Ended] = []
        self._start = 0  # of the piece that is open, in samples
        self._samples = NO_SAMPLES  # of it
        self._piece = self._new_piece()

    @property
    def nbytes(self) -> int:
        """What is kept beside the samples."""
        return self._piece.nbytes

    @property
    def sample_count(self) -> int:
        return self._start + len(self._samples)

    @property
    def reuse(self) -> Reuse:
        total = Reuse()
        total.add(self._reuse)
        total.add(self._piece.audio.reuse)
        return total

    def append(self, samples: Samples) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def drop(self) -> None:
        """Evict everything that can be computed again."""
        self._piece.drop()

    def serves(self, request: Finalize) -> bool:
        """Whether the final has the options of the partials."""
        first = self._first
        requested = (request.language, request.context, request.max_new_tokens)
        return requested == (first.language, first.context, first.max_new_tokens)

    def partial(self) -> Generator[None, None, Hypothesis]:
        """A hypothesis of the audio so far. Yields between forward passes."""
        watch = Stopwatch()
        self._admit(watch)
        yield from self._cut(watch)
        written = DraftResult()
        if frame_count(len(self._samples)):
            made = yield from self._piece.prepare(self._samples, watch)
            written = yield from timed(self._piece.write(made, self._tokenizer.eos_ids), watch, _decoding())
        return self._hypothesis(written, watch)

    def finish(self, recognition: JobSequence) -> Steps:
        """The final: all segments of the whole utterance."""
        recognition.verified = 0
        self._admit(recognition.watch)
        yield from self._cut(recognition.watch)
        if frame_count(len(self._samples)):
            asked = recognition.job.utterance.logprobs
            yield from self._end_piece(self._samples, recognition.watch, logprobs=asked)
        recognition.pieces = dict(enumerate(ended.piece for ended in self._ended))
        recognition.verified = sum(ended.verified for ended in self._ended)
        recognition.reuse = self.reuse

    def _cut(self, watch: Stopwatch) -> Steps:
        """End the segments that can grow no more."""
        while len(spans := split_at_quiet(self._samples, self._preparation.max_piece_seconds)) > 1:
            _, stop = spans[0]
            if frame_count(stop):
                yield from self._end_piece(self._samples[:stop], watch)
            self._samples = self._samples[stop:]
            self._start += stop
            self._reuse.add(self._piece.audio.reuse)
            self._piece = self._new_piece()

    def _end_piece(self, samples: Samples, watch: Stopwatch, *, logprobs: bool = True) -> Steps:
        """`logprobs`: whether they are, or may be, asked for."""
        made = yield from self._piece.prepare(samples, watch)
        margin = yield from self._margin()
        steps = self._piece.write(made, self._tokenizer.eos_ids, margin=margin, logprobs=logprobs)
        written = yield from timed(steps, watch, _decoding())
        if written.low_margin:
            written = DraftResult((yield from self._alone(made, samples, watch, logprobs=logprobs)))
        raw_text = self._tokenizer.decode(token.id for token in written.tokens)
        self._ended.append(Ended(Piece(raw_text, written.tokens, made.frames, made.audio_tokens), written.verified))

    def _margin(self) -> Generator[None, None, float]:
        """Under which a verified token is not trusted. Measured now, step by step, if it was not yet."""
        while not self._drift.is_known:
            self._drift.step()
            yield
        return self._drift.margin

    def _alone(
        self, made: DecoderInput, samples: Samples, watch: Stopwatch, *, logprobs: bool
    ) -> Generator[None, None, list[Token]]:
        """Step by step, as the whole utterance would be. Where the bits depend on the company, also with audio
        embeddings that were made as those of the whole."""
        if self._preparation.packs:
            [prepared] = self._preparation.prepare([self._segment(samples, watch)])
            if not isinstance(prepared, DecoderInput):
                raise prepared
            made = prepared
            yield
        return (yield from decode(self._model, self._tokenizer.eos_ids, made, watch, logprobs=logprobs))

    def _segment(self, samples: Samples, watch: Stopwatch) -> Segment:
        first = self._first
        return Segment(Utterance(samples, first.language, first.context, first.max_new_tokens), samples, watch)

    def _admit(self, watch: Stopwatch) -> None:
        """Raise OutOfMemory where a piece as long as can be does not fit."""
        longest = int(self._preparation.max_piece_seconds * SAMPLE_RATE)
        segment = self._segment(self._samples[-longest:], watch)
        try:
            self._preparation.admit([segment])
        except OutOfMemory:
            self.drop()  # what is kept may be what there is no room for
            self._preparation.admit([segment])

    def _new_piece(self) -> StreamingSegment:
        return StreamingSegment(self._model, self._preparation, self._first)

    def _hypothesis(self, written: DraftResult, watch: Stopwatch) -> Hypothesis:
        raw_texts = [ended.piece.raw_text for ended in self._ended]
        raw_texts.append(self._tokenizer.decode(written.ids).rstrip("\ufffd"))
        parsed = [parse_transcript(raw_text, self._first.language) for raw_text in raw_texts]
        return Hypothesis(
            text=join_pieces([text for _, text in parsed]),
            language=join_languages([language for language, _ in parsed]),
            audio_seconds=round(self.sample_count / SAMPLE_RATE, 4),
            tokens=len(written.tokens),
            verified=written.verified,
            seconds=watch.busy,
        )


def _decoding() -> Iterable[str]:
    """The stages of a decoding with a draft: its first pass, begun and read, is the prefill."""
    return chain(repeat("prefill", 2), repeat("continuation"))
