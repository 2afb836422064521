"""Write the trained weights as a checkpoint in the released layout.

    python scripts/demo/export.py TRAINED.pt OUTDIR

OUTDIR already holds make_tokenizer.py's files. Writes config.json and model.safetensors (bfloat16; the recogniser's
head is tied, and left out; weights with a head are an aligner's). Needs torch and safetensors.
"""

import json
import sys
from pathlib import Path

import torch
from model import ALIGNER_AUDIO, ALIGNER_TEXT, AUDIO, CHUNK, CLASS_SECONDS, CLASSES, ROPE_THETA, TEXT, Sizes
from safetensors.torch import save_file

LANGUAGES = ["English", "Arabic"]


def audio_config(sizes: Sizes) -> dict[str, object]:
    return {
        **sizes,
        "model_type": "qwen3_asr_audio_encoder",
        "num_mel_bins": 128,
        "n_window": CHUNK // 2,
        "n_window_infer": 800,
        "conv_chunksize": 500,
        "max_source_positions": 1500,
        "scale_embedding": False,
        "activation_function": "gelu",
        "activation_dropout": 0,
        "attention_dropout": 0,
        "dropout": 0,
        "initializer_range": 0.02,
    }


def text_config(sizes: Sizes, vocabulary: int, tied: bool) -> dict[str, object]:
    scaling = {"rope_type": "default", "type": "default", "interleaved": True, "mrope_interleaved": True}
    return {
        **sizes,
        "model_type": "qwen3",
        "vocab_size": vocabulary,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": int(ROPE_THETA),
        "rope_scaling": {**scaling, "mrope_section": [12, 10, 10]},
        "tie_word_embeddings": tied,
        "use_cache": True,
    }


def config(folder: Path, aligner: bool) -> dict[str, object]:
    """config.json, with the token ids that tokenizer_config.json and vocab.json give."""
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    added = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    ids = {entry["content"]: int(index) for index, entry in added.items()}
    thinker: dict[str, object] = {"model_type": "qwen3_asr"}
    times: dict[str, object] = {}
    if aligner:
        thinker = {"model_type": "qwen3_forced_aligner", "classify_num": CLASSES}
        times = {
            "timestamp_token_id": ids["<timestamp>"],
            "timestamp_segment_time": round(1000 * CLASS_SECONDS),
        }
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": LANGUAGES,
        "dtype": "bfloat16",
        **times,
        "thinker_config": {
            **thinker,
            "dtype": "bfloat16",
            "initializer_range": 0.02,
            "audio_token_id": ids["<|audio_pad|>"],
            "audio_start_token_id": ids["<|audio_start|>"],
            "audio_end_token_id": ids["<|audio_end|>"],
            "user_token_id": vocabulary["user"],
            "audio_config": audio_config(ALIGNER_AUDIO if aligner else AUDIO),
            "text_config": text_config(
                ALIGNER_TEXT if aligner else TEXT, len(vocabulary) + len(added), tied=not aligner
            ),
        },
    }


def write(trained: Path, folder: Path) -> None:
    weights = torch.load(trained, map_location="cpu", weights_only=True)["averaged"]
    halves = {f"thinker.{name}": value.to(torch.bfloat16).contiguous() for name, value in sorted(weights.items())}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    stated = config(folder, aligner="lm_head.weight" in weights)
    (folder / "config.json").write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
