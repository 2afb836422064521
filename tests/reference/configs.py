"""config.json and preprocessor_config.json of the random checkpoints, in each of the three layouts."""

from collections.abc import Mapping
from typing import Any, Literal

Size = Literal["tiny", "0.6b", "1.7b", "tiny-aligner", "aligner"]
Layout = Literal["released", "native", "mlx"]

AUDIO: dict[Size, Mapping[str, int]] = {
    "tiny": {
        "d_model": 128,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 256,
        "downsample_hidden_size": 16,
        "output_dim": 64,
    },
    "0.6b": {
        "d_model": 896,
        "encoder_layers": 18,
        "encoder_attention_heads": 14,
        "encoder_ffn_dim": 3584,
        "downsample_hidden_size": 480,
        "output_dim": 1024,
    },
    "1.7b": {
        "d_model": 1024,
        "encoder_layers": 24,
        "encoder_attention_heads": 16,
        "encoder_ffn_dim": 4096,
        "downsample_hidden_size": 480,
        "output_dim": 2048,
    },
}
AUDIO |= {"tiny-aligner": AUDIO["tiny"], "aligner": {**AUDIO["1.7b"], "output_dim": 1024}}
TEXT: dict[Size, Mapping[str, int]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 151936,
    },
    "0.6b": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    },
    "1.7b": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    },
}
TEXT |= {"tiny-aligner": {**TEXT["tiny"], "vocab_size": 704}, "aligner": {**TEXT["0.6b"], "vocab_size": 152064}}
CLASSES: Mapping[Size, int] = {"tiny-aligner": 144, "aligner": 5000}  # of the aligners
_TINY_SECTION, _SECTION = (6, 5, 5), (24, 20, 20)
SUPPORT_LANGUAGES = ("Chinese", "English", "Arabic")


def config_json(size: Size, layout: Layout, dtype: str) -> dict[str, Any]:
    """The config of a checkpoint. Conversions by the community keep the released config."""
    return _native(size, dtype) if layout == "native" else _released(size, dtype)


def preprocessor_json(layout: Layout) -> dict[str, Any]:
    shared = {
        "chunk_length": 30,
        "dither": 0.0,
        "feature_size": 128,
        "hop_length": 160,
        "n_fft": 400,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "Qwen3ASRProcessor",
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
    if layout == "native":
        return shared | {"feature_extractor_type": "Qwen3ASRFeatureExtractor", "min_length": 8000, "n_window": 50}
    return shared | {"feature_extractor_type": "WhisperFeatureExtractor", "n_samples": 480000, "nb_max_frames": 3000}


def _audio(size: Size) -> dict[str, Any]:
    return {
        "activation_dropout": 0,
        "activation_function": "gelu",
        "attention_dropout": 0,
        "dropout": 0,
        "initializer_range": 0.02,
        "n_window": 50,
        "n_window_infer": 800,
        "num_mel_bins": 128,
        "scale_embedding": False,
        **AUDIO[size],
    }


def _text(size: Size) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": size not in CLASSES,
        "use_cache": True,
        **TEXT[size],
    }


def _released(size: Size, dtype: str) -> dict[str, Any]:
    rope_scaling = {
        "interleaved": True,
        "mrope_interleaved": True,
        "mrope_section": _TINY_SECTION if size.startswith("tiny") else _SECTION,
        "rope_type": "default",
        "type": "default",
    }
    thinker = {
        "audio_config": {
            "model_type": "qwen3_asr_audio_encoder",
            "conv_chunksize": 500,
            "max_source_positions": 1500,
            **_audio(size),
        },
        "audio_end_token_id": 151670,
        "audio_start_token_id": 151669,
        "audio_token_id": 151676,
        "dtype": dtype,
        "initializer_range": 0.02,
        "model_type": "qwen3_asr_thinker",
        "text_config": {
            "model_type": "qwen3_asr_text",
            "rope_scaling": rope_scaling,
            "rope_theta": 1000000,
            **_text(size),
        },
        "user_token_id": 872,
    }
    aligner = {}
    if size in CLASSES:
        thinker |= {"model_type": "qwen3_forced_aligner", "classify_num": CLASSES[size]}
        aligner = {"timestamp_token_id": 151705, "timestamp_segment_time": 80}
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "dtype": dtype,
        "model_type": "qwen3_asr",
        "support_languages": SUPPORT_LANGUAGES,
        "thinker_config": thinker,
        "transformers_version": "4.57.6",
        **aligner,
    }


def _native(size: Size, dtype: str) -> dict[str, Any]:
    """The number of classes is that of the labels, which transformers writes out."""
    kind = "TokenClassification" if size in CLASSES else "ConditionalGeneration"
    labels = {str(label): f"LABEL_{label}" for label in range(CLASSES.get(size, 0))}
    return {
        "architectures": [f"Qwen3ASRFor{kind}"],
        "audio_config": {"model_type": "qwen3_asr_encoder", "max_position_embeddings": 13, **_audio(size)},
        "audio_token_id": 151676,
        "dtype": dtype,
        "eos_token_id": [151643, 151645],
        "initializer_range": 0.02,
        "model_type": "qwen3_asr",
        "pad_token_id": 151645,
        "text_config": {
            "model_type": "qwen3",
            "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
            **_text(size),
        },
        "tie_word_embeddings": size not in CLASSES,
        "timestamp_token_id": 151705,
        "token_classification_bias": False,
        "transformers_version": "5.23.0",
        **({"id2label": labels, "label2id": {label: int(id) for id, label in labels.items()}} if labels else {}),
    }
