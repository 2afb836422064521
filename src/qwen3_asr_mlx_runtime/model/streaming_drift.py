"""How far logits drift when an utterance is decoded as it grows instead of whole.

Its windows go through the tower one by one, its prompt through the decoder in blocks, and its text all at once instead
of token by token: products of other shapes, so the backend may add up in another order.
"""

from collections.abc import Generator

import mlx.core as mx

from qwen3_asr_mlx_runtime.model.audio_encoder import audio_token_count
from qwen3_asr_mlx_runtime.model.blocks import block_ends
from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.drift import Margin
from qwen3_asr_mlx_runtime.model.generate import prefill
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import splice

_OPEN_FRAMES = 200
_HEAD, _TAIL, _TOKENS = 12, 6, 8
_LONGEST = 128  # tokens in one pass: a backend may have another kernel for so many


class StreamingDrift(Margin):
    """Of tokens that were only verified. `packs`: whether whole utterances go through tower and decoder in other
    shapes."""

    def __init__(self, model: Qwen3ASR, packs: bool) -> None:
        super().__init__(lambda: largest_drift(model, packs))


def largest_drift(model: Qwen3ASR, packs: bool) -> Generator[None, None, float]:
    """The largest difference of a logit, over an utterance of noise and random tokens; at least a unit in the last
    place of the largest logit, for so few tokens may show none. Yields now and then."""
    tower = model.audio_tower
    frames = tower.window_frames + _OPEN_FRAMES
    features = mx.random.normal((frames, tower.config.num_mel_bins), key=mx.random.key(0)).astype(model.dtype)
    ids = mx.random.randint(0, model.config.text.vocab_size, (_HEAD + _TAIL + _TOKENS,), key=mx.random.key(1))
    head, tail, text = mx.split(model.model.embed_tokens(ids), [_HEAD, _HEAD + _TAIL])
    size = tower.config.chunk_frames
    seconds = [tower.embed_chunks(features[start : start + size], part=True) for start in range(0, frames, size)]
    window = tower.window_frames // size
    apart = mx.concatenate([tower.encode_window(mx.concatenate(rows)) for rows in (seconds[:window], seconds[window:])])
    mx.eval(apart)
    yield
    whole = tower(features) if packs else tower.one_by_one(features)
    mx.eval(whole)
    yield
    blocks = block_ends(_HEAD, 1, audio_token_count(tower.window_frames))
    alone = yield from _token_by_token(model, splice(head, whole, tail), text, () if packs else blocks)
    differences = []
    for repeats in (1, _LONGEST // _TOKENS):
        longer = mx.tile(text, (repeats, 1))  # what follows changes nothing but the width of the products
        at_once = yield from _at_once(model, splice(head, apart, tail), longer, blocks)
        differences.append(mx.abs(alone.astype(mx.float32) - at_once[: len(alone)].astype(mx.float32)))
        mx.eval(differences)
        yield
    drift = mx.max(mx.stack(differences))
    least = mx.max(mx.abs(alone)) * mx.finfo(model.dtype).eps
    return float(mx.maximum(drift, least).item())  # type: ignore[arg-type]


def _prefilled(
    model: Qwen3ASR, prompt: mx.array, more: int, blocks: tuple[int, ...]
) -> Generator[None, None, list[KVCache]]:
    """A cache of all blocks, with room for the whole prompt (1, L, D) and `more`."""
    cache = model.make_cache(prompt.shape[1] + more)
    for end in blocks:
        mx.eval(prefill(model, prompt[:, cache[0].offset : end], cache))
        yield
    return cache


def _token_by_token(
    model: Qwen3ASR, prompt: mx.array, text: mx.array, blocks: tuple[int, ...]
) -> Generator[None, None, mx.array]:
    """Logits after the prompt (1, L, D) and after each token of the text (T, D): (T + 1, V)."""
    cache = yield from _prefilled(model, prompt, len(text), blocks)
    logits = [model.head(prefill(model, prompt[:, cache[0].offset :], cache)[0])]
    for token in text:
        mx.eval(logits[-1])
        yield
        logits.append(model.logits(token[None, None], cache))
    return mx.concatenate(logits)


def _at_once(
    model: Qwen3ASR, prompt: mx.array, text: mx.array, blocks: tuple[int, ...]
) -> Generator[None, None, mx.array]:
    """The same, the text in one pass."""
    cache = yield from _prefilled(model, prompt, len(text), blocks)
    embeddings = mx.concatenate([prompt[:, cache[0].offset :], text[None]], axis=1)
    return model.head(prefill(model, embeddings, cache, 1 + len(text))[0])
