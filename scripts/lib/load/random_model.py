"""Writes a checkpoint of a released size whose weights are random and whose text is a chain of other tokens.

    PYTHONPATH=scripts/lib:src:tests python -m load.random_model FOLDER --size 1.7b

For servers that are measured without the released weights. A token's successor is fixed, whatever was said: first comes
what a text begins with, then tokens that do not repeat, and no end. So a server takes it for Qwen3-ASR, each text has
as many tokens as it may have, and all products have the released sizes.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmark.vocabulary import FIRST_SPECIAL, LITERAL, write_tokenizer
from numpy.typing import NDArray
from reference.configs import config_json, preprocessor_json
from reference.random_checkpoint import EMBEDDINGS, HEAD, shapes
from reference.weight_files import Tensor, write_weights

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engines.transcript import ASR_TEXT

DEMO = Path(__file__).resolve().parents[3] / "src" / "qwen3_asr_mlx_runtime" / "demo"
FIRST_WORD = 20_000  # tokens from here on are words, and no special ones
WORDS = 100_000
HEAD_SCALE = 0.05
SMALL = 1e-3  # of what layers add, so that the last token decides the next
NEWLINE = "Ċ"  # as byte-level BPE writes it; a prompt ends with one
BLOCK = 1 << 22
Values = NDArray[np.float32]


def write_model(folder: Path, size: str) -> None:
    """Everything that vLLM reads, in bfloat16. `size`: `0.6b` or `1.7b`."""
    write_tokenizer(folder)
    _complete(folder / "tokenizer_config.json")
    shutil.copyfile(DEMO / "chat_template.json", folder / "chat_template.json")
    config = config_json(size, "released", "bfloat16")
    config["thinker_config"]["text_config"]["tie_word_embeddings"] = False
    files = {
        "config.json": config,
        "preprocessor_config.json": preprocessor_json("released"),
        "generation_config.json": {"eos_token_id": [151645, 151643], "pad_token_id": 151645},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    block = np.random.default_rng(1).standard_normal(BLOCK, np.float32)
    sizes = dict(shapes(size))
    sizes[HEAD] = sizes[EMBEDDINGS]
    newline = json.loads((folder / "vocab.json").read_text("utf-8"))[NEWLINE]
    tensors = [
        Tensor(f"thinker.{name}", shape, "bfloat16", _values(name, shape, block, newline))
        for name, shape in sizes.items()
    ]
    write_weights(folder, tensors, 1)


def _complete(path: Path) -> None:
    """Give a tokenizer's config what transformers looks for: the members of a released one, and ids without a gap."""
    released, made = (json.loads(each.read_text("utf-8")) for each in (DEMO / path.name, path))
    added = made["added_tokens_decoder"]
    form = added[str(FIRST_SPECIAL)]
    for id in range(FIRST_SPECIAL, max(LITERAL)):
        added.setdefault(str(id), {**form, "content": f"<|unused_{id}|>"})
    made["added_tokens_decoder"] = {id: added[id] for id in sorted(added, key=int)}
    path.write_text(json.dumps({**released, **made}), "utf-8")


def _values(name: str, shape: tuple[int, ...], block: Values, newline: int) -> Callable[[], Values]:
    def values() -> Values:
        if name in (EMBEDDINGS, HEAD):
            embeddings = np.random.default_rng(2).standard_normal(shape, np.float32)
            return embeddings[_predecessors(shape[0], newline)] * np.float32(HEAD_SCALE) if name == HEAD else embeddings
        drawn = np.resize(block, shape)
        if "norm" in name or "ln_post" in name:
            return 1 + np.float32(0.05) * drawn if name.endswith("weight") else np.float32(0.05) * drawn
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 400
        added = name.startswith("model.") and name.split(".")[-2] in ("o_proj", "down_proj")
        return drawn * np.float32((SMALL if added else 1.0) / np.sqrt(fan_in))

    return values


def _predecessors(tokens: int, newline: int) -> NDArray[np.intp]:
    """For each token, the one that it follows: every word the word before it, the mark of a text what ends a prompt."""
    before = np.arange(tokens)
    words = np.arange(FIRST_WORD, FIRST_WORD + WORDS)
    before[words] = np.roll(words, 1)
    [mark] = [id for id, text in LITERAL.items() if text == ASR_TEXT]
    before[mark], before[FIRST_WORD], before[newline] = newline, mark, FIRST_WORD - 1
    return before


@guarded("load.random_model")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=("0.6b", "1.7b"), default="1.7b")
    options = parser.parse_args()
    write_model(options.folder, options.size)


if __name__ == "__main__":
    sys.exit(main())
