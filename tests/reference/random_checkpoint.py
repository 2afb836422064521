"""Random Qwen3-ASR checkpoints, made with numpy alone: three layouts, five sizes, the same bytes on every machine.

A tensor depends on the seed and on its name in the released layout, so one golden serves every layout, and since every
number is one that bfloat16 can hold, it serves both dtypes as well.

The scales keep greedy decoding from repeating one token, which would hide a broken cache, and keep query, key and token
embeddings small before their norms, so that a wrong epsilon shows.

    python -m reference.random_checkpoint FOLDER --size tiny --layout released --dtype float32
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from reference.configs import AUDIO, CLASSES, TEXT, Layout, Size, config_json, preprocessor_json
from reference.draws import DEVIATION, uniform
from reference.weight_files import Dtype, Tensor, write_weights

Shape = tuple[int, ...]

SEED = 1
EMBEDDINGS = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
OHWI = (0, 2, 3, 1)
TOKENS = {
    "audio_token_id": "<|audio_pad|>",
    "audio_start_token_id": "<|audio_start|>",
    "audio_end_token_id": "<|audio_end|>",
    "timestamp_token_id": "<timestamp>",
}


@dataclass(frozen=True)
class Scales:
    """Standard deviations, relative to what keeps the variance. Those for 3 layers make a stack of 28 chaotic."""

    qk_norm: float
    o_proj: float
    down_proj: float


SCALES: Mapping[Size, Scales] = {
    "tiny": Scales(3.0, 1.2, 3.0),
    "0.6b": Scales(1.5, 0.3, 1.0),
    "1.7b": Scales(1.5, 0.3, 1.0),
    "tiny-aligner": Scales(3.0, 1.2, 3.0),
    "aligner": Scales(1.5, 0.3, 1.0),
}


def write_random_checkpoint(
    folder: Path,
    *,
    size: Size = "tiny",
    layout: Layout = "released",
    dtype: Dtype = "float32",
    shards: int = 1,
    seed: int = SEED,
    tokenizer: Path | None = None,
) -> Path:
    """Write config.json, preprocessor_config.json, generation_config.json and the weights to `folder`; return it.

    `layout`: `released` (`thinker.*`), `native` (Hugging Face's own, `model.language_model.*`) or `mlx` (conversions of
    the community: `thinker.` taken off, convolutions transposed to O, H, W, I). `shards` > 1 writes an index as well.
    `tokenizer`: a folder whose files are copied first, and whose ids config.json then has; without one the checkpoint
    has no tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(tokenizer.iterdir()) if tokenizer else ():
        if file.suffix in (".json", ".txt", ".jinja"):
            shutil.copyfile(file, folder / file.name)
    config = config_json(size, layout, dtype)
    _write_json(folder / "config.json", _with_ids(config, tokenizer) if tokenizer else config)
    _write_json(folder / "preprocessor_config.json", preprocessor_json(layout))
    _write_json(folder / "generation_config.json", {"eos_token_id": [151645, 151643], "pad_token_id": 151645})
    tensors = [_tensor(name, shape, size, layout, dtype, seed) for name, shape in _stored(size, layout)]
    write_weights(folder, tensors, shards)
    return folder


def _with_ids(config: dict[str, Any], tokenizer: Path) -> Any:
    """`config` with the ids that control tokens have in `tokenizer`."""
    added = json.loads((tokenizer / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    ids = {token["content"]: int(id) for id, token in added.items()}
    return json.loads(
        json.dumps(config),
        object_hook=lambda section: section | {key: ids[TOKENS[key]] for key in TOKENS.keys() & section.keys()},
    )


def shapes(size: Size) -> Iterator[tuple[str, Shape]]:
    """Name, as in the released layout without `thinker.`, and shape of every tensor but the tied head."""
    yield from _audio_tower_shapes(AUDIO[size])
    yield from _decoder_shapes(TEXT[size])
    if size in CLASSES:
        yield HEAD, (CLASSES[size], TEXT[size]["hidden_size"])


def _audio_tower_shapes(audio: Mapping[str, int]) -> Iterator[tuple[str, Shape]]:
    d, channels, ffn = audio["d_model"], audio["downsample_hidden_size"], audio["encoder_ffn_dim"]
    for i in (1, 2, 3):
        yield from _biased(f"audio_tower.conv2d{i}", (channels, 1 if i == 1 else channels, 3, 3))
    yield "audio_tower.conv_out.weight", (d, channels * 16)
    for i in range(audio["encoder_layers"]):
        prefix = f"audio_tower.layers.{i}"
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            yield from _biased(f"{prefix}.{name}", (d,))
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _biased(f"{prefix}.self_attn.{name}", (d, d))
        yield from _biased(f"{prefix}.fc1", (ffn, d))
        yield from _biased(f"{prefix}.fc2", (d, ffn))
    yield from _biased("audio_tower.ln_post", (d,))
    yield from _biased("audio_tower.proj1", (d, d))
    yield from _biased("audio_tower.proj2", (audio["output_dim"], d))


def _biased(prefix: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{prefix}.weight", shape
    yield f"{prefix}.bias", shape[:1]


def _decoder_shapes(text: Mapping[str, int]) -> Iterator[tuple[str, Shape]]:
    hidden, ffn, head_dim = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    q, kv = text["num_attention_heads"] * head_dim, text["num_key_value_heads"] * head_dim
    yield EMBEDDINGS, (text["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for i in range(text["num_hidden_layers"]):
        prefix = f"model.layers.{i}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        for name, width in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            yield f"{prefix}.self_attn.{name}.weight", (width, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, q)
        yield f"{prefix}.self_attn.q_norm.weight", (head_dim,)
        yield f"{prefix}.self_attn.k_norm.weight", (head_dim,)
        for name in ("gate_proj", "up_proj"):
            yield f"{prefix}.mlp.{name}.weight", (ffn, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, ffn)


def _stored(size: Size, layout: Layout) -> Iterator[tuple[str, Shape]]:
    yield from sorted(shapes(size))
    if layout == "released" and size not in CLASSES:  # the published files hold a copy of the tied head
        yield HEAD, dict(shapes(size))[EMBEDDINGS]


def _tensor(name: str, shape: Shape, size: Size, layout: Layout, dtype: Dtype, seed: int) -> Tensor:
    source = EMBEDDINGS if name == HEAD and size not in CLASSES else name
    values = partial(_values, source, shape, SCALES[size], seed)
    if layout == "released":
        return Tensor(f"thinker.{name}", shape, dtype, values)
    if layout == "native":
        return Tensor(_native_name(name), shape, dtype, values)
    if len(shape) == 4:
        return Tensor(name, tuple(shape[i] for i in OHWI), dtype, lambda: values().transpose(OHWI))
    return Tensor(name, shape, dtype, values)


def _native_name(name: str) -> str:
    for old, new in (
        ("audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
        ("audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
        ("audio_tower.", "model.audio_tower."),
        ("model.", "model.language_model."),
        ("lm_head.", "score."),
    ):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _values(name: str, shape: Shape, scales: Scales, seed: int) -> NDArray[np.float32]:
    mean, deviation = _distribution(name, shape, scales)
    values = uniform(seed, name, math.prod(shape)).reshape(shape)
    values *= np.float32(deviation / DEVIATION)
    values += np.float32(mean)
    return values


def _distribution(name: str, shape: Shape, scales: Scales) -> tuple[float, float]:
    """Mean and standard deviation of a tensor."""
    keep_variance = 1 / math.sqrt(math.prod(shape[1:]))
    match name.split(".")[-2:]:
        case [_, "bias"]:
            return 0.0, 0.05
        case ["embed_tokens" | "lm_head", _]:
            return 0.0, 0.02
        case ["norm", _]:  # the last norm: the tied head then writes logits of deviation 4
            scale = 4 / (0.02 * math.sqrt(shape[0]))
            return scale, 0.1 * scale
        case ["q_norm" | "k_norm", _]:
            return scales.qk_norm, 0.1 * scales.qk_norm
        case [kind, _] if "norm" in kind or kind == "ln_post":
            return 1.0, 0.1
        case ["o_proj", _]:
            return 0.0, scales.o_proj * keep_variance
        case ["down_proj", _]:
            return 0.0, scales.down_proj * keep_variance
        case [kind, _] if kind.startswith("conv2d"):
            return 0.0, 1.6 * keep_variance
        case ["q_proj" | "k_proj", _] if name.startswith("model."):
            return 0.0, 0.02 * keep_variance
    return 0.0, (1.0 if name.startswith("audio_tower.") else 1.2) * keep_variance


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=get_args(Size), default="tiny")
    parser.add_argument("--layout", choices=("released", "native", "mlx"), default="released")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--tokenizer", type=Path)
    options = vars(parser.parse_args())
    write_random_checkpoint(options.pop("folder"), **options)


if __name__ == "__main__":
    main()
