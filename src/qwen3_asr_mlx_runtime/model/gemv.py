"""Products of a few rows with a large weight, on a CPU: parts of the weight on several cores at once.

A step of generation is one row times every weight, and could go as fast as memory is read. BLAS packs a weight before
it multiplies it, which for so few rows takes twice as long as reading it. In small blocks it does without, on one
thread; each part of a weight has a stream of MLX, and so a thread, of its own.
"""

import os
import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

ROWS = 4  # of a product for which this pays
_MOST_PARTS = 8  # with more, memory is what is waited for
_BLOCK = 131_072  # elements of a block: few enough for OpenBLAS to multiply them by ROWS rows as they lie
_LEAST = 2**20  # elements of a weight: with fewer, the other cores are not worth being waited for
_LEAST_BLOCK = 16  # rows of a block: with fewer, calls are what costs
_streams = [mx.new_thread_local_stream(mx.cpu) for _ in range(1, _MOST_PARTS)]  # beside the one that all else is on


class SkinnyProduct:
    """x → x @ weight.T for at most ROWS rows of x; holds views of `weight` (N, K) and no copy."""

    def __init__(self, weight: mx.array, parts: int, block: int) -> None:
        K = weight.shape[1]
        self._parts = [part.reshape(-1, block, K).swapaxes(1, 2) for part in mx.split(weight, parts)]
        mx.eval(self._parts)  # (blocks, K, block) each

    @classmethod
    def of(cls, weight: mx.array, cores: int) -> "SkinnyProduct | None":
        """None where it would not pay, or there are no equal parts of equal blocks."""
        if weight.size < _LEAST:
            return None
        N, K = weight.shape
        for parts in range(min(cores, _MOST_PARTS), 0, -1):
            for block in range(min(_BLOCK // K, N // parts), _LEAST_BLOCK - 1, -1):
                if N % (parts * block) == 0:
                    return cls(weight, parts, block)
        return None

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., K) → (..., N)."""
        rows = x.reshape(1, -1, x.shape[-1])
        first, *others = self._parts
        products = [_product(rows, first)]
        for part, stream in zip(others, _streams, strict=False):
            with mx.stream(stream):  # of whatever is made outside, it waits for the first stream
                products.append(_product(rows, part))
        return mx.concatenate(products, axis=-1).reshape(*x.shape[:-1], -1)


def _product(rows: mx.array, part: mx.array) -> mx.array:
    """rows (1, R, K), part (blocks, K, block) → (R, blocks · block)."""
    return (rows @ part).swapaxes(0, 1).reshape(rows.shape[1], -1)


class SkinnyLinear(nn.Linear):
    """A projection without bias, with its own way for few rows. The weight is shared, and keeps its name."""

    def __init__(self, weight: mx.array, product: SkinnyProduct) -> None:
        nn.Module.__init__(self)
        self.weight = weight
        self._product = product

    def __call__(self, x: mx.array) -> mx.array:
        return self._product(x) if _few(x) else super().__call__(x)


class SkinnyEmbedding(nn.Embedding):
    """An embedding that is the head as well, with its own way for few rows."""

    def __init__(self, weight: mx.array, product: SkinnyProduct) -> None:
        nn.Module.__init__(self)
        self.weight = weight
        self._product = product

    def as_linear(self, x: mx.array) -> mx.array:
        return self._product(x) if _few(x) else super().as_linear(x)


def with_skinny_products(layers: dict[str, Any]) -> dict[str, Any]:
    """A tree of layers, those projections and embeddings replaced that gain by it: on a CPU under Linux (Accelerate was
    never measured), what is large, has no bias and is not quantised."""
    if sys.platform == "linux" and mx.default_device() == mx.cpu:
        cores = len(os.sched_getaffinity(0))
        return tree_map(lambda layer: _skinny(layer, cores), layers, is_leaf=nn.Module.is_module)
    else:
        return layers


def _skinny(layer: nn.Module, cores: int) -> nn.Module:
    kinds = {nn.Linear: SkinnyLinear, nn.Embedding: SkinnyEmbedding}
    kind = kinds.get(type(layer))
    if kind is None or "bias" in layer:
        return layer
    product = SkinnyProduct.of(layer.weight, cores)
    return kind(layer.weight, product) if product else layer


def _few(x: mx.array) -> bool:
    return 0 < x.size <= ROWS * x.shape[-1]
