"""Products of a few rows with a large weight, on a CPU: two halves of the weight on two cores at once.

A step of generation is one row times every weight, as fast as the weights can be read. BLAS packs a weight before it
multiplies it, which for so few rows takes twice as long as reading it, and more threads do not help. In small blocks it
does without, on one core; a second stream of MLX puts a second core to work.
"""

import sys
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

ROWS = 4  # of a product for which this pays
_BLOCK = 131_072  # elements of a block: few enough for OpenBLAS to multiply them by ROWS rows as they lie
_LEAST = 2**20  # elements of a weight: with fewer, the second core is not worth being waited for
_LEAST_BLOCK = 16  # rows of a block: with fewer, calls are what costs
_second_core = mx.new_thread_local_stream(mx.cpu)


class SkinnyProduct:
    """x → x @ weight.T for at most ROWS rows of x; holds views of `weight` (N, K) and no copy."""

    def __init__(self, weight: mx.array, block: int) -> None:
        N, K = weight.shape
        halves = [weight[: N // 2], weight[N // 2 :]]
        self._halves = [half.reshape(-1, block, K).swapaxes(1, 2) for half in halves]  # (blocks, K, block)
        mx.eval(self._halves)

    @classmethod
    def of(cls, weight: mx.array) -> "SkinnyProduct | None":
        """None where it would not pay, or the halves are not made of equal blocks."""
        N, K = weight.shape
        most = min(_BLOCK // K, N // 2)
        block = next((rows for rows in range(most, _LEAST_BLOCK - 1, -1) if N % (2 * rows) == 0), None)
        return cls(weight, block) if block and weight.size >= _LEAST else None

    def __call__(self, x: mx.array) -> mx.array:
        """x (..., K) → (..., N)."""
        rows = x.reshape(1, -1, x.shape[-1])
        with mx.stream(_second_core):
            second = self._half(rows, 1)
        products = mx.concatenate([self._half(rows, 0), second], axis=-1)
        return products.reshape(*x.shape[:-1], -1)

    def _half(self, rows: mx.array, which: int) -> mx.array:
        """rows (1, R, K) → (R, N / 2)."""
        return (rows @ self._halves[which]).swapaxes(0, 1).reshape(rows.shape[1], -1)


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
    if sys.platform != "linux" or mx.default_device() != mx.cpu:
        return layers
    return tree_map(_skinny, layers, is_leaf=nn.Module.is_module)


def _skinny(layer: nn.Module) -> nn.Module:
    kinds = {nn.Linear: SkinnyLinear, nn.Embedding: SkinnyEmbedding}
    kind = kinds.get(type(layer))
    if kind is None or "bias" in layer:
        return layer
    product = SkinnyProduct.of(layer.weight)
    return kind(layer.weight, product) if product else layer


def _few(x: mx.array) -> bool:
    return x.size <= ROWS * x.shape[-1]
