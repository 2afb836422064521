"""A whole checkpoint of a few thousand random weights, with the tokenizer of the embedded one."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import msgspec
from mlx.utils import tree_flatten
from support.tiny import AUDIO, TEXT, tiny_model

DEMO = Path(__file__).resolve().parents[2] / "src" / "qwen3_asr_mlx_runtime" / "demo"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def write_tiny_checkpoint(folder: Path, *, seed: int = 0, shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    added = json.loads((DEMO / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    audio_token_id = next(int(id) for id, token in added.items() if token["content"] == "<|audio_pad|>")
    config = {
        "model_type": "qwen3_asr",
        "audio_config": msgspec.to_builtins(AUDIO),
        "text_config": msgspec.to_builtins(TEXT),
        "audio_token_id": audio_token_id,
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_weights(folder, dict(tree_flatten(tiny_model(seed=seed).parameters())), shards)
    return folder


def _write_weights(folder: Path, weights: dict[str, mx.array], shards: int) -> None:
    if shards == 1:
        mx.save_safetensors(str(folder / WEIGHTS), weights)
        return
    weight_map = {}
    for number in range(shards):
        names = sorted(weights)[number::shards]
        shard = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        mx.save_safetensors(str(folder / shard), {name: weights[name] for name in names})
        weight_map |= dict.fromkeys(names, shard)
    total = sum(weight.nbytes for weight in weights.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))


def change_weights(folder: Path, name: str, value: mx.array) -> None:
    """Replace one tensor of an unsharded checkpoint."""
    weights = dict(mx.load(str(folder / WEIGHTS)))
    mx.eval(weights)
    mx.save_safetensors(str(folder / WEIGHTS), weights | {name: value.astype(weights[name].dtype)})
