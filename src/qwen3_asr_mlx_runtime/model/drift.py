"""How far logits drift when a row is decoded in a batch instead of alone.

The products of a batch are of other shapes, so the backend may add up in another order; in bfloat16 that shows in the
last digits of a logit. Where the two most likely tokens are closer than the drift, the batch may choose the other one.
"""

import math

import mlx.core as mx

from qwen3_asr_mlx_runtime.jobs import MAX_ROWS
from qwen3_asr_mlx_runtime.model.batch import Places, RowCache
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

_LENGTHS = (61, 40, 28, 23)
_STEPS = 4
SAFETY = 4.0  # two logits may drift apart by twice the drift of one; and speech may drift more than these tokens do


class Drift:
    """What `calibrate` says of a model, measured when it is first asked for."""

    def __init__(self, model: Qwen3ASR) -> None:
        self._model = model
        self._margin: float | None = None

    @property
    def margin(self) -> float:
        """Infinite where it cannot be measured now, or is no number: then no batch is trusted."""
        if self._margin is None:
            try:
                margin = calibrate(self._model)
            except Exception:  # noqa: BLE001 no batch is worth a failed job; the next one may find more memory
                return math.inf
            self._margin = math.inf if math.isnan(margin) else margin
        return self._margin


def calibrate(model: Qwen3ASR) -> float:
    """The margin under which the choice of a row in a batch is not trusted: four times the largest drift of a logit
    seen on this device, with these weights, over a few prompts of random tokens."""
    return SAFETY * largest_drift(model)


def largest_drift(model: Qwen3ASR) -> float:
    """The largest difference of a logit in a batch from the same alone: in a small batch, and in one of MAX_ROWS, for
    which a backend may have another kernel."""
    key = mx.random.key(0)
    vocabulary = model.config.text.vocab_size
    ids = mx.random.randint(0, vocabulary, (len(_LENGTHS), max(_LENGTHS) + _STEPS), key=key)
    apart = mx.stack([_alone(model, row, length) for row, length in zip(ids, _LENGTHS, strict=True)])
    apart = apart.astype(mx.float32)
    batches = [_together(model, ids, copies) for copies in (1, MAX_ROWS // len(_LENGTHS))]
    differences = [
        mx.max(mx.abs(one.astype(mx.float32) - mx.tile(apart, (len(one) // len(apart), 1, 1)))) for one in batches
    ]
    return float(mx.max(mx.stack(differences)).item())  # type: ignore[arg-type]


def _alone(model: Qwen3ASR, ids: mx.array, length: int) -> mx.array:
    """Logits after `length` ids and after each of the next: (steps + 1, V)."""
    embeddings = model.model.embed_tokens(ids)[None]
    cache = model.make_cache(length + _STEPS)
    logits = [model.logits(embeddings[:, :length], cache)]
    for i in range(length, length + _STEPS):
        logits.append(model.logits(embeddings[:, i : i + 1], cache))
    return mx.concatenate(logits)


def _together(model: Qwen3ASR, ids: mx.array, copies: int) -> mx.array:
    """The same of all rows in a batch, with so many copies of each in its steps: (copies · rows, steps + 1, V)."""
    embeddings = model.model.embed_tokens(ids)
    rows, lengths = mx.arange(len(_LENGTHS)), mx.array(_LENGTHS)
    caches = model.make_cache(max(_LENGTHS) + _STEPS, rows=len(_LENGTHS))
    hidden = model.model(embeddings[:, : max(_LENGTHS)], caches)
    logits = [mx.tile(model.head(hidden[rows, lengths - 1]), (copies, 1))]
    copied = (copies, 1, 1, 1)
    layers = [RowCache(mx.tile(cache.keys, copied), mx.tile(cache.values, copied)) for cache in caches]
    for step in range(_STEPS):
        places = Places([length + step for length in _LENGTHS] * copies, layers[0].keys.shape[2], model.dtype)
        for layer in layers:
            layer.places = places
        logits.append(model.logits(mx.tile(embeddings[rows, lengths + step][:, None], (copies, 1, 1)), layers))
    return mx.stack(logits, axis=1)
