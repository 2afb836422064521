"""The names, shapes and dtypes that a configuration requires of the weights' headers.

They are compared before any module is built, so a wrong size allocates nothing, however large it is.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import mlx.core as mx

from qwen3_asr_mlx_runtime.checkpoint.files import TensorHeader
from qwen3_asr_mlx_runtime.checkpoint.quantize import Layers
from qwen3_asr_mlx_runtime.errors import ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import AudioEncoderConfig, LayerQuantization, ModelConfig

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
FLOATING = {"F32": mx.float32, "BF16": mx.bfloat16, "F16": mx.float16}
_PACKED = "U32"  # integers that hold several quantised weights each


class Dimension(NamedTuple):
    """`field`: the key of config.json that sets this size."""

    size: int
    field: str


Shape = tuple[Dimension, ...]


def check_headers(
    config: ModelConfig, headers: Mapping[str, TensorHeader], layers: Layers, *, transposed: bool
) -> None:
    """Compare the headers with what `config` requires, with `layers` quantised.

    `transposed`: convolutions are (out, height, width, in). Raises ModelUnsupported with the `field` of the size that
    differs, the names that are `missing` and `unknown`, or the `tensor` of another dtype.
    """
    _check_depth(headers, "audio_tower.layers.", Dimension(config.audio.encoder_layers, "encoder_layers"))
    _check_depth(headers, "model.layers.", Dimension(config.text.num_hidden_layers, "num_hidden_layers"))
    expected = dict([*_tower(config.audio, transposed), *_decoder(config)])
    quantized = {path: layer for path, layer in layers.items() if len(expected.get(f"{path}.weight", ())) == 2}
    scaled = {f"{path}.{name}" for path in quantized for name in ("scales", "biases")}
    optional = {HEAD} - {*expected}  # released files store a copy of the tied head
    _check_names({*expected} | scaled, {*headers} - optional)
    for name, shape in expected.items():
        path = name.removesuffix(".weight")
        if path in quantized:
            _check_packed(path, headers, shape, quantized[path])
        else:
            _check_tensor(name, headers[name], shape, FLOATING)
    if optional & {*headers} and headers[HEAD] != headers[EMBEDDING]:
        raise ModelUnsupported(f"{HEAD}: expected {headers[EMBEDDING]}, found {headers[HEAD]}", tensor=HEAD)


def _check_depth(headers: Mapping[str, TensorHeader], prefix: str, depth: Dimension) -> None:
    stored = len({name.removeprefix(prefix).split(".")[0] for name in headers if name.startswith(prefix)})
    if stored != depth.size:
        message = f"config.json: {depth.field} is {depth.size}, the weights have {stored}"
        raise ModelUnsupported(message, field=depth.field)


def _check_names(expected: set[str], stored: set[str]) -> None:
    missing, unknown = sorted(expected - stored), sorted(stored - expected)
    if missing or unknown:
        raise ModelUnsupported(
            f"the weights do not fit the configuration: {len(missing)} missing, {len(unknown)} unknown",
            missing=missing[:8],
            unknown=unknown[:8],
        )


def _check_tensor(name: str, header: TensorHeader, shape: Shape, dtypes: Collection[str]) -> None:
    sizes = tuple(dimension.size for dimension in shape)
    if header.shape != sizes:
        differing = [axis.field for axis, found in zip(shape, header.shape, strict=False) if axis.size != found]
        field = differing[0] if differing else shape[-1].field
        raise ModelUnsupported(f"{name}: expected shape {sizes}, found {header.shape}", tensor=name, field=field)
    if header.dtype not in dtypes:
        raise ModelUnsupported(f"{name}: expected {' or '.join(dtypes)}, found {header.dtype}", tensor=name)


def _check_packed(path: str, headers: Mapping[str, TensorHeader], shape: Shape, layer: LayerQuantization) -> None:
    rows, width = shape
    if width.size % layer.group_size:
        message = f"{path}: a width of {width.size} cannot be quantised in groups of {layer.group_size}"
        raise ModelUnsupported(message, field="quantization")
    words = Dimension(width.size * layer.bits // 32, "quantization")
    groups = Dimension(width.size // layer.group_size, "quantization")
    _check_tensor(f"{path}.weight", headers[f"{path}.weight"], (rows, words), {_PACKED})
    for name in ("scales", "biases"):
        _check_tensor(f"{path}.{name}", headers[f"{path}.{name}"], (rows, groups), FLOATING)


# Each size is checked as the rows of a tensor before it is a width, so the first difference names the wrong field.


def _tower(audio: AudioEncoderConfig, transposed: bool) -> Iterator[tuple[str, Shape]]:
    channels = Dimension(audio.downsample_hidden_size, "downsample_hidden_size")
    width, ffn = Dimension(audio.d_model, "d_model"), Dimension(audio.encoder_ffn_dim, "encoder_ffn_dim")
    one, three = Dimension(1, "audio_config"), Dimension(3, "audio_config")
    for i, inputs in enumerate((one, channels, channels), start=1):
        yield f"audio_tower.conv2d{i}.bias", (channels,)
        kernel = (three, three, inputs) if transposed else (inputs, three, three)
        yield f"audio_tower.conv2d{i}.weight", (channels, *kernel)
    yield from _norm("audio_tower.ln_post", width)
    bins = -(-audio.num_mel_bins // 8)
    yield "audio_tower.conv_out.weight", (width, Dimension(channels.size * bins, channels.field))
    yield from _linear("audio_tower.proj1", width, width)
    yield from _linear("audio_tower.proj2", Dimension(audio.output_dim, "output_dim"), width)
    for i in range(audio.encoder_layers):
        layer = f"audio_tower.layers.{i}"
        yield from _norm(f"{layer}.self_attn_layer_norm", width)
        yield from _norm(f"{layer}.final_layer_norm", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{name}", width, width)
        yield from _linear(f"{layer}.fc1", ffn, width)
        yield from _linear(f"{layer}.fc2", width, ffn)


def _norm(path: str, width: Dimension) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.weight", (width,)
    yield f"{path}.bias", (width,)


def _linear(path: str, rows: Dimension, width: Dimension) -> Iterator[tuple[str, Shape]]:
    yield f"{path}.bias", (rows,)
    yield f"{path}.weight", (rows, width)


def _decoder(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    text = config.text
    width, ffn = Dimension(text.hidden_size, "hidden_size"), Dimension(text.intermediate_size, "intermediate_size")
    vocabulary, head = Dimension(text.vocab_size, "vocab_size"), Dimension(text.head_dim, "head_dim")
    queries = Dimension(text.num_attention_heads * text.head_dim, "num_attention_heads")
    keys = Dimension(text.num_key_value_heads * text.head_dim, "num_key_value_heads")
    yield "model.norm.weight", (width,)
    yield EMBEDDING, (vocabulary, width)
    if not text.tie_word_embeddings:
        yield HEAD, (Dimension(config.head_size, config.head_field), width)
    for i in range(text.num_hidden_layers):
        layer = f"model.layers.{i}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{name}.weight", (width,)
        for name in ("q_norm", "k_norm"):
            yield f"{layer}.self_attn.{name}.weight", (head,)
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{layer}.self_attn.{name}.weight", (rows, width)
        yield f"{layer}.self_attn.o_proj.weight", (width, queries)
        for name in ("gate_proj", "up_proj"):
            yield f"{layer}.mlp.{name}.weight", (ffn, width)
        yield f"{layer}.mlp.down_proj.weight", (width, ffn)
