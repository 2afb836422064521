import json
import shutil
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from reference.random_checkpoint import write_random_checkpoint
from support.marks import rest_once

from qwen3_asr_mlx_runtime.checkpoint.files import read_headers, weight_files
from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner, load_model, loaded_bytes
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported
from qwen3_asr_mlx_runtime.model.aligner import ForcedAligner
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def model(released: Path) -> Qwen3ASR:
    return load_model(released)


@pytest.fixture(scope="module")
def released_aligner(tmp_path_factory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("aligner"), size="tiny-aligner")


def same_weights(left: Qwen3ASR, right: Qwen3ASR) -> bool:
    ours, theirs = (dict(tree_flatten(model.parameters())) for model in (left, right))
    return ours.keys() == theirs.keys() and all(mx.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("layout", "shards"), [("released", 3), ("native", 1), ("mlx", 1), ("mlx", 2)])
def test_every_layout_and_sharding_gives_the_same_model(model, tmp_path, layout, shards):
    assert same_weights(load_model(write_random_checkpoint(tmp_path, layout=layout, shards=shards)), model)


def test_the_dtype_is_the_checkpoints_unless_another_is_asked_for(tmp_path):
    folder = write_random_checkpoint(tmp_path, dtype="bfloat16")
    assert load_model(folder).dtype == mx.bfloat16
    cast = load_model(folder, "float32")
    assert {weight.dtype for _, weight in tree_flatten(cast.parameters())} == {mx.float32}


def tensors(folder: Path) -> dict[str, mx.array]:
    return mx.load(str(folder / "model.safetensors"))


def with_tensors(source: Path, target: Path, weights: dict[str, mx.array]) -> Path:
    target.mkdir()
    for file in source.glob("*.json"):
        shutil.copy(file, target)
    mx.save_safetensors(str(target / "model.safetensors"), weights)
    return target


def test_a_head_that_differs_from_the_tied_embedding_is_refused(released, tmp_path):
    weights = tensors(released)
    weights["thinker.lm_head.weight"] = weights["thinker.lm_head.weight"] + 1
    with pytest.raises(ModelUnsupported, match="tied"):
        load_model(with_tensors(released, tmp_path / "model", weights))


def test_a_missing_and_an_unknown_tensor_are_named(released, tmp_path):
    weights = tensors(released)
    weights["thinker.audio_tower.surplus"] = weights.pop("thinker.model.norm.weight")
    with pytest.raises(ModelUnsupported) as caught:
        load_model(with_tensors(released, tmp_path / "model", weights))
    assert caught.value.data == {"missing": ["model.norm.weight"], "unknown": ["audio_tower.surplus"]}


def test_a_wrong_shape_is_refused_before_weights_are_read(released, tmp_path, monkeypatch):
    weights = tensors(released)
    weights["thinker.audio_tower.ln_post.bias"] = mx.zeros((7,))
    folder = with_tensors(released, tmp_path / "model", weights)
    monkeypatch.setattr(mx, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ModelUnsupported, match=r"ln_post.bias.*\(128,\).*\(7,\)"):
        load_model(folder)


@pytest.mark.parametrize("section", ["audio_config", "text_config"])
@pytest.mark.parametrize("layers", rest_once([2**31, 10**6, 5]))
def test_layers_that_the_weights_do_not_have_are_refused_before_a_module_exists(
    released, tmp_path, monkeypatch, section, layers
):
    key = "encoder_layers" if section == "audio_config" else "num_hidden_layers"
    folder = with_tensors(released, tmp_path / "model", tensors(released))
    config = json.loads((folder / "config.json").read_text())
    config["thinker_config"][section][key] = layers
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(nn.Module, "__init__", lambda *_: pytest.fail("a module was built"))
    for read in (load_model, lambda folder: loaded_bytes(folder, None, None)):
        with pytest.raises(ModelUnsupported) as caught:
            read(folder)
        assert caught.value.data == {"field": key}


def test_weights_without_a_norm_have_no_size_in_memory(released, tmp_path):
    weights = tensors(released)
    del weights["thinker.model.norm.weight"]
    with pytest.raises(ModelUnsupported) as caught:
        loaded_bytes(with_tensors(released, tmp_path / "model", weights), None, None)
    assert caught.value.data["missing"] == ["model.norm.weight"]


@pytest.mark.parametrize("dtype", rest_once([mx.uint16, mx.int16, mx.uint8, mx.int32]))
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "audio_tower.ln_post.bias"])
def test_a_weight_of_integers_is_refused_before_weights_are_read(released, tmp_path, monkeypatch, name, dtype):
    weights = tensors(released)
    weights[f"thinker.{name}"] = weights[f"thinker.{name}"].astype(dtype)
    folder = with_tensors(released, tmp_path / "model", weights)
    monkeypatch.setattr(mx, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ModelUnsupported) as caught:
        load_model(folder)
    assert caught.value.data == {"tensor": name}


@pytest.mark.parametrize(("decoder_bits", "tower_bits"), [(4, 4), (8, 8), (4, 8)])
def test_a_quantised_conversion_loads_in_its_stored_form(tmp_path, decoder_bits, tower_bits):
    source = write_random_checkpoint(tmp_path / "source", layout="mlx")
    model = load_model(source, join=False)
    quantization: dict = {"group_size": 64, "bits": decoder_bits}

    def settings_of(path: str, layer: nn.Module) -> bool | dict:
        if not isinstance(layer, nn.Linear):
            return False
        if path.startswith("audio_tower."):
            quantization[path] = {"group_size": 64, "bits": tower_bits}
        return quantization.get(path, {"group_size": 64, "bits": decoder_bits})

    nn.quantize(model, class_predicate=settings_of)
    target = with_tensors(source, tmp_path / "target", dict(tree_flatten(model.parameters())))
    config = json.loads((target / "config.json").read_text()) | {"quantization": quantization}
    (target / "config.json").write_text(json.dumps(config))
    loaded = load_model(target, force_4bit_tower=True, join=False)
    assert same_weights(loaded, model)
    assert loaded.model.layers[0].mlp.gate_proj.bits == decoder_bits
    assert loaded.audio_tower.layers[0].fc1.bits == tower_bits
    assert isinstance(loaded.model.embed_tokens, nn.Embedding)
    prompt = mx.array(np.random.default_rng(0).standard_normal((1, 5, 64)).astype(np.float32))
    assert mx.array_equal(loaded.logits(prompt, loaded.make_cache(8)), model.logits(prompt, model.make_cache(8)))


def test_joined_projections_compute_the_same(released):
    model, joined = load_model(released, join=False), load_model(released, join=False)
    for layer in joined.model.layers:
        layer.join()
    assert "q_proj" not in joined.model.layers[0].self_attn, "the projections are held twice"
    prompt = mx.random.normal((1, 9, 64))
    cache, joined_cache = model.make_cache(10), joined.make_cache(10)
    for block in (prompt[:, :8], prompt[:, 8:]):
        expected, got = model.logits(block, cache), joined.logits(block, joined_cache)
        assert mx.abs(expected - got).max().item() < 1e-4


def test_projections_quantised_in_different_ways_are_not_joined(released):
    model = load_model(released, join=False)
    attention = model.model.layers[0].self_attn
    attention.v_proj = attention.v_proj.to_quantized(group_size=64, bits=8)
    prompt = mx.random.normal((1, 5, 64))
    expected = model.logits(prompt, model.make_cache(5))
    model.model.layers[0].join()
    assert "v_proj" in attention
    assert "gate_up_proj" in model.model.layers[0].mlp
    assert mx.abs(model.logits(prompt, model.make_cache(5)) - expected).max().item() < 1e-4


def test_a_tensor_under_two_names_is_refused(released, tmp_path):
    weights = tensors(released)
    weights["model.norm.weight"] = weights["thinker.model.norm.weight"]
    with pytest.raises(ModelUnsupported, match="twice"):
        load_model(with_tensors(released, tmp_path / "model", weights))


def test_groups_that_no_layer_can_be_cut_into_are_refused(released, tmp_path):
    layer = "thinker.model.layers.0.mlp.gate_proj"
    weights = tensors(released) | {f"{layer}.scales": mx.zeros((128, 1)), f"{layer}.biases": mx.zeros((128, 1))}
    folder = with_tensors(released, tmp_path / "model", weights)
    config = json.loads((folder / "config.json").read_text()) | {"quantization": {"group_size": 128, "bits": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnsupported, match="quantised"):
        load_model(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda _: b"<html>503</html>",
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        lambda _: b"",
    ],
    ids=["truncated", "a web page", "a pointer", "empty"],
)
def test_a_file_that_is_no_whole_safetensors_is_corrupt(released, tmp_path, damage):
    shutil.copytree(released, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ModelCorrupt) as caught:
        load_model(tmp_path / "model")
    assert caught.value.data["file"] == "model.safetensors"


def test_a_missing_shard_is_named(tmp_path):
    folder = write_random_checkpoint(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelIncomplete) as caught:
        load_model(folder)
    assert caught.value.data["missing"] == ["model-00002-of-00003.safetensors"]


def test_only_the_named_files_are_read(released, tmp_path):
    shutil.copytree(released, tmp_path / "model")
    (tmp_path / "model" / "foreign.safetensors").write_bytes(b"not ours")
    assert [file.name for file in weight_files(tmp_path / "model")] == ["model.safetensors"]


def test_headers_report_shapes_and_dtypes(released):
    header = read_headers(weight_files(released))["thinker.audio_tower.conv2d1.weight"]
    assert header == ((16, 1, 3, 3), "F32")


@pytest.mark.parametrize(("layout", "shards"), [("released", 3), ("native", 1), ("mlx", 2)])
def test_every_layout_gives_the_same_aligner(released_aligner, tmp_path, layout, shards):
    folder = write_random_checkpoint(tmp_path, size="tiny-aligner", layout=layout, shards=shards)
    model = load_aligner(folder)
    assert same_weights(model, load_aligner(released_aligner))
    assert model.lm_head.weight.shape == (144, 64)
    held = sum(weight.nbytes for _, weight in tree_flatten(model.parameters()))
    assert loaded_bytes(folder, None, None, ForcedAligner) == held


def test_a_recogniser_and_an_aligner_are_not_loaded_as_each_other(released, released_aligner, monkeypatch):
    monkeypatch.setattr(mx, "load", lambda *_: pytest.fail("weights were read"))
    for load, folder in (
        (load_model, released_aligner),
        (load_aligner, released),
        (lambda folder: loaded_bytes(folder, None, None), released_aligner),
        (lambda folder: loaded_bytes(folder, None, None, ForcedAligner), released),
    ):
        with pytest.raises(ModelUnsupported) as caught:
            load(folder)
        assert caught.value.data == {"field": "model_type"}


@pytest.mark.parametrize(
    ("head", "data"),
    [
        (None, {"missing": ["lm_head.weight"], "unknown": []}),
        (mx.zeros((704, 64)), {"tensor": "lm_head.weight", "field": "classify_num"}),
        (mx.zeros((64, 144)), {"tensor": "lm_head.weight", "field": "classify_num"}),
        (mx.zeros((144, 32)), {"tensor": "lm_head.weight", "field": "hidden_size"}),
        (mx.zeros((144, 64), mx.int32), {"tensor": "lm_head.weight"}),
    ],
)
@pytest.mark.parametrize(("layout", "name"), [("released", "thinker.lm_head.weight"), ("native", "score.weight")])
def test_an_aligner_without_its_head_is_refused_before_weights_are_read(
    tmp_path, monkeypatch, layout, name, head, data
):
    source = write_random_checkpoint(tmp_path / "source", size="tiny-aligner", layout=layout)
    weights = tensors(source)
    del weights[name]
    folder = with_tensors(source, tmp_path / "model", weights | ({} if head is None else {name: head}))
    monkeypatch.setattr(mx, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ModelUnsupported) as caught:
        load_aligner(folder)
    assert caught.value.data == data


def test_a_bias_of_the_head_is_refused(tmp_path):
    source = write_random_checkpoint(tmp_path / "source", size="tiny-aligner", layout="native")
    with pytest.raises(ModelUnsupported) as caught:
        load_aligner(with_tensors(source, tmp_path / "model", tensors(source) | {"score.bias": mx.zeros((144,))}))
    assert caught.value.data == {"missing": [], "unknown": ["lm_head.bias"]}


@pytest.mark.parametrize("quantise_head", [True, False])
def test_a_conversion_of_an_aligner_without_a_quantised_tower_loads(tmp_path, quantise_head):
    source = write_random_checkpoint(tmp_path / "source", size="tiny-aligner", layout="mlx", dtype="bfloat16")
    model = load_aligner(source, join=False)
    nn.quantize(
        model,
        group_size=64,
        bits=8,
        class_predicate=lambda path, layer: (
            hasattr(layer, "to_quantized") and ("model." in path or (quantise_head and path == "lm_head"))
        ),
    )
    folder = with_tensors(source, tmp_path / "model", dict(tree_flatten(model.parameters())))
    config = json.loads((folder / "config.json").read_text()) | {"quantization": {"group_size": 64, "bits": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load_aligner(folder, join=False)
    assert same_weights(loaded, model)
    assert isinstance(loaded.lm_head, nn.QuantizedLinear) == quantise_head
    assert loaded.quantization.full_precision == (15 if quantise_head else 16)
    hidden = mx.random.normal((3, 64))
    head = model.lm_head
    weight = mx.dequantize(head.weight, head.scales, head.biases, 64, 8) if quantise_head else head.weight
    assert mx.allclose(loaded.head(hidden), hidden @ weight.T, atol=0.1)


def test_an_aligner_is_quantised_at_load(released_aligner):
    model = load_aligner(released_aligner, quantize="mixed", join=False)
    assert (model.lm_head.bits, model.model.layers[0].mlp.up_proj.bits, model.audio_tower.proj1.bits) == (8, 4, 8)


@pytest.mark.parametrize("stated", [{}, {"timestamp_segment_time": 40.0}])
def test_the_milliseconds_of_a_class_may_stand_in_the_processors_file(tmp_path, stated):
    folder = write_random_checkpoint(tmp_path, size="tiny-aligner", layout="native")
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor, **stated}))
    assert load_aligner(folder).config.timestamp_segment_time == stated.get("timestamp_segment_time", 80)
