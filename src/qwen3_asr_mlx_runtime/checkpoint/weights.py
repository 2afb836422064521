"""A checkpoint folder → a model with its weights, in the released, the native or the mlx-community layout.

Names, shapes and dtypes are checked in the headers before a module is built or a weight is read.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from qwen3_asr_mlx_runtime.checkpoint.files import TensorHeader, read_config, read_headers, weight_files
from qwen3_asr_mlx_runtime.checkpoint.quantize import (
    Layers,
    check_layers,
    planned_layers,
    quantize_layers,
    stored_layers,
    summary,
)
from qwen3_asr_mlx_runtime.checkpoint.shapes import EMBEDDING, FLOATING, HEAD, check_headers
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelUnsupported
from qwen3_asr_mlx_runtime.model.aligner import ForcedAligner
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.device import as_device_failure
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

M = TypeVar("M", bound=Qwen3ASR)

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
_RENAMED = (  # prefixes of the released and the native layout → ours, which is that of mlx-community
    ("thinker.", ""),
    ("model.language_model.", "model."),
    ("model.audio_tower.", "audio_tower."),
    ("model.multi_modal_projector.linear_1.", "audio_tower.proj1."),
    ("model.multi_modal_projector.linear_2.", "audio_tower.proj2."),
    ("score.", "lm_head."),
)
_CONVOLUTIONS = tuple(f"audio_tower.conv2d{i}.weight" for i in (1, 2, 3))


_STORED_BYTES = {"U8": 1, "I8": 1, "BOOL": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4}


class _Stored(NamedTuple):
    """The checked headers of a folder and its configuration. `layers`: the quantised layers. `transposed`: convolutions
    are (out, height, width, in) as in MLX."""

    config: ModelConfig
    files: list[Path]
    headers: dict[str, TensorHeader]
    layers: Layers
    transposed: bool

    @classmethod
    def of(cls, folder: Path, kind: type[Qwen3ASR]) -> "_Stored":
        config, files = read_config(folder, kind.config_type), weight_files(folder)
        headers = _headers(files)
        layers, transposed = stored_layers(config.quantization, headers), _convolutions_transposed(headers)
        check_headers(config, headers, layers, transposed=transposed)
        return cls(config, files, headers, layers, transposed)

    @property
    def dtype(self) -> mx.Dtype:
        return FLOATING[self.headers["model.norm.weight"].dtype]


def load_model(
    folder: Path,
    dtype: str | None = None,
    *,
    quantize: str | None = None,
    force_4bit_tower: bool = False,
    join: bool = True,
    on_layer: Callable[[], None] = lambda: None,
) -> Qwen3ASR:
    """Build the recogniser of `folder` and read its weights, all evaluated.

    `dtype` is float32, bfloat16 or float16; None keeps that of the checkpoint. `quantize` is one of
    quantize.SCHEMES; None keeps weights as they are stored. `join` prepares the decoder to run fast; without it the
    parameters keep the names of the checkpoint. `on_layer` is called before each layer is read. Raises ModelIncomplete,
    ModelCorrupt, or ModelUnsupported if names, shapes or dtypes differ from the configuration, or if the weights cannot
    be quantised that way.
    """
    return _finish(_load(Qwen3ASR, folder, dtype, quantize, force_4bit_tower, join), on_layer)


def load_aligner(
    folder: Path,
    dtype: str | None = None,
    *,
    quantize: str | None = None,
    force_4bit_tower: bool = False,
    join: bool = True,
) -> ForcedAligner:
    """Like `load_model`, for a forced aligner."""
    return _finish(_load(ForcedAligner, folder, dtype, quantize, force_4bit_tower, join))


def aligner_steps(
    folder: Path, dtype: str | None = None, *, quantize: str | None = None, force_4bit_tower: bool = False
) -> Generator[None, None, ForcedAligner]:
    """`load_aligner` in steps: yields before each layer is read."""
    return _load(ForcedAligner, folder, dtype, quantize, force_4bit_tower, join=True)


def _load(
    kind: type[M],
    folder: Path,
    dtype: str | None,
    quantize: str | None,
    force_4bit_tower: bool,
    join: bool,
) -> Generator[None, None, M]:
    stored = _Stored.of(folder, kind)
    model = kind(stored.config)
    layers = planned_layers(model, quantize) if quantize else stored.layers
    check_layers(layers, stored.layers, force_4bit_tower=force_4bit_tower)
    quantize_layers(model, stored.layers)
    _read_weights(model, stored.files, stored.transposed)
    if not stored.layers:
        quantize_layers(model, layers)
    model.quantization = summary(model)
    model.set_dtype(DTYPES[dtype] if dtype else stored.dtype)
    model.eval()
    try:
        yield from _evaluate(model)
        if join:
            model.prepare()
    except RuntimeError as error:
        raise as_device_failure(error) or ModelCorrupt(f"the weights could not be read: {error}") from error
    return model


def _finish(steps: Generator[None, None, M], on_layer: Callable[[], None] = lambda: None) -> M:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(M, end.value)
        on_layer()


def _headers(files: list[Path]) -> dict[str, TensorHeader]:
    stored = read_headers(files)
    headers = {_canonical_name(name): header for name, header in stored.items()}
    if len(headers) < len(stored):
        raise ModelUnsupported("a tensor is stored twice, under the names of two layouts")
    return headers


def _canonical_name(name: str) -> str:
    for prefix, ours in _RENAMED:
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name


def _read(file: Path) -> dict[str, mx.array]:
    try:
        return mx.load(str(file))  # type: ignore[return-value]
    except RuntimeError as error:
        raise ModelCorrupt(f"{file.name} cannot be read: {error}", file=file.name) from error


def _convolutions_transposed(headers: Mapping[str, TensorHeader]) -> bool:
    """Whether convolution weights are (out, height, width, in) as MLX has them, rather than (out, in, height, width).

    conv2d1 has one input channel and a 3 by 3 kernel, so its last dimension decides.
    """
    first = headers.get(_CONVOLUTIONS[0])
    if first is None or sorted(first.shape[1:]) != [1, 3, 3]:
        raise ModelUnsupported(f"expected {_CONVOLUTIONS[0]} of one channel and 3 by 3, found {first and first.shape}")
    return first.shape[-1] == 1


def _read_weights(model: Qwen3ASR, files: list[Path], transposed: bool) -> None:
    """Load every parameter, in its stored dtype and not evaluated yet."""
    weights = {_canonical_name(name): value for file in files for name, value in _read(file).items()}
    if not transposed:
        weights |= {name: mx.contiguous(weights[name].transpose(0, 2, 3, 1)) for name in _CONVOLUTIONS}
    if model.config.text.tie_word_embeddings and HEAD in weights:
        _drop_tied_head(weights)
    model.load_weights(list(weights.items()), strict=True)


def _evaluate(model: Qwen3ASR) -> Iterator[None]:
    """Evaluate layer by layer, and yield before each. Only one layer's original is in memory while layers are quantised
    or cast. The embedding comes first: the comparison with the head may have read it already."""
    for layer in (model.model.embed_tokens, *model.modules()):
        if not layer.children():
            yield
            mx.eval(layer.parameters())
    mx.eval(model.parameters(), model.audio_tower._positions)


def named_parameters(model: Qwen3ASR) -> list[tuple[str, mx.array]]:
    return tree_flatten(model.parameters())  # type: ignore[return-value]


def _drop_tied_head(weights: dict[str, mx.array]) -> None:
    """Released files also store the tied head: drop it if it equals the embedding."""
    head = weights.pop(HEAD)
    if not mx.array_equal(head, weights[EMBEDDING]).item():
        raise ModelUnsupported("the head is declared tied to the embedding, but the two differ", tensor=HEAD)


def loaded_bytes(folder: Path, dtype: str | None, quantize: str | None, kind: type[Qwen3ASR] = Qwen3ASR) -> int:
    """The bytes that a loaded model of this `kind` will hold, by the headers; if it quantises, an estimate: a byte for
    each weight. Raises what loading raises before it builds the model."""
    stored = _Stored.of(folder, kind)
    target = DTYPES[dtype] if dtype else stored.dtype
    return weight_bytes(stored.config, stored.headers, mx.uint8 if quantize else target)


def weight_bytes(config: ModelConfig, headers: Mapping[str, TensorHeader], dtype: mx.Dtype) -> int:
    """The memory of the stored tensors, with floating-point ones as `dtype`; a tied head takes none."""
    tied = "lm_head.weight" if config.text.tie_word_embeddings else "\0"
    return sum(_tensor_bytes(header, dtype) for name, header in headers.items() if not name.endswith(tied))


def _tensor_bytes(header: TensorHeader, dtype: mx.Dtype) -> int:
    itemsize = dtype.size if "F" in header.dtype else _STORED_BYTES.get(header.dtype, 8)
    return math.prod(header.shape) * itemsize
