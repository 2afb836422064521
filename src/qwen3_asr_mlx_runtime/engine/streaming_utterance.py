"""One open utterance: its partials, and a final that equals the transcript of the whole utterance.

It is cut into segments exactly as the whole utterance would be. The open segment keeps its audio embeddings, the
decoder's keys and values of its closed windows, and the latest text. A partial runs the open window and that text.
"""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation, Segment
from qwen3_asr_mlx_runtime.engine.repair import LoopRepair
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence, Steps, decode_alone, timed
from qwen3_asr_mlx_runtime.engine.streaming_segment import StreamingSegment
from qwen3_asr_mlx_runtime.engines.api import Finalize, Partial, Provisional
from qwen3_asr_mlx_runtime.engines.lengths import frame_count
from qwen3_asr_mlx_runtime.engines.profile import Reuse, Stopwatch
from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, join_languages, join_segments
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.speculative import DraftResult
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer


class EndedSegment(NamedTuple):
    """A segment with its final text; `verified` of its tokens were in the draft."""

    decoded: DecodedSegment
    verified: int


class StreamingUtterance:
    """`first`: its first Partial, whose options apply to all."""

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
        self._repair = LoopRepair(model, tokenizer, preparation)
        self._first = first
        self._reuse = Reuse()  # of the ended segments
        self._ended: list[EndedSegment] = []
        self._start = 0  # of the open segment, in samples
        self._samples = NO_SAMPLES  # of the open segment
        self._segment = self._new_segment()

    @property
    def nbytes(self) -> int:
        """The size of the caches beside the samples."""
        return self._segment.nbytes

    @property
    def sample_count(self) -> int:
        return self._start + len(self._samples)

    @property
    def reuse(self) -> Reuse:
        total = Reuse()
        total.add(self._reuse)
        total.add(self._segment.audio.reuse)
        return total

    def append(self, samples: Samples) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def drop(self) -> None:
        """Evict everything that can be computed again."""
        self._segment.drop()

    def serves(self, request: Finalize | Provisional) -> bool:
        """Whether the final has the same options as the partials."""
        first = self._first
        requested = (request.language, request.languages, request.context, request.terms, request.max_new_tokens)
        return requested == (first.language, first.languages, first.context, first.terms, first.max_new_tokens)

    def partial(self, watch: Stopwatch) -> Generator[None, None, Hypothesis]:
        """A hypothesis of the audio so far. Yields between forward passes. All of its work counts on `watch`."""
        self._admit(watch)
        yield from self._cut(watch)
        result = DraftResult()
        if frame_count(len(self._samples)):
            decoder_input = yield from self._segment.prepare(self._samples, watch)
            steps = self._segment.decode(decoder_input, self._tokenizer.eos_ids, logprobs=True)
            result = yield from timed(steps, watch, _decoding())
        return self._hypothesis(result, watch)

    def finish(self, recognition: JobSequence) -> Steps:
        """The final: all segments of the whole utterance."""
        recognition.verified = 0
        self._admit(recognition.watch)
        yield from self._cut(recognition.watch)
        if frame_count(len(self._samples)):
            logprobs = recognition.job.utterance.logprobs
            self._ended.append((yield from self._decode(self._samples, recognition.watch, logprobs=logprobs)))
        self._report(recognition, self._ended)

    def provisional(self, recognition: JobSequence, tail: Samples) -> Steps:
        """The final, if the utterance ended here, behind `tail`: it stays open. Raises ValueError where more samples
        came before the first step, or where that final has another cut."""
        recognition.verified = 0
        self._admit(recognition.watch)
        if self.sample_count + len(tail) != len(recognition.job.utterance.samples):
            raise ValueError("the utterance has grown")
        yield from self._cut(recognition.watch)
        samples = np.concatenate([self._samples, tail])
        segments = [*self._ended]
        try:
            if len(split_at_quiet(samples, self._preparation.max_segment_seconds)) > 1:
                raise ValueError("the tail is cut off")
            if frame_count(len(samples)):
                logprobs = recognition.job.utterance.logprobs
                segments.append((yield from self._decode(samples, recognition.watch, logprobs=logprobs)))
        finally:
            if len(tail):  # other samples will follow in its place
                self._segment.drop()
        self._report(recognition, segments)

    def _report(self, recognition: JobSequence, segments: Sequence[EndedSegment]) -> None:
        recognition.decoded = dict(enumerate(segment.decoded for segment in segments))
        recognition.verified = sum(segment.verified for segment in segments)
        recognition.reuse = self.reuse

    def _cut(self, watch: Stopwatch) -> Steps:
        """End the segments that no longer grow."""
        while len(spans := split_at_quiet(self._samples, self._preparation.max_segment_seconds)) > 1:
            _, stop = spans[0]
            if frame_count(stop):
                self._ended.append((yield from self._decode(self._samples[:stop], watch)))
            self._samples = self._samples[stop:]
            self._start += stop
            self._reuse.add(self._segment.audio.reuse)
            self._segment = self._new_segment()

    def _decode(
        self, samples: Samples, watch: Stopwatch, *, logprobs: bool = True
    ) -> Generator[None, None, EndedSegment]:
        """The final of the open segment. `logprobs`: whether the request wants log-probabilities, or may want them."""
        decoder_input = yield from self._segment.prepare(samples, watch)
        margin = yield from self._margin()
        steps = self._segment.decode(decoder_input, self._tokenizer.eos_ids, margin=margin, logprobs=logprobs)
        result = yield from timed(steps, watch, _decoding())
        segment = self._plain_segment(samples, watch, logprobs=logprobs)
        decoded, verified = replace(decoder_input, choice=result.choice).decoded(result.tokens, self._tokenizer), 0
        if result.low_margin or echo.is_suspect(segment.utterance, samples, decoded):
            decoded = yield from self._alone(decoder_input, segment)
        else:
            verified = result.verified
        decoded = yield from self._repair.steps(segment, decoded)
        return EndedSegment(decoded, 0 if decoded.parts else verified)

    def _margin(self) -> Generator[None, None, float]:
        """The margin below which a verified token is not trusted. Measured now, step by step, if it is unknown."""
        while not self._drift.is_known:
            self._drift.step()
            yield
        return self._drift.margin

    def _alone(self, decoder_input: DecoderInput, segment: Segment) -> Generator[None, None, DecodedSegment]:
        """Decode token by token, like the whole utterance. If the tower packs segments, so that last bits depend on the
        batch, the audio is also encoded again like that of the whole utterance."""
        if self._preparation.packs:
            [prepared] = self._preparation.prepare([segment])
            if not isinstance(prepared, DecoderInput):
                raise prepared
            decoder_input = prepared
            yield
        return (yield from decode_alone(self._model, self._tokenizer, self._preparation, segment, decoder_input))

    def _plain_segment(self, samples: Samples, watch: Stopwatch, *, logprobs: bool = False) -> Segment:
        first = self._first
        asked = (first.language, first.context, first.max_new_tokens, logprobs, first.languages)
        return Segment(Utterance(samples, *asked, terms=first.terms), samples, watch)

    def _admit(self, watch: Stopwatch) -> None:
        """Raise OutOfMemory if a segment of maximal length does not fit."""
        longest = int(self._preparation.max_segment_seconds * SAMPLE_RATE)
        segment = self._plain_segment(self._samples[-longest:], watch)
        try:
            self._preparation.admit([segment])
        except OutOfMemory:
            self.drop()  # the caches may be what fills the memory
            self._preparation.admit([segment])

    def _new_segment(self) -> StreamingSegment:
        return StreamingSegment(self._model, self._preparation, self._first)

    def _hypothesis(self, draft: DraftResult, watch: Stopwatch) -> Hypothesis:
        written = self._tokenizer.decode(draft.ids).rstrip("\ufffd")
        latest = DecodedSegment(written, draft.tokens, 0, 0, draft.choice)
        segments = [*(part for ended in self._ended for part in ended.decoded.last), latest]
        parsed = [segment.parsed(self._first.language) for segment in segments]
        return Hypothesis(
            text=join_segments([text for _, text in parsed]),
            language=join_languages([language for language, _ in parsed]),
            audio_seconds=round(self.sample_count / SAMPLE_RATE, 4),
            tokens=len(draft.tokens),
            verified=draft.verified,
            seconds=watch.busy,
            probability=self._last_probability(draft) if parsed[-1][1] else None,
        )

    def _last_probability(self, draft: DraftResult) -> float | None:
        """Of the last token with a text."""
        logprobs = [token.logprob for token in draft.tokens if token.id not in self._tokenizer.eos_ids]
        return round(math.exp(logprobs[-1]), 4) if logprobs and logprobs[-1] is not None else None


def _decoding() -> Iterable[str]:
    """The stages of decoding with a draft: the first pass, started and read in two steps, is the prefill."""
    return chain(repeat("prefill", 2), repeat("continuation"))
