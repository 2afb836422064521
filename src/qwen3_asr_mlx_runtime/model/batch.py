"""Continuous batching: rows of different lengths take each decoder step together.

Rows join and leave between steps. Every row starts at position 0 of its own part of the buffers, so it has its own
rotary offset and its own write position; a mask hides everything after its end.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import mlx.core as mx
from mlx.utils import tree_reduce

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.decoder import KVCache, round_up
from qwen3_asr_mlx_runtime.model.generate import NextTokens, Token, check_finite, finish_reason
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import side_by_side
from qwen3_asr_mlx_runtime.model.terms import NO_BONUSES, Bonuses, TermTrie

_COPIED_PART = 0.25  # of the decoder's weights: a copy of so much is half as much to read and write as a step
_MIN_FILL = 0.5  # prompts are padded to one length for their prefill if each fills at least this part of it


@dataclass(eq=False, slots=True)
class Row:
    """A sequence of a batch: spliced prompt embeddings (1, L, D), and the tokens so far.

    `cache`: the keys and values of the first positions, if they are computed already; the batch takes them. `margin`:
    of what was chosen in the prompt. `min_margin`: if that, or the margin between the two most likely tokens, is
    smaller, the row leaves with `low_margin`: decoded alone, it might continue differently. `terms` gain their
    bonuses. `logprobs`: whether its tokens get log-probabilities. `error`: why it failed.
    """

    prompt: mx.array
    max_new_tokens: int
    cache: list[KVCache] | None = None
    margin: float = math.inf
    min_margin: float = 0.0
    terms: TermTrie | None = None
    logprobs: bool = False
    tokens: list[Token] = field(default_factory=list)
    low_margin: bool = False
    error: NonFiniteOutput | None = None

    @property
    def length(self) -> int:
        """Positions of the prompt and of the tokens so far."""
        return int(self.prompt.shape[1]) + len(self.tokens)

    @property
    def max_length(self) -> int:
        """Positions of the prompt and of the whole budget."""
        return int(self.prompt.shape[1]) + self.max_new_tokens

    @property
    def ids(self) -> list[int]:
        """Of the tokens so far."""
        return [token.id for token in self.tokens]

    @property
    def bonuses(self) -> Bonuses:
        """Of the next token."""
        return NO_BONUSES if self.terms is None else self.terms.bonuses(self.ids)

    @property
    def ended(self) -> bool:
        return (
            self.low_margin
            or self.error is not None
            or (bool(self.tokens) and self.tokens[-1].finish_reason is not None)
        )

    @property
    def is_last_token(self) -> bool:
        """Whether the next token is the last of the budget."""
        return len(self.tokens) + 1 >= self.max_new_tokens


class RowCache:
    """Keys and values of one layer: (B, kv_heads, capacity, head_dim). `places` is set before each step."""

    places: "Places"

    def __init__(self, keys: mx.array, values: mx.array) -> None:
        self.keys = keys
        self.values = values

    @property
    def positions(self) -> mx.array:
        return self.places.positions

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
        """Attend with one new position a row. The query heads of a key/value head form the query axis, because the
        fused kernels of every backend accept that together with a mask."""
        self.keys = self.places.write(self.keys, keys)
        self.values = self.places.write(self.values, values)
        B, heads, _, head_dim = queries.shape
        grouped = queries.reshape(B, keys.shape[1], -1, head_dim)
        mask = self.places.mask
        out = mx.fast.scaled_dot_product_attention(grouped, self.keys, self.values, scale=scale, mask=mask)
        return out.reshape(B, heads, 1, head_dim)

    def grow(self, capacity: int) -> None:
        if capacity == self.keys.shape[2]:
            return
        missing = [(0, 0), (0, 0), (0, capacity - self.keys.shape[2]), (0, 0)]
        self.keys, self.values = mx.pad(self.keys, missing), mx.pad(self.values, missing)

    def keep(self, rows: mx.array) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def append(self, other: "RowCache") -> None:
        self.keys = mx.concatenate([self.keys, other.keys])
        self.values = mx.concatenate([self.values, other.values])


def _side_by_side(caches: Sequence[KVCache]) -> RowCache:
    """The caches of a layer, of one row each and of one capacity."""
    return RowCache(
        mx.concatenate([cache.keys for cache in caches]), mx.concatenate([cache.values for cache in caches])
    )


class Places:
    """The positions of the rows in one step: the same in every layer.

    `mask`: what each row sees, (B, kv_heads, 1, capacity). Metal copies a mask in every layer unless its strides run
    through rows and heads alike. CUDA has no boolean masks: it would convert one in every layer.
    """

    def __init__(self, lengths: Sequence[int], keys: mx.array) -> None:
        """`keys`: those of a layer."""
        B, kv_heads, capacity, head_dim = keys.shape
        self.positions = mx.array([*lengths], mx.int32)
        seen = mx.arange(capacity, dtype=mx.int32) <= self.positions[:, None]
        mask = mx.where(seen, 0.0, -mx.inf).astype(keys.dtype) if mx.cuda.is_available() else seen
        self.mask = mx.contiguous(mx.broadcast_to(mask[:, None, None], (B, kv_heads, 1, capacity)))
        self._here = mx.broadcast_to(self.positions[:, None, None, None], (B, kv_heads, 1, head_dim))

    def write(self, buffer: mx.array, new: mx.array) -> mx.array:
        """new (B, kv_heads, 1, head_dim) at each row's next position of a buffer (B, kv_heads, capacity, head_dim)."""
        return mx.put_along_axis(buffer, self._here, new, axis=2)


class Batch:
    """The rows being decoded. The computation is lazy and, while the buffers are small, one step ahead."""

    def __init__(self, model: Qwen3ASR, eos_ids: frozenset[int]) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._eos_ids = eos_ids
        self._caches: list[RowCache] = []
        self._choice: NextTokens | None = None
        self._weight_bytes = tree_reduce(lambda total, array: total + array.nbytes, model.model.parameters(), 0)

    @property
    def capacity(self) -> int:
        """Positions reserved for each row."""
        return self._caches[0].keys.shape[2] if self._caches else 0

    def join(self, rows: Iterable[Row]) -> None:
        """Run the prompts, those of similar length together."""
        ordered = sorted(rows, key=lambda row: row.length)
        waiting = [row for row in ordered if row.cache is None]
        begun = [(row, row.cache) for row in ordered if row.cache is not None]
        if begun:
            self._append([row for row, _ in begun], *self._prefill_rest(begun))
        while waiting:
            longest = waiting[-1].length
            group = [row for row in waiting if row.length >= _MIN_FILL * longest]
            del waiting[-len(group) :]
            self._append(group, *self._prefill(group, longest))

    def leave(self, row: Row) -> None:
        """Remove a row that has not ended."""
        if row in self.rows and self._choice is not None:
            self._keep([other is not row for other in self.rows], self._choice)

    def step(self) -> list[Row]:
        """Decode one token of every row. Returns the ended rows, which are removed."""
        if self._choice is None:
            return []
        current = upcoming = self._choice
        if all(row.is_last_token for row in self.rows):
            self._read(current)
        elif all(row.terms is None for row in self.rows):
            upcoming = choose(self.rows, self._forward(current.tokens), start=not self._waits)
            self._read(current)
        else:  # the bonuses of terms depend on the token before
            logits = self._forward(current.tokens)
            if not self._waits:
                mx.async_eval(logits)
            self._read(current)
            upcoming = choose(self.rows, logits)
        upcoming.start()
        ended = [row for row in self.rows if row.ended]
        self._keep([not row.ended for row in self.rows], upcoming)
        return ended

    def _prefill(self, rows: Sequence[Row], longest: int) -> tuple[list[RowCache], NextTokens]:
        caches = self._model.make_cache(longest + 1, rows=len(rows))
        hidden = self._model.model(side_by_side([row.prompt for row in rows]), caches)
        last = hidden[mx.arange(len(rows)), mx.array([row.length - 1 for row in rows])]
        choice = choose(rows, self._model.head(last))
        return [RowCache(cache.keys, cache.values) for cache in caches], choice

    def _prefill_rest(self, rows: Sequence[tuple[Row, list[KVCache]]]) -> tuple[list[RowCache], NextTokens]:
        """Run what the cache of each row lacks of its prompt."""
        last = [self._model.model(row.prompt[:, cache[0].offset :], cache)[:, -1] for row, cache in rows]
        choice = choose([row for row, _ in rows], self._model.head(mx.concatenate(last)))
        capacity = max(cache[0].keys.shape[2] for _, cache in rows)
        for row, cache in rows:
            row.cache = None
            for layer in cache:
                layer.reserve(capacity)
        layers = zip(*(cache for _, cache in rows), strict=True)
        return [_side_by_side(layer) for layer in layers], choice

    def _append(self, rows: Sequence[Row], caches: list[RowCache], choice: NextTokens) -> None:
        if self._choice is None:
            self.rows, self._caches, self._choice = [*rows], caches, choice
            return
        capacity = max(self.capacity, caches[0].keys.shape[2])
        for ours, theirs in zip(self._caches, caches, strict=True):
            ours.grow(capacity)
            theirs.grow(capacity)
            ours.append(theirs)
        self.rows += rows
        self._choice = self._choice.append(choice)

    def _forward(self, tokens: mx.array) -> mx.array:
        """The logits behind these: (B, V)."""
        lengths = [row.length for row in self.rows]
        capacity = max(self.capacity, round_up(max(lengths) + 1))
        for cache in self._caches:
            cache.grow(capacity)
        places = Places(lengths, self._caches[0].keys)
        for cache in self._caches:
            cache.places = places
        return self._model.logits(self._model.model.embed_tokens(tokens)[:, None], self._caches)

    @property
    def _waits(self) -> bool:
        """Whether a step starts only when the one before it is read. A step that starts earlier copies the buffers,
        which Metal holds until a step is done. Where they are large, that takes longer than the wait. No copy was seen
        on CUDA."""
        if not mx.metal.is_available():
            return False
        held = sum(cache.keys.nbytes + cache.values.nbytes for cache in self._caches)
        return held > _COPIED_PART * self._weight_bytes

    def _read(self, choice: NextTokens) -> None:
        for row, read in zip(self.rows, choice.read(), strict=True):
            try:
                check_finite(read.logit, len(row.tokens))
            except NonFiniteOutput as error:
                row.error = error
                continue
            row.low_margin = min(row.margin, math.inf if read.margin is None else read.margin) < row.min_margin
            reason = finish_reason([*row.ids, read.token], self._eos_ids, row.is_last_token)
            row.tokens.append(Token(read.token, read.logprob if row.logprobs else None, reason))

    def _keep(self, kept: Sequence[bool], choice: NextTokens) -> None:
        """Remove the other rows. `choice` has the next tokens of all rows."""
        if not any(kept):
            self.rows, self._caches, self._choice = [], [], None
            return
        self._choice = choice
        if all(kept):
            return
        rows = mx.array([index for index, keep in enumerate(kept) if keep])
        self.rows = [row for row, keep in zip(self.rows, kept, strict=True) if keep]
        self._choice = choice.keep(rows)
        for cache in self._caches:
            cache.keep(rows)


def choose(rows: Sequence[Row], logits: mx.array, *, start: bool = True) -> NextTokens:
    """The next tokens of rows, from their logits (B, V). `start`: the computation."""
    bonuses, logprobs = [row.bonuses for row in rows], any(row.logprobs for row in rows)
    return NextTokens.among(logits, bonuses, logprobs=logprobs, margins=True, start=start)
