"""config.json → typed configuration. A required key has no default: a missing one is an error that names it.

The released layout nests both halves in `thinker_config`; Hugging Face's native layout has them at the top level and
may use other names for the same audio keys; mlx-community conversions keep the released nesting, or drop it, and may
add `quantization`. Every number is bounded here; shapes.py compares sizes with the weights.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec

from qwen3_asr_mlx_runtime.errors import ModelUnsupported

_NATIVE_AUDIO_NAMES = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim",
}
ALIGNED_LANGUAGES = (  # of the released aligner
    "Chinese",
    "English",
    "Cantonese",
    "French",
    "German",
    "Italian",
    "Japanese",
    "Korean",
    "Portuguese",
    "Russian",
    "Spanish",
)
_FIELD = re.compile(r"required field `(\w+)`|`\$\.(?:.*\.)?(\w+)[^`]*`$")  # in messages of msgspec
Size = Annotated[int, msgspec.Meta(gt=0, le=2**20)]
Depth = Annotated[int, msgspec.Meta(gt=0, le=1024)]
_Row = Annotated[int, msgspec.Meta(ge=0)]
_Sections = tuple[_Row, _Row, _Row] | None


class AudioEncoderConfig(msgspec.Struct, frozen=True):
    """The audio tower. `n_window` is half a convolution chunk, `n_window_infer` an attention window, both in mel
    frames."""

    num_mel_bins: Size
    d_model: Size
    encoder_layers: Depth
    encoder_attention_heads: Size
    encoder_ffn_dim: Size
    downsample_hidden_size: Size
    output_dim: Size
    n_window: Size
    n_window_infer: Annotated[int, msgspec.Meta(gt=0, le=3000)]  # 30 s, the maximal segment
    activation_function: str

    @property
    def chunk_frames(self) -> int:
        return 2 * self.n_window

    @property
    def chunks_per_window(self) -> int:
        return self.n_window_infer // self.chunk_frames


class TextConfig(msgspec.Struct, frozen=True):
    """The Qwen3 decoder."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Depth
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    rms_norm_eps: Annotated[float, msgspec.Meta(gt=0, le=1)]
    rope_theta: Annotated[float, msgspec.Meta(gt=1, le=1e12)]
    max_position_embeddings: Annotated[int, msgspec.Meta(ge=1024, le=2**20)]  # 30 s and their text take 800
    hidden_act: str
    tie_word_embeddings: bool


class LayerQuantization(msgspec.Struct, frozen=True):
    group_size: Literal[32, 64, 128]  # MLX divides by it before checking it
    bits: Literal[2, 3, 4, 5, 6, 8]


class Quantization(LayerQuantization, frozen=True):
    """Bits and group size of the quantised layers; `layers` holds those that differ, by name."""

    layers: dict[str, LayerQuantization] = {}
    mode: Literal["affine"] = "affine"


class ModelConfig(msgspec.Struct, frozen=True):
    """A recogniser. `tokens` names the tokens whose ids are fields here."""

    tokens: ClassVar[Mapping[str, str]] = {"audio_token_id": "<|audio_pad|>"}
    head_field: ClassVar[str] = "vocab_size"

    audio: AudioEncoderConfig
    text: TextConfig
    audio_token_id: Size
    quantization: Quantization | None = None

    @property
    def head_size(self) -> int:
        """Rows of the head; config.json has them as `head_field`."""
        return self.text.vocab_size

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> Self:
        """Read the content of config.json in any of the layouts.

        Raises ModelUnsupported for another architecture, an aligner where a recogniser is expected or the reverse, a
        missing or mistyped key, or positions that this decoder's one-dimensional rotary would not reproduce.
        """
        body = _body(config)
        if _is_aligner(config, body):
            raise ModelUnsupported("this checkpoint is a forced aligner, not a recogniser", field="model_type")
        return cls(**_network(config, body))


class AlignerConfig(ModelConfig, frozen=True, kw_only=True):
    """A forced aligner: the recogniser's network with another head, which is never tied. It has `classify_num` classes
    of time, `timestamp_segment_time` apart."""

    tokens: ClassVar[Mapping[str, str]] = {**ModelConfig.tokens, "timestamp_token_id": "<timestamp>"}
    head_field: ClassVar[str] = "classify_num"

    classify_num: Size
    timestamp_token_id: Size
    timestamp_segment_time: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 80.0  # milliseconds; the native default
    support_languages: tuple[str, ...] | None = None  # null in the released file

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that it was trained on."""
        return self.support_languages or ALIGNED_LANGUAGES

    @property
    def head_size(self) -> int:
        return self.classify_num

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> Self:
        """As for a recogniser; a tied head is refused too."""
        body = _body(config)
        if not _is_aligner(config, body):
            raise ModelUnsupported("this checkpoint is a recogniser, not a forced aligner", field="model_type")
        labels = config.get("id2label")  # transformers writes every label, and no count
        stated = {"num_labels": len(labels) if isinstance(labels, dict) else 0, **config, **body}
        stated.setdefault("classify_num", stated["num_labels"])
        parsed: Self = _parse(stated | _network(config, body), cls, "head")
        if parsed.text.tie_word_embeddings:
            raise ModelUnsupported("config.json: the head of an aligner is not tied", field="tie_word_embeddings")
        return parsed


def _body(config: dict[str, Any]) -> dict[str, Any]:
    """What both halves and the ids of tokens stand in."""
    model_type = config.get("model_type")
    if model_type not in ("qwen3_asr", "qwen3_forced_aligner"):
        raise ModelUnsupported(f"expected model_type qwen3_asr, found {model_type!r}", field="model_type")
    return _section(config, "thinker_config") if "thinker_config" in config else config


def _is_aligner(config: dict[str, Any], body: dict[str, Any]) -> bool:
    """Conversions drop some of the signs, so one is enough."""
    architectures = config.get("architectures")
    return (
        body.get("classify_num") is not None
        or any("forced_aligner" in str(part.get("model_type")) for part in (config, body))
        or (isinstance(architectures, list) and "Qwen3ASRForTokenClassification" in architectures)
    )


def _network(config: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The fields of `ModelConfig`."""
    stated = dict(_section(body, "text_config"))
    sections = _lift_rope_theta(stated)
    stated.setdefault("tie_word_embeddings", config.get("tie_word_embeddings"))
    audio = _parse(_audio_names(_section(body, "audio_config")), AudioEncoderConfig, "audio_config")
    text = _parse(stated, TextConfig, "text_config")
    _check_architecture(audio, text, sections)
    return {
        "audio": audio,
        "text": text,
        "audio_token_id": _parse(body.get("audio_token_id"), Size, "audio_token_id"),
        "quantization": _quantization(config.get("quantization")),
    }


def _section(body: dict[str, Any], name: str) -> dict[str, Any]:
    section = body.get(name)
    if not isinstance(section, dict):
        raise ModelUnsupported(f"config.json has no {name}", field=name)
    return section


def _parse(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        named = _FIELD.search(str(error))
        field = named[1] or named[2] if named else where
        raise ModelUnsupported(f"config.json, {where}: {error}", field=field) from error


def _quantization(section: Any) -> Quantization | None:
    """Conversions write exceptions for single layers beside the common settings."""
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ModelUnsupported("config.json, quantization: expected an object", field="quantization")
    layers = {name: value for name, value in section.items() if isinstance(value, dict)}
    parsed: Quantization = _parse(section | {"layers": layers}, Quantization, "quantization")
    return parsed


def _audio_names(audio: dict[str, Any]) -> dict[str, Any]:
    """The audio section under the released names; a released name takes precedence over its native alias."""
    named = dict(audio)
    for native, released in _NATIVE_AUDIO_NAMES.items():
        if native in audio:
            named.setdefault(released, audio[native])
    return named


def _lift_rope_theta(text: dict[str, Any]) -> tuple[int, int, int] | None:
    """Lift rope_theta out of `rope_parameters`, and reject any scaling of positions except the interleaved three-row
    default; return `mrope_section`.

    With three equal rows the sections only choose among equal angles, so `mrope_section` only has to fill the head.
    """
    stated = text.get("rope_parameters") or text.get("rope_scaling") or {}
    rope = _parse(stated, dict[str, Any], "rope_scaling")
    if "rope_theta" not in text and "rope_theta" in rope:
        text["rope_theta"] = rope["rope_theta"]
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ModelUnsupported(f"expected rotary positions of type 'default', found {kind!r}", field="rope_scaling")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelUnsupported("partial rotary positions are not supported", field="partial_rotary_factor")
    sections: tuple[int, int, int] | None = _parse(rope.get("mrope_section"), _Sections, "mrope_section")
    return sections


def _check_architecture(audio: AudioEncoderConfig, text: TextConfig, sections: tuple[int, int, int] | None) -> None:
    expectations = {
        "activation_function gelu": audio.activation_function == "gelu",
        "hidden_act silu": text.hidden_act == "silu",
        "num_mel_bins 128": audio.num_mel_bins == 128,
        "n_window 50, for which token counts are defined": audio.n_window == 50,
        "n_window_infer a multiple of the chunk": audio.n_window_infer % audio.chunk_frames == 0,
        "output_dim equal to hidden_size": audio.output_dim == text.hidden_size,
        "d_model even and at least 4": audio.d_model % 2 == 0 and audio.d_model >= 4,
        "encoder_attention_heads a divisor of d_model": audio.d_model % audio.encoder_attention_heads == 0,
        "num_attention_heads a multiple of num_key_value_heads": not text.num_attention_heads
        % text.num_key_value_heads,
        "head_dim even": text.head_dim % 2 == 0,
        "mrope_section to fill head_dim": sections is None or 2 * sum(sections) == text.head_dim,
    }
    for expectation, holds in expectations.items():
        if not holds:
            raise ModelUnsupported(f"config.json: expected {expectation}", field=expectation.split()[0])
