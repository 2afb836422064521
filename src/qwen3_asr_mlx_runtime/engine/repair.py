"""Repairs a segment that ended in a loop: cut at its quietest place, it is decoded again in two parts, once."""

from collections.abc import Generator
from dataclasses import replace

from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.prepare import Preparation, Segment
from qwen3_asr_mlx_runtime.engine.sequence import decode_alone, failure
from qwen3_asr_mlx_runtime.engines.quiet import quiet_middle
from qwen3_asr_mlx_runtime.errors import BridgeError, NonFiniteOutput, OutOfMemory
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

MIN_SECONDS = 4.0  # a shorter segment is not cut


class LoopRepair:
    """Depends on the samples and options of the segment alone, so it gives the same text in every mode."""

    def __init__(self, model: Qwen3ASR, tokenizer: Tokenizer, preparation: Preparation) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._preparation = preparation

    def steps(self, segment: Segment, decoded: DecodedSegment) -> Generator[None, None, DecodedSegment]:
        """The same result, with parts if it ended in a loop, and memory and length allow them. The parts of a text
        whose echo was dropped have no context and terms either."""
        if decoded.finish_reason != "repetition" or segment.seconds < MIN_SECONDS:
            return decoded
        if decoded.context_echo:
            segment = segment.without_words
        cut = quiet_middle(segment.samples)
        try:
            first = yield from self._decode(replace(segment, samples=segment.samples[:cut]))
            second = yield from self._decode(replace(segment, samples=segment.samples[cut:]))
        except Exception as error:
            if isinstance(failure(error), OutOfMemory | NonFiniteOutput):
                return decoded
            raise
        return replace(decoded, cut=cut, parts=(first, second))

    def _decode(self, part: Segment) -> Generator[None, None, DecodedSegment]:
        [prepared] = self._preparation.prepare([part])
        if isinstance(prepared, BridgeError):
            raise prepared
        yield
        return (yield from decode_alone(self._model, self._tokenizer, self._preparation, part, prepared))
