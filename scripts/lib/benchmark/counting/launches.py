"""Kernels that a graph launches on Metal, and the bytes that they read and write; the rules are in docs/data/counts.md.

Layouts are followed through the graph, as MLX 0.32 does it: a view costs nothing, unless a primitive behind it needs
its elements side by side and copies them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from benchmark.counting.graph import Array, Graph, Node, dense

Strides = tuple[int, ...]
Fits = Callable[[Sequence[int], Strides], bool]
VECTOR_QUERIES = 8  # at most so many take the vector kernel of attention


@dataclass
class Count:
    """`copies`, `copied`: kernels and bytes that are added if the buffers of keys and values that come from the step
    before cannot be written in place. `by_name`: kernels and bytes of each primitive."""

    primitives: int = 0
    kernels: int = 0
    bytes: int = 0
    copies: int = 0
    copied: int = 0
    kernels_by_name: Counter[str] = field(default_factory=Counter)
    bytes_by_name: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, kernels: int, moved: int) -> None:
        self.kernels += kernels
        self.bytes += moved
        if kernels:
            self.kernels_by_name[name] += kernels
            self.bytes_by_name[name] += moved


_ELEMENTWISE = frozenset(
    re.findall(
        r"\w+",
        """
        Abs Add AsType BitwiseAnd BitwiseOr Ceil Cos Divide Equal Erf Exp Floor Greater GreaterEqual Less
        LessEqual Log LogicalAnd LogicalNot LogicalOr Maximum Minimum Multiply Negative NotEqual Power
        Remainder Round Rsqrt Select Sigmoid Sign Sin Sqrt Square Subtract Tanh
        """,
    )
)
_PRODUCTS = frozenset(("Matmul", "AddMM", "QuantizedMatmul"))
_ONCE = frozenset(
    re.findall(
        r"\w+",
        """
        And Arange ArgPartition ArgReduce ArgSort CumSum DynamicSlice Full LogSumExp Max Min Or Partition
        Prod Reduce Softmax Sort Sum
        """,
    )
)  # one kernel, whatever the layout
_GATHERS = frozenset(("Gather", "GatherAxis"))
_UPDATES = frozenset(("SliceUpdate", "DynamicSliceUpdate", "Scatter", "ScatterAxis"))


def count(graph: Graph, positions: int = 0) -> Count:
    """What evaluating `graph` launches. `positions`: those of each row that a boolean mask lets through; attention
    reads the keys and values of no other."""
    counter = _Counter(graph, positions)
    for part in graph.parts:
        counter.enter(part)
        for node in part:
            counter.visit(node)
    return counter.count


class _Counter:
    def __init__(self, graph: Graph, positions: int) -> None:
        self.count = Count()
        self._positions = positions
        self._strides = {leaf.id: leaf.strides or dense(leaf.shape) for leaf in graph.leaves}
        self._leaves = {*self._strides}
        self._uses: Counter[int] = Counter()
        self._here: set[int] = set()

    def enter(self, part: Sequence[Node]) -> None:
        self.count.primitives += len(part)
        self._uses = Counter(one for node in part for one in {array.id for array in node.inputs})
        self._here = {output.id for node in part for output in node.outputs}

    def visit(self, node: Node) -> None:
        name = "Compiled" if node.name.startswith("Compiled") else node.name
        view = _VIEWS.get(name)
        if view is not None:
            self._set(node.outputs, view(node, self._strides[node.inputs[0].id]))
        elif name in ("Reshape", "Flatten", "Unflatten"):
            self._reshape(node)
        elif name in _ELEMENTWISE or name == "Compiled":
            self._elementwise(name, node)
        elif name in _PRODUCTS:
            self._once(name, node, _multiplies, 2)
        elif name in _ONCE:
            self._once(name, node)
        elif name in _GATHERS:
            self._add(name, 1, sum(map(self._bytes, node.inputs[1:])) + 2 * _bytes_of(node.outputs))
        elif name in _UPDATES:
            self._update(name, node)
        else:
            self._special(name, node)
        for output in node.outputs:
            self._strides.setdefault(output.id, dense(output.shape))

    def _special(self, name: str, node: Node) -> None:
        first = node.inputs[0] if node.inputs else None
        moved = 2 * _bytes_of(node.outputs)
        if name == "ScaledDotProductAttention":
            self._attention(name, node)
        elif name in ("RMSNorm", "LayerNorm"):
            self._once(name, node, _normalises, 1)
        elif name == "RoPE":
            self._once(name, node, _rotates, 1)
        elif name == "Convolution":
            self._once(name, node, is_dense, 2)
        elif name == "Concatenate":
            self._add(name, sum(one.size > 0 for one in node.inputs), moved)
        elif name == "Pad" and first is not None:
            self._add(name, 2, _bytes_of(node.outputs) + 2 * self._bytes(first))
        elif name == "Contiguous" and first is not None:
            contiguous = is_dense(first.shape, self._strides[first.id])
            self._add(name, int(not contiguous), 0 if contiguous else moved)
        else:
            raise ValueError(f"no rule says what {node.name} launches")

    def _once(self, name: str, node: Node, fits: Fits | None = None, fitted: int = 0) -> None:
        """One kernel; before it, a copy of each of the first `fitted` inputs whose layout does not fit."""
        read = sum(self._fitted(name, array, fits) for array in node.inputs[:fitted] if fits)
        read += sum(map(self._bytes, node.inputs[fitted:]))
        self._add(name, 1, read + _bytes_of(node.outputs))

    def _elementwise(self, name: str, node: Node) -> None:
        """Equal layouts without gaps are kept; others give a dense one."""
        self._once(name, node)
        whole = [array for array in node.inputs if array.size > 1]
        layouts = {(array.shape, self._strides[array.id]) for array in whole}
        if len(layouts) == 1:
            [(shape, strides)] = layouts
            if _has_no_gaps(shape, strides):
                for output in node.outputs:
                    if output.shape == shape:
                        self._strides[output.id] = strides

    def _reshape(self, node: Node) -> None:
        [array], [output] = node.inputs, node.outputs
        strides = reshaped(array.shape, self._strides[array.id], output.shape)
        if strides is None:
            self._add("copy of Reshape", 1, self._bytes(array) + _bytes_of(node.outputs))
        else:
            self._strides[output.id] = strides

    def _update(self, name: str, node: Node) -> None:
        buffer, *others = node.inputs
        written = others[0] if name.endswith("SliceUpdate") else others[-1]
        self._add(name, 1, sum(map(self._bytes, others)) + written.size * node.outputs[0].itemsize)
        copied = self._bytes(buffer) + _bytes_of(node.outputs)
        shared = self._uses[buffer.id] > 1 and (buffer.id in self._here or buffer.id in self._leaves)
        if shared or not _has_no_gaps(buffer.shape, self._strides[buffer.id]):
            self._add(f"copy of {name}", 1, copied)
        elif buffer.id in self._leaves:
            self.count.copies += 1
            self.count.copied += copied

    def _attention(self, name: str, node: Node) -> None:
        queries, keys, values, *masks = node.inputs
        few = queries.shape[2] <= VECTOR_QUERIES
        query, key, mask = (_query_fits, _keys_fit, _mask_fits) if few else (_is_matrix,) * 3
        cached = sum(self._fitted(name, array, key) for array in (keys, values))
        if few and masks and masks[0].dtype == "bool":  # the kernel skips what is hidden
            cached = cached * min(self._positions, keys.shape[2]) // keys.shape[2]
        read = self._fitted(name, queries, query) + sum(self._fitted(name, array, mask) for array in masks)
        self._add(name, 1, read + cached + _bytes_of(node.outputs))
        if not few:  # the kernel writes (rows, queries, heads, head_dim)
            _, heads, length, width = node.outputs[0].shape
            self._strides[node.outputs[0].id] = (heads * length * width, width, heads * width, 1)

    def _fitted(self, name: str, array: Array, fits: Fits) -> int:
        """The bytes that are read of an array, which is copied first if its layout does not fit."""
        read = self._bytes(array)
        if fits(array.shape, self._strides[array.id]):
            return read
        copied = array.size * array.itemsize
        self._add(f"copy for {name}", 1, read + copied)
        return copied

    def _bytes(self, array: Array) -> int:
        """Of what is read: an element that a broadcast repeats counts once."""
        lengths = [length for length, stride in zip(array.shape, self._strides[array.id], strict=True) if stride]
        return prod(lengths) * array.itemsize if array.size else 0

    def _add(self, name: str, kernels: int, moved: int) -> None:
        self.count.add(name, kernels, moved)

    def _set(self, outputs: Iterable[Array], strides: Strides) -> None:
        for output in outputs:
            self._strides[output.id] = strides


def _bytes_of(arrays: Iterable[Array]) -> int:
    return sum(array.size * array.itemsize for array in arrays)


def _expanded(node: Node, strides: Strides) -> Strides:
    result, shape = list(strides), list(node.inputs[0].shape)
    for axis in node.numbers:
        result.insert(axis, result[axis] * shape[axis] if axis < len(shape) else 1)
        shape.insert(axis, 1)
    return tuple(result)


def _broadcast(node: Node, strides: Strides) -> Strides:
    shape, wanted = node.inputs[0].shape, node.outputs[0].shape
    missing = len(wanted) - len(shape)
    pairs = zip(strides, shape, wanted[missing:], strict=True)
    kept = (stride if length == new else 0 for stride, length, new in pairs)
    return (*(0,) * missing, *kept)


def _squeezed(node: Node, strides: Strides) -> Strides:
    return tuple(stride for axis, stride in enumerate(strides) if axis not in node.numbers)


_VIEWS: Mapping[str, Callable[[Node, Strides], Strides]] = {
    "Transpose": lambda node, strides: tuple(strides[axis] for axis in node.numbers),
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "Slice": lambda node, strides: tuple(stride * step for stride, step in zip(strides, node.numbers, strict=True)),
    "AsStrided": lambda node, _: node.numbers,
    "Broadcast": _broadcast,
    "BroadcastAxes": _broadcast,
    **dict.fromkeys(("Split", "Copy", "CustomTransforms", "Depends", "StopGradient"), lambda _, strides: strides),
}


def _collapsed(shape: Sequence[int], strides: Strides) -> list[tuple[int, int]]:
    """(length, stride) of the dimensions, those that follow each other in memory as one; none of length 1."""
    merged: list[tuple[int, int]] = []
    for length, stride in zip(shape, strides, strict=True):
        if length == 1:
            continue
        if merged and merged[-1][1] == length * stride:
            merged[-1] = (merged[-1][0] * length, stride)
        else:
            merged.append((length, stride))
    return merged


def reshaped(shape: Sequence[int], strides: Strides, wanted: Sequence[int]) -> Strides | None:
    """The strides of the array in another shape; None if it has to be copied for that."""
    if prod(shape) == 0 or is_dense(shape, strides):
        return dense(wanted)
    parts = _collapsed(shape, strides)
    result: list[int] = []
    for length in wanted:
        if parts and parts[0][0] % length == 0:
            rest, stride = parts[0][0] // length, parts[0][1]
            result.append(rest * stride)
            parts = parts[1:] if rest == 1 else [(rest, stride), *parts[1:]]
        elif length == 1:
            result.append(result[-1])
        else:
            return None
    return tuple(result)


def is_dense(shape: Sequence[int], strides: Strides) -> bool:
    """Whether the elements follow each other in order."""
    return _collapsed(shape, strides) in ([], [(prod(shape), 1)])


def _has_no_gaps(shape: Sequence[int], strides: Strides) -> bool:
    """Whether the elements fill their part of memory, in any order."""
    ordered = sorted((stride, length) for length, stride in zip(shape, strides, strict=True) if length > 1)
    expected = 1
    for stride, length in ordered:
        if stride != expected:
            return False
        expected *= length
    return True


def _is_matrix(shape: Sequence[int], strides: Strides) -> bool:
    return shape[-1] == 1 or strides[-1] == 1


def _multiplies(shape: Sequence[int], strides: Strides) -> bool:
    """Whether a product takes it as it is: rows or columns side by side."""
    if len(shape) < 2:
        return True
    return 1 in (strides[-1], strides[-2]) or 1 in shape[-2:]


def _normalises(shape: Sequence[int], strides: Strides) -> bool:
    rows = len(shape) < 2 or shape[-2] == 1 or strides[-2] in (0, shape[-1])
    return _has_no_gaps(shape, strides) and strides[-1] == 1 and rows


def _rotates(shape: Sequence[int], strides: Strides) -> bool:
    *_, length, width = shape
    heads = prod(shape[1:-2])
    if is_dense(shape, strides) or prod(shape[:-3]) == 1:
        return True
    return len(shape) == 4 and (strides[0], strides[1], strides[2]) == (length * heads * width, width, heads * width)


def _query_fits(shape: Sequence[int], strides: Strides) -> bool:
    rows, heads, _, width = shape
    if is_dense(shape, strides):
        return True
    if 1 not in (rows, heads):
        return False
    axis = 1 if rows == 1 else 0
    return strides[3] == 1 and strides[2] == width * shape[axis] and strides[axis] == width


def _keys_fit(shape: Sequence[int], strides: Strides) -> bool:
    return strides[-1] == 1 and (1 in shape[:2] or strides[0] == strides[1] * shape[1])


def _mask_fits(shape: Sequence[int], strides: Strides) -> bool:
    return is_dense(shape, strides) or 1 in shape[:2] or strides[0] == strides[1] * shape[1]
