import gc
import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from reference.random_checkpoint import write_random_checkpoint
from support.tiny_checkpoint import write_tiny_checkpoint

from qwen3_asr_mlx_runtime.checkpoint.quantize import config_section, planned_layers, quantized_layers
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
from qwen3_asr_mlx_runtime.engines.profile import Quantization, QuantizedLayers
from qwen3_asr_mlx_runtime.errors import ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

BITS = {"8bit": (8, 8, 8), "mixed": (8, 4, 8), "4bit": (4, 4, 8)}  # tower, decoder, embedding


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def parameters(model: Qwen3ASR) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def same_weights(left: Qwen3ASR, right: Qwen3ASR) -> bool:
    ours, theirs = parameters(left), parameters(right)
    return ours.keys() == theirs.keys() and all(mx.array_equal(ours[name], theirs[name]) for name in ours)


def bits(model: Qwen3ASR) -> tuple[int, int, int]:
    return model.audio_tower.layers[0].fc1.bits, model.model.layers[0].mlp.down_proj.bits, model.model.embed_tokens.bits


@pytest.mark.parametrize("scheme", BITS)
def test_a_scheme_gives_each_part_its_bits(source, scheme):
    model = load_model(source, quantize=scheme, force_4bit_tower=True, join=False)
    assert bits(model) == BITS[scheme]
    assert {layer.group_size for layer in quantized_layers(model).values()} == {64}
    kept = {type(layer) for layer in model.modules() if not layer.children()}
    assert kept == {nn.Conv2d, nn.LayerNorm, nn.RMSNorm, nn.QuantizedLinear, nn.QuantizedEmbedding}


@pytest.mark.parametrize("layer", ["audio_tower.layers.1.fc2", "model.layers.0.self_attn.k_proj", "model.embed_tokens"])
def test_quantised_weights_are_those_of_the_checkpoint_rounded_in_its_dtype(tmp_path, layer):
    source = write_random_checkpoint(tmp_path, dtype="bfloat16")
    stored = mx.load(str(source / "model.safetensors"))[f"thinker.{layer}.weight"]
    got = parameters(load_model(source, "float32", quantize="mixed", join=False))
    quantised = dict(
        zip(("weight", "scales", "biases"), mx.quantize(stored, 64, 4 if ".k_" in layer else 8), strict=True)
    )
    for name, expected in quantised.items():
        value = got[f"{layer}.{name}"]
        assert value.dtype == (mx.uint32 if name == "weight" else mx.float32)
        assert mx.array_equal(value, expected.astype(value.dtype)), name


def test_a_layer_whose_width_the_group_does_not_divide_stays(source):
    model = load_model(source, join=False)
    model.audio_tower.layers[0].fc2 = nn.Linear(96, 64)
    planned = planned_layers(model, "8bit")
    assert "audio_tower.layers.0.fc2" not in planned
    assert "audio_tower.layers.1.fc2" in planned


def test_what_was_quantised_is_reported(source):
    assert load_model(source).quantization is None
    assert load_model(source, quantize="mixed").quantization == Quantization(
        bits=4,
        group_size=64,
        layers=[
            QuantizedLayers("audio_tower", 8, 64, 15),
            QuantizedLayers("decoder", 4, 64, 14),
            QuantizedLayers("embedding", 8, 64, 1),
        ],
        full_precision=0,
    )


def stored_as(source: Path, target: Path, model: Qwen3ASR, quantization: dict) -> Path:
    """The checkpoint as a conversion has it."""
    shutil.copytree(source, target)
    mx.save_safetensors(str(target / "model.safetensors"), parameters(model))
    config = json.loads((target / "config.json").read_text()) | {"quantization": quantization}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize("quantise_tower", [True, False])
def test_a_published_conversion_with_one_setting_for_all_loads(source, tmp_path, quantise_tower):
    """Some conversions leave the tower in full precision and do not say so: its layers have no scales."""
    model = load_model(source, join=False)
    nn.quantize(
        model,
        group_size=64,
        bits=8,
        class_predicate=lambda path, layer: hasattr(layer, "to_quantized") and ("model." in path or quantise_tower),
    )
    loaded = load_model(stored_as(source, tmp_path / "model", model, {"group_size": 64, "bits": 8}), join=False)
    assert same_weights(loaded, model)
    assert isinstance(loaded.model.embed_tokens, nn.QuantizedEmbedding)
    assert loaded.quantization.full_precision == (0 if quantise_tower else 15)
    hidden = mx.random.normal((1, 64))
    packed = loaded.model.embed_tokens
    head = mx.dequantize(packed.weight, packed.scales, packed.biases, 64, 8)
    assert mx.allclose(loaded.head(hidden), hidden @ head.T, atol=1e-4)
    assert mx.allclose(loaded.embed([3, 600]), head[mx.array([3, 600])])


def test_a_published_conversion_with_exceptions_loads(source, tmp_path):
    model = load_model(source, quantize="mixed", join=False)
    coarse = "model.layers.1.mlp.down_proj"
    model.model.layers[1].mlp.down_proj = nn.Linear(128, 64, bias=False).to_quantized(group_size=32, bits=6)
    section = config_section(quantized_layers(model))
    assert section["bits"] == 4
    assert section[coarse] == {"group_size": 32, "bits": 6, "mode": "affine"}
    assert (
        section["audio_tower.proj1"] == section["model.embed_tokens"] == {"group_size": 64, "bits": 8, "mode": "affine"}
    )
    loaded = load_model(stored_as(source, tmp_path / "model", model, section | {"lm_head": False}), join=False)
    assert same_weights(loaded, model)
    assert QuantizedLayers("decoder", 6, 32, 1) in loaded.quantization.layers


def test_quantising_again_is_refused_unless_it_would_change_nothing(source, tmp_path):
    model = load_model(source, quantize="8bit", join=False)
    folder = stored_as(source, tmp_path / "model", model, config_section(quantized_layers(model)))
    assert same_weights(load_model(folder, quantize="8bit", join=False), model)
    with pytest.raises(ModelUnsupported) as caught:
        load_model(folder, quantize="mixed")
    assert caught.value.data == {"field": "quantize"}


@pytest.mark.parametrize("stored", [True, False])
def test_a_tower_of_four_bits_has_to_be_forced(source, tmp_path, stored):
    model = load_model(source, quantize="4bit", force_4bit_tower=True, join=False)
    folder = stored_as(source, tmp_path / "model", model, config_section(quantized_layers(model)))
    given = {} if stored else {"quantize": "4bit"}
    with pytest.raises(ModelUnsupported) as caught:
        load_model(folder if stored else source, **given)
    assert caught.value.data == {"field": "force_4bit_tower"}
    assert bits(load_model(folder if stored else source, force_4bit_tower=True, **given)) == BITS["4bit"]


def test_the_full_precision_weights_are_never_all_in_memory(source, tmp_path):
    folder = tmp_path / "deep"
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"num_hidden_layers": 12, "intermediate_size": 8_192}
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), parameters(Qwen3ASR(ModelConfig.from_dict(config))))
    full = (folder / "model.safetensors").stat().st_size
    gc.collect()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    held = sum(value.nbytes for value in parameters(load_model(folder, quantize="8bit")).values())
    assert held < 0.35 * full
    assert mx.get_peak_memory() - before < held + 0.1 * full
