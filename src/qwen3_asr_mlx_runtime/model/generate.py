"""Greedy generation: prefill, then one decoder step for each `next()`, the following step already running."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime.engines.transcript import loops
from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.decoder import PREFILL_BLOCK, KVCache
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.terms import Bonuses, TermTrie

FinishReason = Literal["stop", "length", "repetition"]

_BLOCK = 128  # logits, at most, of which only the largest is looked at again


class Token(NamedTuple):
    """A generated token, its natural-log probability if requested, and on the last one why generation ended."""

    id: int
    logprob: float | None = None
    finish_reason: FinishReason | None = None


class TokenChoice(NamedTuple):
    """The chosen token of one row."""

    token: int
    logit: float
    logprob: float | None
    margin: float | None


class NextTokens(NamedTuple):
    """The most likely token of each row, its logit, and other requested values: all (B,), the last three float32.

    Bonuses of terms count for the token, its logit and the margin, and not for the log-probability.
    """

    tokens: mx.array
    logits: mx.array
    logprobs: mx.array | None = None
    margins: mx.array | None = None

    @classmethod
    def among(
        cls,
        logits: mx.array,
        bonuses: Sequence[Bonuses] = (),
        *,
        logprobs: bool = False,
        margins: bool = False,
        start: bool = True,
    ) -> "NextTokens":
        """Choose from logits (B, V). `bonuses`: of each row, or none. `margins`: the differences to the second most
        likely tokens' logits. `start`: the computation, without waiting for it."""
        scores = _with_bonuses(logits, bonuses) if any(bonuses) else logits
        if margins:
            tokens, best, second = _two_largest(scores)
        else:
            tokens, best, second = mx.argmax(scores, axis=-1), mx.max(scores, axis=-1).astype(mx.float32), None
        logprob = None
        if logprobs:
            own = best if scores is logits else mx.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
            logprob = own.astype(mx.float32) - mx.logsumexp(logits.astype(mx.float32), axis=-1)
        choice = cls(tokens, best, logprob, None if second is None else best - second)
        if start:
            choice.start()
        return choice

    def start(self) -> None:
        """Start the computation, if it has not started."""
        mx.async_eval(*(array for array in self if array is not None))

    def read(self) -> list[TokenChoice]:
        """Wait for the rows and read them."""
        rows = self.tokens.shape[0]
        columns = [[None] * rows if array is None else array.tolist() for array in self]
        return [TokenChoice(*row) for row in zip(*columns, strict=True)]

    def keep(self, rows: mx.array) -> "NextTokens":
        """A choice of rows (B',), by their indices."""
        logprobs, margins = (None if array is None else array[rows] for array in self[2:])
        return NextTokens(self.tokens[rows], self.logits[rows], logprobs, margins)

    def append(self, other: "NextTokens") -> "NextTokens":
        """Append rows. A value that was requested for only some of them is NaN for the others."""
        tokens, logits = (mx.concatenate([*pair]) for pair in zip(self[:2], other[:2], strict=True))
        pairs = zip(self[2:], other[2:], strict=True)
        return NextTokens(
            tokens,
            logits,
            *(
                None if a is None and b is None else mx.concatenate([self._or_nan(a), other._or_nan(b)])
                for a, b in pairs
            ),
        )

    def _or_nan(self, values: mx.array | None) -> mx.array:
        return mx.full(self.tokens.shape, mx.nan) if values is None else values


def generate(
    model: Qwen3ASR,
    prompt: mx.array,
    eos_ids: frozenset[int],
    max_new_tokens: int,
    *,
    logprobs: bool = False,
    blocks: Sequence[int] = (),
    cache: list[KVCache] | None = None,
    terms: TermTrie | None = None,
) -> Iterator[Token]:
    """Decode greedily from spliced prompt embeddings (1, L, D), whose beginning the `cache` may hold already. `blocks`:
    the positions where the prefill is cut. `terms` gain their bonuses.

    Ends with an EOS token (`stop`), after `max_new_tokens` (`length`), or when the same run of up to 8 tokens has come
    20 times (`repetition`). The first `next()` runs the prefill. Raises NonFiniteOutput where the logits are no
    numbers.
    """

    def choose(logits: mx.array) -> NextTokens:
        bonuses = () if terms is None else [terms.bonuses(ids)]
        return NextTokens.among(logits, bonuses, logprobs=logprobs)

    capacity = prompt.shape[1] + max_new_tokens
    cache = model.make_cache(capacity) if cache is None else cache
    for layer in cache:
        layer.reserve(capacity)
    ids: list[int] = []
    current = choose(prefill_prompt(model, prompt, cache, blocks))
    while True:
        upcoming, logits = None, None
        if len(ids) + 1 < max_new_tokens:  # queued before the current token is read, so the device never idles
            logits = model.logits(model.model.embed_tokens(current.tokens)[:, None], cache)
            if terms is None:
                upcoming = choose(logits)
            else:
                mx.async_eval(logits)
        [read] = current.read()
        check_finite(read.logit, len(ids))
        ids.append(read.token)
        reason = finish_reason(ids, eos_ids, logits is None)
        if logits is not None and upcoming is None:
            upcoming = choose(logits)
        yield Token(read.token, read.logprob, reason)
        if reason is not None or upcoming is None:
            return
        current = upcoming


def check_finite(logit: float, position: int) -> None:
    """Raises NonFiniteOutput if the largest logit is not finite."""
    if not math.isfinite(logit):
        raise NonFiniteOutput(f"the logits of token {position} are not finite")


def prefill(model: Qwen3ASR, embeddings: mx.array, cache: Sequence[KVCache], wanted: int = 1) -> mx.array:
    """Run embeddings (1, L, D) through the decoder in blocks; hidden states (1, wanted, D) of the last of them. Raises
    ValueError, and runs nothing, where these do not lie in the last block."""
    length = embeddings.shape[1]
    last = (length - 1) // PREFILL_BLOCK * PREFILL_BLOCK
    if not 1 <= wanted <= length - last:
        raise ValueError(f"the last {wanted} of {length} positions do not lie in the last block of {PREFILL_BLOCK}")
    for start in range(0, last, PREFILL_BLOCK):
        mx.eval(model.model(embeddings[:, start : start + PREFILL_BLOCK], cache))
    return model.model(embeddings[:, last:], cache)[:, -wanted:]


def prefill_prompt(model: Qwen3ASR, prompt: mx.array, cache: Sequence[KVCache], blocks: Sequence[int]) -> mx.array:
    """Run the positions of a prompt (1, L, D) that are not cached; logits (1, vocabulary) of the last one. `blocks` as
    in `generate`."""
    for end in blocks:
        if cache[0].offset < end:
            mx.eval(prefill(model, prompt[:, cache[0].offset : end], cache))
    return model.head(prefill(model, prompt[:, cache[0].offset :], cache)[0])


def _two_largest(logits: mx.array) -> tuple[mx.array, mx.array, mx.array]:
    """Of logits (B, V): the most likely tokens, their logits and the second largest, (B,) each, logits as float32. All
    are read once, for the largest of each block. Of equal ones the first is chosen, and a NaN is passed on."""
    B, V = logits.shape
    blocks = logits.reshape(B, -1, math.gcd(V, _BLOCK))
    largest = mx.max(blocks, axis=-1)
    block = mx.argmax(largest, axis=-1)
    inside = mx.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    place = mx.argmax(inside, axis=-1)
    best = mx.max(largest, axis=-1).astype(mx.float32)
    second = mx.maximum(_without(largest, block), _without(inside, place)).astype(mx.float32)
    return block * blocks.shape[2] + place, best, second


def _without(values: mx.array, index: mx.array) -> mx.array:
    """The largest of the values (B, n) except those at `index` (B,)."""
    others = mx.put_along_axis(values, index[:, None], mx.array(-mx.inf, values.dtype), axis=-1)
    return mx.max(others, axis=-1)


def _with_bonuses(logits: mx.array, bonuses: Sequence[Bonuses]) -> mx.array:
    """Logits (B, V) with the bonuses of each row: float32, in which no bonus is rounded away."""
    rows = [row for row, each in enumerate(bonuses) for _ in each]
    tokens = [token for each in bonuses for token in each]
    gains = [gain for each in bonuses for gain in each.values()]
    return logits.astype(mx.float32).at[mx.array(rows), mx.array(tokens)].add(mx.array(gains, mx.float32))


def finish_reason(ids: Sequence[int], eos_ids: frozenset[int], is_last: bool) -> FinishReason | None:
    """Why generation ends after `ids`; None if it goes on. `is_last`: the budget ends here."""
    if ids[-1] in eos_ids:
        return "stop"
    if loops(ids):
        return "repetition"
    return "length" if is_last else None
