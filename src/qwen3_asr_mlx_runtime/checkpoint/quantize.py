"""Quantised weights: which layers, and how many bits each.

Linear layers and the embedding are quantised, in groups of 64 weights along the input, each with a scale and a bias of
the checkpoint's dtype. Convolutions, norms, biases and layers whose width is no multiple of the group are unchanged.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

import mlx.nn as nn
import msgspec

from qwen3_asr_mlx_runtime.engines import profile as telemetry
from qwen3_asr_mlx_runtime.errors import ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import LayerQuantization, Quantization

GROUP_SIZE: Final = 64
_COARSE = 4  # bits: the tower's output is then off by several percent
_TOWER = "audio_tower."
_EMBEDDINGS = ("model.embed_tokens", "lm_head")

Part = Literal["audio_tower", "decoder", "embedding"]
Layers = Mapping[str, LayerQuantization]


class Scheme(NamedTuple):
    """Bits of each part; `embedding` is the head as well."""

    audio_tower: Literal[4, 8]
    decoder: Literal[4, 8]
    embedding: Literal[4, 8]


SCHEMES = {"8bit": Scheme(8, 8, 8), "mixed": Scheme(8, 4, 8), "4bit": Scheme(4, 4, 8)}


def planned_layers(model: nn.Module, scheme: str) -> dict[str, LayerQuantization]:
    """The layers that `scheme` quantises in a model of full precision, by name."""
    bits = SCHEMES[scheme]._asdict()
    return {
        path: LayerQuantization(GROUP_SIZE, bits[_part(path)])
        for path, layer in _full_layers(model)
        if layer.weight.shape[-1] % GROUP_SIZE == 0
    }


def stored_layers(quantization: Quantization | None, names: Collection[str]) -> dict[str, LayerQuantization]:
    """The quantised layers of a checkpoint: those with `scales` among the tensor `names`, with their configuration."""
    if quantization is None:
        return {}
    common = LayerQuantization(quantization.group_size, quantization.bits)
    scaled = (name.removesuffix(".scales") for name in names if name.endswith(".scales"))
    return {path: quantization.layers.get(path, common) for path in scaled}


def check_layers(wanted: Layers, stored: Layers, *, force_4bit_tower: bool) -> None:
    """Raises ModelUnsupported if `wanted` differs from the layers that the checkpoint has quantised already, and for an
    audio tower of 4 bits that is not forced."""
    if stored and wanted != stored:
        message = "the checkpoint is quantised already, in another way: load it as it is, or start from full precision"
        raise ModelUnsupported(message, field="quantize")
    if not force_4bit_tower and any(path.startswith(_TOWER) and wanted[path].bits <= _COARSE for path in wanted):
        message = f"an audio tower of {_COARSE} bits or fewer is too coarse: it has to be forced"
        raise ModelUnsupported(message, field="force_4bit_tower")


def quantize_layers(model: nn.Module, layers: Layers) -> None:
    """Replace `layers`, whose widths are multiples of their groups, by quantised ones. Existing weights are quantised
    lazily, when they are evaluated."""

    def settings_of(path: str, _: nn.Module) -> bool | dict[str, int]:
        return msgspec.to_builtins(layers[path]) if path in layers else False

    nn.quantize(model, class_predicate=settings_of)


def quantized_layers(model: nn.Module) -> dict[str, LayerQuantization]:
    kinds = (nn.QuantizedLinear, nn.QuantizedEmbedding)
    return {path: LayerQuantization(x.group_size, x.bits) for path, x in model.named_modules() if isinstance(x, kinds)}


def summary(model: nn.Module) -> telemetry.Quantization | None:
    """Counts of quantised layers of a model that is not joined; None if all are in full precision."""
    layers = quantized_layers(model)
    if not layers:
        return None
    common = _common(layers)
    counts = Counter((_part(path), layer.bits, layer.group_size) for path, layer in layers.items())
    return telemetry.Quantization(
        bits=common.bits,
        group_size=common.group_size,
        layers=[telemetry.QuantizedLayers(*kind, count) for kind, count in sorted(counts.items())],
        full_precision=len(_full_layers(model)),
    )


def config_section(layers: Layers) -> dict[str, object]:
    """The `quantization` of config.json as mlx-lm writes it: the decoder's, and each layer that differs."""
    common = _common(layers)
    other = {path: _section(layer) for path, layer in sorted(layers.items()) if layer != common}
    return _section(common) | other


def _section(layer: LayerQuantization) -> dict[str, object]:
    return {"group_size": layer.group_size, "bits": layer.bits, "mode": "affine"}


def _common(layers: Layers) -> LayerQuantization:
    """The most common setting of the decoder's layers, or of all layers if the decoder has none."""
    decoder = [layer for path, layer in layers.items() if _part(path) == "decoder"]
    return Counter(decoder or layers.values()).most_common(1)[0][0]


def _part(path: str) -> Part:
    if path.startswith(_TOWER):
        return "audio_tower"
    return "embedding" if path in _EMBEDDINGS else "decoder"


def _full_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    kinds = (nn.Linear, nn.Embedding)
    return [(path, layer) for path, layer in model.named_modules() if isinstance(layer, kinds)]
