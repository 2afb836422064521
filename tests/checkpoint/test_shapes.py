import math
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from msgspec.structs import replace
from support.tiny import AUDIO, TEXT

from qwen3_asr_mlx_runtime.checkpoint.files import TensorHeader
from qwen3_asr_mlx_runtime.checkpoint.quantize import Layers, quantized_layers
from qwen3_asr_mlx_runtime.checkpoint.shapes import check_headers
from qwen3_asr_mlx_runtime.errors import ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import LayerQuantization, ModelConfig
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

# No two sizes alike, so that none can stand for another.
CONFIG = ModelConfig(
    audio=replace(AUDIO, d_model=192, encoder_attention_heads=3, encoder_ffn_dim=320, encoder_layers=3, output_dim=64),
    text=replace(TEXT, hidden_size=64, intermediate_size=448, num_attention_heads=6, num_key_value_heads=2),
    audio_token_id=600,
)
SECTIONS = {"audio_config": CONFIG.audio, "text_config": CONFIG.text}
SIZES = [
    (section, key)
    for section, config in SECTIONS.items()
    for key, value in msgspec.to_builtins(config).items()
    if type(value) is int
] + [(None, "audio_token_id")]
REALS = ["rms_norm_eps", "rope_theta"]
# Sizes of which no tensor tells, and what they may be.
FREE = {
    "encoder_attention_heads": [heads for heads in range(1, 193) if 192 % heads == 0],
    "n_window_infer": range(100, 3001, 100),
    "max_position_embeddings": range(1024, 2**20 + 1),
    "audio_token_id": range(1, 2**20 + 1),
}
# Where two sizes contradict one another, either may be named.
TOGETHER = [
    {"hidden_size", "output_dim"},
    {"d_model", "encoder_attention_heads"},
    {"num_attention_heads", "num_key_value_heads"},
]


def headers_of(model: Qwen3ASR) -> dict[str, TensorHeader]:
    names = {mx.float32: "F32", mx.uint32: "U32"}
    return {name: TensorHeader(value.shape, names[value.dtype]) for name, value in tree_flatten(model.parameters())}


def quantized() -> Qwen3ASR:
    model = Qwen3ASR(CONFIG)
    nn.quantize(model, group_size=64, bits=4, class_predicate=lambda _, layer: hasattr(layer, "to_quantized"))
    return model


FULL, PACKED = Qwen3ASR(CONFIG), quantized()
STORED = {
    "full precision": (headers_of(FULL), quantized_layers(FULL)),
    "quantised": (headers_of(PACKED), quantized_layers(PACKED)),
}


def config_json(section: str | None = None, **changed: object) -> dict[str, Any]:
    content = {"model_type": "qwen3_asr"} | msgspec.to_builtins(CONFIG)
    content |= {"audio_config": content.pop("audio"), "text_config": content.pop("text")}
    (content if section is None else content[section]).update(changed)
    return content


def check(content: dict[str, Any], headers: Mapping[str, TensorHeader], layers: Layers) -> None:
    check_headers(ModelConfig.from_dict(content), headers, layers, transposed=True)


def refused_field(content: dict[str, Any], stored: str = "full precision") -> str:
    with pytest.raises(ModelUnsupported) as caught:
        check(content, *STORED[stored])
    return caught.value.data["field"]


@pytest.mark.parametrize("stored", STORED)
def test_the_headers_of_a_model_fit_its_configuration(stored):
    check(config_json(), *STORED[stored])


def test_an_untied_head_is_asked_for():
    content = config_json("text_config", tie_word_embeddings=False)
    check(content, headers_of(Qwen3ASR(ModelConfig.from_dict(content))), {})
    with pytest.raises(ModelUnsupported) as caught:
        check(content, *STORED["full precision"])
    assert caught.value.data == {"missing": ["lm_head.weight"], "unknown": []}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(("section", "key"), SIZES)
@given(value=st.integers() | st.integers(1, 4096))
@example(value=0)
@example(value=-1)
@example(value=-(2**63))
@example(value=2**20 + 1)
@example(value=2**31)
@example(value=10**6)
@example(value=10**12)
@example(value=2**53 + 1)
@example(value=2**64)
@example(value=10**400)
def test_a_size_that_the_weights_do_not_have_is_refused_by_its_name(stored, section, key, value):
    content = config_json(section, **{key: value})
    own = content if section is None else msgspec.to_builtins(SECTIONS[section])
    if value in FREE.get(key, [own[key]]):
        check(content, *STORED[stored])
        return
    assert refused_field(content, stored) in next((pair for pair in TOGETHER if key in pair), {key})


@pytest.mark.parametrize(("section", "key"), [size for size in SIZES if size[1] not in FREE])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_half_and_twice_a_size_are_refused_in_a_quantised_checkpoint(section, key, factor):
    value = int(msgspec.to_builtins(SECTIONS[section])[key] * factor)
    assert refused_field(config_json(section, **{key: value}), "quantised") != "quantization"


@pytest.mark.parametrize("key", REALS)
@pytest.mark.parametrize("value", [0, -1, 10**400, 1e300, math.inf, -math.inf, math.nan, "1", None, True])
def test_a_number_of_the_decoder_that_is_out_of_bounds_is_refused_by_its_name(key, value):
    assert refused_field(config_json("text_config", **{key: value})) == key


@pytest.mark.parametrize(("bits", "group_size"), [(8, 64), (4, 32), (4, 128)])
def test_another_quantisation_than_that_of_the_weights_is_refused(bits, group_size):
    headers, stored = STORED["quantised"]
    with pytest.raises(ModelUnsupported) as caught:
        check(config_json(), headers, dict.fromkeys(stored, LayerQuantization(group_size, bits)))
    assert caught.value.data["field"] == "quantization"


def test_scales_of_a_layer_that_cannot_be_quantised_are_unknown():
    headers, _ = STORED["full precision"]
    scales = {f"{path}.scales": TensorHeader((1, 1), "F32") for path in ("model.norm", "audio_tower.conv2d1", "none")}
    layers = dict.fromkeys(("model.norm", "audio_tower.conv2d1", "none"), LayerQuantization(64, 8))
    with pytest.raises(ModelUnsupported) as caught:
        check(config_json(), headers | scales, layers)
    assert caught.value.data == {"missing": [], "unknown": sorted(scales)}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("dtype", ["U16", "I16", "U8", "I8", "BOOL", "I32", "I64", "F64", "F8_E4M3", "U32", "F32"])
def test_every_tensor_of_another_dtype_is_refused(stored, dtype):
    headers, layers = STORED[stored]
    for name, header in headers.items():
        changed = headers | {name: header._replace(dtype=dtype)}
        if changed == headers or {dtype, header.dtype} <= {"F32", "BF16", "F16"}:
            check(config_json(), changed, layers)
            continue
        with pytest.raises(ModelUnsupported) as caught:
            check(config_json(), changed, layers)
        assert caught.value.data == {"tensor": name}


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_scales_and_norms_may_be_of_any_floating_dtype(dtype):
    headers, layers = STORED["quantised"]
    check(
        config_json(),
        {name: header._replace(dtype=dtype if header.dtype == "F32" else "U32") for name, header in headers.items()},
        layers,
    )


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("dtype", ["F32", "U32", "I16"])
def test_a_copy_of_the_tied_head_is_stored_as_the_embedding_is(stored, dtype):
    headers, layers = STORED[stored]
    embedding = headers["model.embed_tokens.weight"]
    changed = headers | {"lm_head.weight": embedding._replace(dtype=dtype)}
    if dtype == embedding.dtype:
        check(config_json(), changed, layers)
        return
    with pytest.raises(ModelUnsupported) as caught:
        check(config_json(), changed, layers)
    assert caught.value.data == {"tensor": "lm_head.weight"}


def test_convolutions_are_read_in_the_order_they_are_stored_in():
    headers, layers = STORED["full precision"]
    turned = {
        name: header._replace(shape=tuple(header.shape[i] for i in (0, 3, 1, 2))) if len(header.shape) == 4 else header
        for name, header in headers.items()
    }
    check_headers(CONFIG, turned, layers, transposed=False)
    with pytest.raises(ModelUnsupported):
        check_headers(CONFIG, turned, layers, transposed=True)


def test_a_width_that_the_groups_do_not_divide_is_refused_though_the_headers_round_it_down():
    headers, layers = STORED["full precision"]
    path, layer = "audio_tower.proj1", LayerQuantization(128, 8)
    packed = {f"{path}.weight": TensorHeader((192, 48), "U32")}
    packed |= {f"{path}.{name}": TensorHeader((192, 1), "F32") for name in ("scales", "biases")}
    with pytest.raises(ModelUnsupported) as caught:
        check(config_json(), headers | packed, {**layers, path: layer})
    assert caught.value.data == {"field": "quantization"}
