"""The safetensors format, written one tensor at a time: eight bytes of length, a JSON header, the tensors."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Tensor:
    """A tensor as it is stored; `values` makes its float32 numbers, of which the nearest bfloat16 ones are written."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    values: Callable[[], NDArray[np.float32]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * (4 if self.dtype == "float32" else 2)

    def stored(self) -> memoryview:
        halves = _bfloat16(np.ascontiguousarray(self.values()))
        words = halves if self.dtype == "bfloat16" else halves.astype("<u4") << np.uint32(16)
        return memoryview(words).cast("B")


def write_weights(folder: Path, tensors: Sequence[Tensor], shards: int) -> None:
    """model.safetensors, or `shards` files and the index that names them."""
    if shards == 1:
        _write_file(folder / "model.safetensors", tensors)
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        _write_file(folder / file, tensors[i::shards])
        weight_map.update({tensor.name: file for tensor in tensors[i::shards]})
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors)}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write_file(path: Path, tensors: Sequence[Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        dtype = "F32" if tensor.dtype == "float32" else "BF16"
        header[tensor.name] = {
            "dtype": dtype,
            "shape": tensor.shape,
            "data_offsets": (offset, offset + tensor.nbytes),
        }
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            file.write(tensor.stored())


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of the numbers, rounded to nearest even."""
    words = values.view(np.uint32)
    return ((words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
