"""The Qwen3 decoder: grouped-query attention with q/k norms and rotary positions, SwiGLU, tied head.

Positions count on through text and audio alike, so the three rows of the checkpoint's interleaved MRoPE are equal and
`mx.fast.rope` computes the same rotation (model/splice.py states the general rule). Attribute names are the
checkpoint's.
"""

import mlx.core as mx
import mlx.nn as nn

from qwen3_asr_mlx_runtime.model.config import TextConfig

_CAPACITY_STEP = 128  # capacities are multiples of this, so that few buffer sizes occur


class KVCache:
    """Keys and values of one layer in buffers reserved for the whole utterance: (1, kv_heads, capacity, head_dim)."""

    def __init__(self, capacity: int, heads: int, head_dim: int, dtype: mx.Dtype) -> None:
        capacity = -(-capacity // _CAPACITY_STEP) * _CAPACITY_STEP
        self.offset = 0
        self.keys = mx.zeros((1, heads, capacity, head_dim), dtype)
        self.values = mx.zeros((1, heads, capacity, head_dim), dtype)

    def extend(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys and values (1, kv_heads, L, head_dim) of the cache's dtype; return all that are held.

        Raises TypeError for another dtype (it would be converted without a word) and ValueError beyond the capacity.
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

    def __call__(self, x: mx.array, cache: KVCache) -> mx.array:
        B, L, _ = x.shape
        queries = self.q_norm(self.q_proj(x).reshape(B, L, self.num_heads, -1)).transpose(0, 2, 1, 3)
        keys = self.k_norm(self.k_proj(x).reshape(B, L, self.num_kv_heads, -1)).transpose(0, 2, 1, 3)
        values = self.v_proj(x).reshape(B, L, self.num_kv_heads, -1).transpose(0, 2, 1, 3)  # (B, kv_heads, L, head_dim)
        queries, keys = self._rotate(queries, cache.offset), self._rotate(keys, cache.offset)
        keys, values = cache.extend(keys, values)
        mask = "causal" if L > 1 else None
        out = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self.head_dim**-0.5, mask=mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(B, L, -1))

    def _rotate(self, x: mx.array, offset: int) -> mx.array:
        return mx.fast.rope(x, self.head_dim, traditional=False, base=self.rope_theta, scale=1.0, offset=offset)


class MLP(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, cache: KVCache) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The stack of layers, from embeddings to normalised hidden states."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, embeddings: mx.array, cache: list[KVCache]) -> mx.array:
        """embeddings (1, L, D) at the positions that follow the cache → hidden states (1, L, D)."""
        x = embeddings
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            x = layer(x, layer_cache)
        return self.norm(x)

    def make_cache(self, capacity: int, dtype: mx.Dtype) -> list[KVCache]:
        """Empty caches, one a layer, with room for `capacity` positions each."""
        heads, head_dim = self.config.num_key_value_heads, self.config.head_dim
        return [KVCache(capacity, heads, head_dim, dtype) for _ in self.layers]
