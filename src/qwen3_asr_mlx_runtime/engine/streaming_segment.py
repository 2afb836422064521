"""A segment of an open utterance: its audio embeddings, its decoder cache, its latest text."""

from collections.abc import Generator, Sequence
from itertools import takewhile

import mlx.core as mx

from qwen3_asr_mlx_runtime.engine.incremental_encoder import IncrementalEncoder
from qwen3_asr_mlx_runtime.engine.prepare import DecoderInput, Preparation
from qwen3_asr_mlx_runtime.engine.sequence import with_language
from qwen3_asr_mlx_runtime.engines.api import Partial
from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.model.blocks import block_ends
from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.generate import prefill
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.speculative import DraftResult, decode_with_draft
from qwen3_asr_mlx_runtime.model.splice import splice


class StreamingSegment:
    """The audio since the last cut, decoded separately. `ids`: the tokens of its latest text."""

    def __init__(self, model: Qwen3ASR, preparation: Preparation, first: Partial) -> None:
        self.ids: list[int] = []
        self.audio = IncrementalEncoder(model.audio_tower, model.dtype)
        self._model = model
        self._preparation = preparation
        self._first = first
        self._cache: list[KVCache] | None = None
        self._cached: list[mx.array] = []

    @property
    def nbytes(self) -> int:
        return self.audio.nbytes + sum(layer.keys.nbytes + layer.values.nbytes for layer in self._cache or ())

    def drop(self) -> None:
        """Evict everything that can be computed again from the samples."""
        self._cache, self._cached = None, []
        self.audio.drop()

    def prepare(self, samples: Samples, watch: Stopwatch) -> Generator[None, None, DecoderInput]:
        """All its samples so far → the prompt, and the cache of its unchanged beginning. Raises InvalidParams for a
        context that does not fit."""
        model, prompt = self._model, self._preparation.prompt(self._first)
        length = prompt.length(audio_token_count(frame_count(len(samples))))
        budget = self._preparation.budget(self._first.max_new_tokens, len(samples) / SAMPLE_RATE, length)
        embedded = yield from self.audio.embed(samples, watch)
        with watch.stage("prompt_assembly"):
            audio = mx.concatenate([*embedded.windows, *embedded.open])
            embeddings = splice(model.embed(prompt.prefix_ids), audio, model.embed(prompt.suffix_ids))
        head = len(prompt.prefix_ids)
        cache = self._cache_of(embedded.windows, head)
        self.audio.reuse.positions += cache[0].offset
        self.audio.reuse.of_positions += length
        blocks = block_ends(head, len(embedded.windows), self._window_tokens)
        counts = embedded.frames, audio.shape[0]
        return DecoderInput(embeddings, budget, *counts, blocks, cache, prompt.names, terms=prompt.terms)

    def _cache_of(self, windows: list[mx.array], head: int) -> list[KVCache]:
        """The cache, rewound to the end of the windows that are still the same arrays. `_cached`: the windows of the
        latest fill, also if that fill was interrupted."""
        pairs = zip(windows, self._cached, strict=False)
        same = len([*takewhile(lambda pair: pair[0] is pair[1], pairs)])
        if self._cache is None:
            self._cache = self._model.make_cache(1)
        _rewind(self._cache, block_ends(head, same, self._window_tokens))
        self._cached = windows
        return self._cache

    @property
    def _window_tokens(self) -> int:
        return audio_token_count(self._model.audio_tower.window_frames)

    def decode(
        self, decoder_input: DecoderInput, eos_ids: frozenset[int], *, margin: float = 0.0, logprobs: bool = False
    ) -> Generator[None, None, DraftResult]:
        """Decode with the latest text as the draft."""
        cache = decoder_input.cache or []
        for layer in cache:
            layer.reserve(decoder_input.embeddings.shape[1])
        for end in decoder_input.blocks:
            if cache[0].offset < end:
                mx.eval(prefill(self._model, decoder_input.embeddings[:, cache[0].offset : end], cache))
                yield
        named = with_language(self._model, decoder_input)
        if named.choice is not None:
            yield
        if named.choice is not None and named.choice.margin < margin:
            _rewind(cache, decoder_input.blocks)
            return DraftResult(low_margin=True)
        result = yield from decode_with_draft(
            self._model,
            named.embeddings[:, cache[0].offset :],
            cache,
            self.ids,
            eos_ids,
            decoder_input.max_new_tokens,
            margin=margin,
            logprobs=logprobs,
            terms=named.terms,
        )
        result.choice = named.choice
        _rewind(cache, decoder_input.blocks)
        self.audio.reuse.tokens += result.verified
        self.audio.reuse.of_tokens += len(result.tokens)
        if not result.low_margin:
            self.ids = result.ids
        return result


def _rewind(cache: Sequence[KVCache], blocks: tuple[int, ...]) -> None:
    for layer in cache:
        layer.rewind(blocks[-1] if blocks else 0)
