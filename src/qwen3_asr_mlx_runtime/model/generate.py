"""Greedy generation: prefill, then one decoder step for each `next()`, the following step already running."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

FinishReason = Literal["stop", "length", "repetition"]

_PREFILL_BLOCK = 1024  # positions a forward pass: bounds the attention scores of a very long prompt
_MAX_PERIOD = 8
_MAX_REPEATS = 20


class Token(NamedTuple):
    """A generated token, its natural-log probability, and on the last one why generation ended."""

    id: int
    logprob: float
    finish_reason: FinishReason | None = None


def token_budget(seconds: float) -> int:
    """Most tokens that `seconds` of speech can need: max(128, 12 a second + 32)."""
    return max(128, math.ceil(12 * seconds) + 32)


def generate(model: Qwen3ASR, prompt: mx.array, eos_ids: frozenset[int], max_new_tokens: int) -> Iterator[Token]:
    """Decode greedily from spliced prompt embeddings (1, L, D).

    Ends with an EOS token (`stop`), after `max_new_tokens` (`length`), or when the same run of up to 8 tokens has come
    20 times (`repetition`). The first `next()` runs the prefill. Raises NonFiniteOutput where the logits are no
    numbers.
    """
    cache = model.make_cache(prompt.shape[1] + max_new_tokens)
    current = _pick(_prefill(model, prompt, cache))
    ids: list[int] = []
    while True:
        upcoming = None
        if len(ids) + 1 < max_new_tokens:  # queued before the current token is read: the device never waits for us
            upcoming = _pick(model.logits(model.model.embed_tokens(current[0])[None], cache))
        token, logprob = int(current[0]), float(current[1])
        if not math.isfinite(logprob):
            raise NonFiniteOutput(f"the logits of token {len(ids)} are not finite")
        ids.append(token)
        finish_reason = _finish_reason(ids, eos_ids, upcoming is None)
        yield Token(token, logprob, finish_reason)
        if finish_reason is not None or upcoming is None:
            return
        current = upcoming


def _prefill(model: Qwen3ASR, prompt: mx.array, cache: list[KVCache]) -> mx.array:
    """Run all of the prompt through the decoder; logits (1, vocabulary) of its last position only."""
    last_block = (prompt.shape[1] - 1) // _PREFILL_BLOCK * _PREFILL_BLOCK
    for start in range(0, last_block, _PREFILL_BLOCK):
        mx.eval(model.model(prompt[:, start : start + _PREFILL_BLOCK], cache))
    return model.logits(prompt[:, last_block:], cache)


def _pick(logits: mx.array) -> tuple[mx.array, mx.array]:
    """logits (1, V) → the most likely token (1,) and its log-probability (1,) float32, on their way already."""
    token = mx.argmax(logits, axis=-1)
    scores = logits.astype(mx.float32)
    logprob = mx.take_along_axis(scores, token[:, None], axis=-1)[:, 0] - mx.logsumexp(scores, axis=-1)
    mx.async_eval(token, logprob)
    return token, logprob


def _finish_reason(ids: Sequence[int], eos_ids: frozenset[int], spent: bool) -> FinishReason | None:
    if ids[-1] in eos_ids:
        return "stop"
    if loops(ids):
        return "repetition"
    return "length" if spent else None


def loops(ids: Sequence[int]) -> bool:
    """Whether the ids end in 20 repeats of one run of at most 8 tokens."""
    for period in range(1, _MAX_PERIOD + 1):
        span = period * _MAX_REPEATS
        if len(ids) >= span and all(ids[-i] == ids[-i - period] for i in range(1, span - period + 1)):
            return True
    return False
