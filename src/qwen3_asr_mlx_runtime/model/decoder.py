"""The Qwen3 decoder: grouped-query attention with q/k norms and rotary positions, SwiGLU, tied head.

Positions count on through text and audio alike, so the three rows of the checkpoint's interleaved MRoPE are equal and
`mx.fast.rope` computes the same rotation (model/splice.py states the general rule). Attribute names are the
checkpoint's; `prepare` on a GPU replaces the projections that share an input by one, for fewer and larger products.
"""

from collections.abc import Sequence
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn

from qwen3_asr_mlx_runtime.model.activations import silu
from qwen3_asr_mlx_runtime.model.config import TextConfig
from qwen3_asr_mlx_runtime.model.projections import join

CAPACITY_STEP = 128  # capacities are multiples of this, so that few buffer sizes occur
_MANY_ROWS = 16  # from here on a copy of their queries costs more than another norm and rotation
PREFILL_BLOCK = 1024  # positions a forward pass: bounds the attention scores of a very long prompt


class Cache(Protocol):
    """Keys and values of one layer, and attention over them."""

    @property
    def positions(self) -> mx.array:
        """Of the next token of each row: int32 (B,)."""

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
        """Append keys and values (B, kv_heads, L, head_dim); attend from queries (B, heads, L, head_dim) to all that is
        held → the same shape."""


def round_up(length: int) -> int:
    """The capacity for so many positions."""
    return -(-length // CAPACITY_STEP) * CAPACITY_STEP


class KVCache:
    """Keys and values of one layer in reserved buffers: (B, kv_heads, capacity, head_dim).

    All rows have equal length. A ragged batch is right-padded: causal attention ignores what follows a row's end.
    """

    def __init__(self, capacity: int, heads: int, head_dim: int, dtype: mx.Dtype, rows: int = 1) -> None:
        self.offset = 0
        self.keys = mx.zeros((rows, heads, round_up(capacity), head_dim), dtype)
        self.values = mx.zeros_like(self.keys)

    @property
    def positions(self) -> mx.array:
        return mx.full((self.keys.shape[0],), self.offset, mx.int32)

    def extend(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values (B, kv_heads, L, head_dim) of the cache's dtype; return all that are held.

        Raises TypeError for another dtype (MLX would convert it silently) and ValueError beyond the capacity.
        """
        if not keys.dtype == values.dtype == self.keys.dtype:
            raise TypeError(f"cache of {self.keys.dtype} given keys {keys.dtype}, values {values.dtype}")
        end = self.offset + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"{end} positions do not fit a cache of {self.keys.shape[2]}")
        self.keys[:, :, self.offset : end] = keys
        self.values[:, :, self.offset : end] = values
        self.offset = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def reserve(self, capacity: int) -> None:
        """Have room for `capacity` positions of each row."""
        missing = round_up(capacity) - self.keys.shape[2]
        if missing > 0:
            added = [(0, 0), (0, 0), (0, missing), (0, 0)]
            self.keys, self.values = mx.pad(self.keys, added), mx.pad(self.values, added)

    def rewind(self, offset: int) -> None:
        """Drop all positions from `offset` on."""
        self.offset = min(self.offset, offset)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
        keys, values = self.extend(keys, values)
        mask = "causal" if queries.shape[2] > 1 else None
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)


class Uncached:
    """Causal attention in one pass from position 0, of one or more rows: nothing is held, so one serves all layers.

    Queries go in blocks, which bounds the attention scores of a very long prompt.
    """

    def __init__(self, rows: int) -> None:
        self.positions = mx.zeros((rows,), mx.int32)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
        attended = []
        for start in range(0, queries.shape[2], PREFILL_BLOCK):
            end = start + PREFILL_BLOCK
            block = (queries[:, :, start:end], keys[:, :, :end], values[:, :, :end])
            attended.append(mx.fast.scaled_dot_product_attention(*block, scale=scale, mask="causal"))
        return mx.concatenate(attended, axis=2)


class Attention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        D, H = config.hidden_size, config.head_dim
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = H
        self.rope_theta = config.rope_theta
        self.q_proj = nn.Linear(D, self.num_heads * H, bias=False)
        self.k_proj = nn.Linear(D, self.num_kv_heads * H, bias=False)
        self.v_proj = nn.Linear(D, self.num_kv_heads * H, bias=False)
        self.o_proj = nn.Linear(self.num_heads * H, D, bias=False)
        self.q_norm = nn.RMSNorm(H, eps=config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(H, eps=config.rms_norm_eps)

    def join(self) -> None:
        join(self, ("q_proj", "k_proj", "v_proj"), "qkv_proj")

    def fix_norms(self) -> None:
        """Store the joined norm weights, which no longer change."""
        self._norms = self._norm_weights()

    def project(self, x: mx.array, positions: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """x (B, L, D) → normalised and rotated queries (B, heads, L, head_dim) and keys, and values (B, kv_heads, L,
        head_dim). Queries and keys go through norm and rotation together."""
        B, L, _ = x.shape
        if L == 1 and B >= _MANY_ROWS and self._queries_are_half:
            return self._project_rows(x, positions)
        rotated = self.num_heads + self.num_kv_heads
        shape = (B, L, -1, self.head_dim)
        if "qkv_proj" in self:
            qkv = self.qkv_proj(x).reshape(shape)
            qk, values = qkv, qkv[:, :, rotated:]  # a norm of the values too costs less than a copy without them
        else:
            qk = mx.concatenate([self.q_proj(x), self.k_proj(x)], axis=-1).reshape(shape)
            values = self.v_proj(x).reshape(shape)
        norms = self._norms if "_norms" in self else self._norm_weights()
        qk = mx.fast.rms_norm(qk, None, self.q_norm.eps)[:, :, :rotated] * norms
        qk = self._rotated(qk.transpose(0, 2, 1, 3), positions)
        return qk[:, : self.num_heads], qk[:, self.num_heads :], values.transpose(0, 2, 1, 3)

    @property
    def _queries_are_half(self) -> bool:
        """Of the joined projection, in full precision."""
        return type(self.get("qkv_proj")) is nn.Linear and self.num_heads == 2 * self.num_kv_heads

    def _project_rows(self, x: mx.array, positions: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """`project` for one position of each of many rows.

        Queries are half of the joined projection, keys and values the other half. A product for each half is one kernel
        still, and its results lie side by side: attention of so few queries would copy them otherwise.
        """
        B, _, D = x.shape
        halves = x.reshape(B, D) @ self.qkv_proj.weight.reshape(2, -1, D).swapaxes(1, 2)
        queries, cached = (half.reshape(B, -1, 1, self.head_dim) for half in mx.split(halves, 2))
        queries = self._rotated(self.q_norm(queries), positions)
        keys = self._rotated(self.k_norm(cached), positions)  # of the values too: a copy without them costs more
        return queries, keys[:, : self.num_kv_heads], cached[:, self.num_kv_heads :]

    def _rotated(self, x: mx.array, positions: mx.array) -> mx.array:
        return mx.fast.rope(x, self.head_dim, traditional=False, base=self.rope_theta, scale=1.0, offset=positions)

    def _norm_weights(self) -> mx.array:
        """The weights of both norms, a row for each head: (heads + kv_heads, head_dim)."""
        rows = [(self.q_norm, self.num_heads), (self.k_norm, self.num_kv_heads)]
        return mx.concatenate([mx.broadcast_to(norm.weight, (count, self.head_dim)) for norm, count in rows])


class MLP(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def join(self) -> None:
        join(self, ("gate_proj", "up_proj"), "gate_up_proj")

    def __call__(self, x: mx.array) -> mx.array:
        if "gate_up_proj" in self:
            gate, up = mx.split(self.gate_up_proj(x), 2, axis=-1)
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(silu(gate) * up)


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self._step = (self._before, self._after)

    def join(self) -> None:
        """Join the projections, and compile the parts before and after attention for steps of one token."""
        self.self_attn.join()
        self.mlp.join()
        self._step = (mx.compile(self._before), mx.compile(self._after))

    def __call__(self, x: mx.array, positions: mx.array, cache: Cache) -> mx.array:
        before, after = self._step if x.shape[1] == 1 else (self._before, self._after)
        queries, keys, values = before(x, positions)
        return after(x, cache.attend(queries, keys, values, self.self_attn.head_dim**-0.5))

    def _before(self, x: mx.array, positions: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        return self.self_attn.project(self.input_layernorm(x), positions)

    def _after(self, x: mx.array, attended: mx.array) -> mx.array:
        B, L, _ = x.shape
        x = x + self.self_attn.o_proj(attended.transpose(0, 2, 1, 3).reshape(B, L, -1))
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The stack of layers, from embeddings to normalised hidden states."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, embeddings: mx.array, cache: Sequence[Cache]) -> mx.array:
        """embeddings (B, L, D) at the positions that follow the cache → hidden states (B, L, D)."""
        x, positions = embeddings, cache[0].positions
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            x = layer(x, positions, layer_cache)
        return self.norm(x)

    def prepare(self) -> None:
        """Prepare loaded weights to run, layer by layer. Their names then differ from the checkpoint's.

        On a CPU nothing is joined: joining saves kernel launches, which a CPU does not have, and costs a copy.
        """
        for layer in self.layers:
            if mx.default_device() != mx.cpu:
                layer.join()
            layer.self_attn.fix_norms()
            mx.eval(layer.parameters(), layer.self_attn._norms)
        mx.clear_cache()

    def make_cache(self, capacity: int, dtype: mx.Dtype, rows: int = 1) -> list[KVCache]:
        """Empty caches, one a layer, with room for `capacity` positions of each row."""
        heads, head_dim = self.config.num_key_value_heads, self.config.head_dim
        return [KVCache(capacity, heads, head_dim, dtype, rows) for _ in self.layers]
