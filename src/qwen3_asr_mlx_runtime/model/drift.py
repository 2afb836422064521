"""How far logits drift when a row is decoded in a batch instead of alone, or an utterance as it grows instead of whole.

Products of other shapes let the backend add up in another order; in bfloat16 that shows in the last digits of a logit.
Where the two most likely tokens are closer than the drift, the choice may differ.
"""

import math
from collections.abc import Callable, Generator, Sequence

import mlx.core as mx

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.model.batch import Places, RowCache
from qwen3_asr_mlx_runtime.model.blocks import block_ends
from qwen3_asr_mlx_runtime.model.decoder import KVCache, round_up
from qwen3_asr_mlx_runtime.model.generate import prefill
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import splice

_LENGTHS = (61, 40, 28, 23)
_STEPS = 4
_LONG_CAPACITY = 1024  # from here on Metal may have another kernel for attention
LONG_LENGTH = 1100
_LONG_BLOCK = 256  # positions of its prefill in one step
_LONG_ROWS = (1, 4, MAX_BATCH_ROWS)
_OPEN_FRAMES = 200  # of a streamed utterance, behind its first window
_HEAD, _TAIL, _TOKENS = 12, 6, 8
_LONGEST = 128  # tokens in one pass: a backend may have another kernel for so many
SAFETY = 4.0  # two logits may drift apart by twice the drift of one; and speech may drift more than these tokens do

HasRoom = Callable[[int, int], bool]  # for so many rows of so many positions
Measurement = Generator[None, None, float]


class Margin:
    """The margin under which a choice is not trusted: four times the largest drift that `measure` finds on this device,
    with these weights, step by step, when it is first asked for."""

    def __init__(self, measure: Callable[[], Measurement]) -> None:
        self._measure = measure
        self._steps: Measurement | None = None
        self._margin: float | None = None

    @property
    def is_known(self) -> bool:
        return self._margin is not None

    @property
    def margin(self) -> float:
        """Infinite where it cannot be measured, or is no number: then nothing is trusted."""
        while self._margin is None:
            self.step()
        return self._margin

    def try_again(self) -> None:
        """Measure again what could not be measured."""
        if self._margin == math.inf:
            self._margin = self._steps = None

    def step(self) -> None:
        """A part of the measurement."""
        try:
            self._steps = self._steps or self._measure()
            next(self._steps)
        except StopIteration as end:
            self._margin = math.inf if math.isnan(end.value) else SAFETY * end.value
        except Exception:  # noqa: BLE001 no text of before and no batch is worth a failed job
            self._margin = math.inf


class Drift:
    """The margins of batches. `positions`: the most that any row of the batch may come to have; that of long rows is
    measured only where one may come to be as long."""

    def __init__(self, model: Qwen3ASR, has_room: HasRoom = lambda *_: True) -> None:
        self._short = Margin(lambda: short_drift(model))
        self._long = Margin(lambda: long_drift(model, has_room))

    def is_known(self, positions: int) -> bool:
        return all(margin.is_known for margin in self._margins(positions))

    def margin(self, positions: int) -> float:
        return max(margin.margin for margin in self._margins(positions))

    def step(self, positions: int) -> None:
        """A part of the measurement that is not yet done."""
        next(margin for margin in self._margins(positions) if not margin.is_known).step()

    def try_again(self) -> None:
        """Measure again what could not be measured: there may be more memory now."""
        self._short.try_again()
        self._long.try_again()

    def _margins(self, positions: int) -> Sequence[Margin]:
        return (self._short,) if round_up(positions) < _LONG_CAPACITY else (self._short, self._long)


class StreamingDrift(Margin):
    """The margin of tokens that were only verified: windows go through the tower one by one, the prompt through the
    decoder in blocks, and the text all at once. `packs`: whether whole utterances go through in other shapes."""

    def __init__(self, model: Qwen3ASR, packs: bool) -> None:
        super().__init__(lambda: streaming_drift(model, packs))


def largest_drift(model: Qwen3ASR) -> float:
    """Of a batch, of short and of long rows, all at once."""
    found = [_run(steps) for steps in (short_drift(model), long_drift(model))]
    return math.nan if any(map(math.isnan, found)) else max(found)


def short_drift(model: Qwen3ASR) -> Measurement:
    """The largest difference of a logit in a batch from the same alone, over a few prompts of random tokens: in a small
    batch, and in one of MAX_BATCH_ROWS, for which a backend may have another kernel. Yields between forward passes."""
    vocabulary = model.config.text.vocab_size
    ids = mx.random.randint(0, vocabulary, (len(_LENGTHS), max(_LENGTHS) + _STEPS), key=mx.random.key(0))
    embeddings = model.model.embed_tokens(ids)
    alone = []
    for row, length in zip(embeddings, _LENGTHS, strict=True):
        cache = model.make_cache(length + _STEPS)
        first = model.logits(row[None, :length], cache)
        alone.append(mx.stack([first[0], *_alone(model, row, cache)]))
        mx.eval(alone)
        yield
    rows, lengths = mx.arange(len(_LENGTHS)), mx.array(_LENGTHS)
    caches = model.make_cache(max(_LENGTHS) + _STEPS, rows=len(_LENGTHS))
    hidden = model.model(embeddings[:, : max(_LENGTHS)], caches)
    first = model.head(hidden[rows, lengths - 1])
    differences = []
    for copies in (1, MAX_BATCH_ROWS // len(_LENGTHS)):
        steps = _together(model, mx.tile(embeddings, (copies, 1, 1)), caches, copies, _LENGTHS * copies)
        batch = mx.stack([mx.tile(first, (copies, 1)), *steps], axis=1)
        differences.append(_largest(batch, mx.tile(mx.stack(alone), (copies, 1, 1))))
        mx.eval(differences)
        yield
    return float(mx.max(mx.stack(differences)).item())  # type: ignore[arg-type]


def long_drift(model: Qwen3ASR, has_room: HasRoom = lambda *_: True, length: int = LONG_LENGTH) -> Measurement:
    """The same of one long prompt, in batches of as many of its rows as there is room for. Only steps are compared: the
    prompt runs once, for all. Yields between forward passes."""
    ids = mx.random.randint(0, model.config.text.vocab_size, (length + _STEPS,), key=mx.random.key(2))
    embeddings = model.model.embed_tokens(ids)
    cache = model.make_cache(length + _STEPS)
    for start in range(0, length, _LONG_BLOCK):
        mx.eval(model.model(embeddings[None, start : min(start + _LONG_BLOCK, length)], cache))
        yield
    alone = mx.stack(_alone(model, embeddings, cache))
    mx.eval(alone)
    yield
    differences = []
    for rows in _LONG_ROWS:
        if rows == 1 or has_room(rows, length + _STEPS):
            copies = mx.broadcast_to(embeddings[None], (rows, *embeddings.shape))
            batch = mx.stack(_together(model, copies, cache, rows, [length] * rows), axis=1)
            differences.append(_largest(batch, alone))
            mx.eval(differences)
            yield
    return float(mx.max(mx.stack(differences)).item())  # type: ignore[arg-type]


def _alone(model: Qwen3ASR, embeddings: mx.array, cache: Sequence[KVCache]) -> list[mx.array]:
    """Logits (V,) after each of the next positions of a row (L, D)."""
    first = cache[0].offset
    return [model.logits(embeddings[None, [first + step]], cache)[0] for step in range(_STEPS)]


def _together(
    model: Qwen3ASR, embeddings: mx.array, prompts: Sequence[KVCache], copies: int, lengths: Sequence[int]
) -> list[mx.array]:
    """Logits (B, V) after each of the next positions of rows (B, L, D), whose `prompts` are repeated so many times."""
    copied = (copies, 1, 1, 1)
    layers = [RowCache(mx.tile(cache.keys, copied), mx.tile(cache.values, copied)) for cache in prompts]
    rows, logits = mx.arange(len(lengths)), []
    for step in range(_STEPS):
        places = Places([length + step for length in lengths], layers[0].keys)
        for layer in layers:
            layer.places = places
        logits.append(model.logits(embeddings[rows, places.positions][:, None], layers))
        mx.eval(logits)
    return logits


def _largest(batch: mx.array, alone: mx.array) -> mx.array:
    return mx.max(mx.abs(batch.astype(mx.float32) - alone.astype(mx.float32)))


def _run(steps: Measurement) -> float:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return float(end.value)


def streaming_drift(model: Qwen3ASR, packs: bool) -> Measurement:
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
