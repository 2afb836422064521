"""Matrix-vector products with a large weight on a CPU, split over several cores.

A step of generation multiplies one row by every weight, and could run at the speed of memory. BLAS packs a weight
before multiplying it, which for so few rows takes twice as long as reading it. Small blocks BLAS multiplies without
packing, on one thread. So a weight is split into parts of small blocks; each part has its own MLX stream and thread.
"""

import os
import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

ROWS = 4  # of a product, at most, for this to be faster
_MAX_PARTS = 8  # with more, memory bandwidth is the limit
_BLOCK = 131_072  # elements of a block: few enough that OpenBLAS does not pack them for ROWS rows
_MIN_WEIGHT = 2**20  # elements of a weight: with fewer, waiting for other cores costs more than it gains
_MIN_BLOCK = 16  # rows of a block: with fewer, calls dominate the cost
_streams = [mx.new_thread_local_stream(mx.cpu) for _ in range(1, _MAX_PARTS)]  # beside the default stream


class SkinnyProduct:
    """x → x @ weight.T for at most ROWS rows of x; holds views of `weight` (N, K) and no copy."""

    def __init__(self, weight: mx.array, parts: int, block: int) -> None:
        K = weight.shape[1]
        self._parts = [part.reshape(-1, block, K).swapaxes(1, 2) for part in mx.split(weight, parts)]
        mx.eval(self._parts)  # (blocks, K, block) each

    @classmethod
    def of(cls, weight: mx.array, cores: int) -> "SkinnyProduct | None":
        """None if it would not be faster, or the weight has no equal parts of equal blocks."""
        if weight.size < _MIN_WEIGHT:
            return None
        N, K = weight.shape
        for parts in range(min(cores, _MAX_PARTS), 0, -1):
            for block in range(min(_BLOCK // K, N // parts), _MIN_BLOCK - 1, -1):
                if N % (parts * block) == 0:
                    return cls(weight, parts, block)
        return None

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., K) → (..., N)."""
        rows = x.reshape(1, -1, x.shape[-1])
        first, *others = self._parts
        products = [_product(rows, first)]
        for part, stream in zip(others, _streams, strict=False):
            with mx.stream(stream):  # waits for its inputs from the first stream
                products.append(_product(rows, part))
        return mx.concatenate(products, axis=-1).reshape(*x.shape[:-1], -1)


def _product(rows: mx.array, part: mx.array) -> mx.array:
    """rows (1, R, K), part (blocks, K, block) → (R, blocks · block)."""
    return (rows @ part).swapaxes(0, 1).reshape(rows.shape[1], -1)


class SkinnyLinear(nn.Linear):
    """A projection without bias, split over cores for few rows. The weight is shared, and keeps its name."""

    def __init__(self, weight: mx.array, product: SkinnyProduct) -> None:
        nn.Module.__init__(self)
        self.weight = weight
        self._product = product

    def __call__(self, x: mx.array) -> mx.array:
        return self._product(x) if _few(x) else super().__call__(x)


class SkinnyEmbedding(nn.Embedding):
    """An embedding that is also the head, split over cores for few rows."""

    def __init__(self, weight: mx.array, product: SkinnyProduct) -> None:
        nn.Module.__init__(self)
        self.weight = weight
        self._product = product

    def as_linear(self, x: mx.array) -> mx.array:
        return self._product(x) if _few(x) else super().as_linear(x)


def with_skinny_products(layers: dict[str, Any]) -> dict[str, Any]:
    """A tree of layers with faster projections and embeddings: on a CPU under Linux (Accelerate was never measured),
    those that are large, have no bias and are not quantised."""
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
