"""The graph of lazy arrays, as graph.cpp prints it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any


@dataclass(frozen=True)
class Array:
    """`strides`: of an evaluated array, in elements; None for one that is still lazy."""

    id: int
    shape: tuple[int, ...]
    dtype: str
    itemsize: int
    strides: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Node:
    """A primitive with its arrays. `numbers`: the axes of a transposition or of added and removed dimensions, the steps
    of a slice, the strides of a strided view."""

    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    numbers: tuple[int, ...] = ()


@dataclass
class Graph:
    """`parts`: the primitives that are evaluated, and waited for, one part after the other; in each of them after those
    of their inputs. `leaves`: the arrays that were evaluated before."""

    parts: list[list[Node]] = field(default_factory=lambda: [[]])
    leaves: list[Array] = field(default_factory=list)
    _arrays: dict[int, Array] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> None:
        """Add the printed primitives that are not there yet to the last part."""
        for line in lines:
            node = json.loads(line)
            outputs = [_array(output) for output in node["outputs"]]
            if outputs[0].id in self._arrays:
                continue
            self._arrays |= {output.id: output for output in outputs}
            if not node["name"]:
                self.leaves += outputs
                continue
            numbers = node.get("axes") or node.get("steps") or node.get("strides") or ()
            inputs = tuple(self._arrays[one] for one in node["inputs"])
            self.parts[-1].append(Node(node["name"], inputs, tuple(outputs), tuple(numbers)))


def _array(printed: dict[str, Any]) -> Array:
    strides = printed.get("strides")
    return Array(
        printed["id"],
        tuple(printed["shape"]),
        printed["dtype"],
        printed["itemsize"],
        None if strides is None else tuple(strides),
    )


def dense(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array whose elements follow each other."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
