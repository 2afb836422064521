"""Make a checkpoint that echoes: the demonstration, taught to write its context where nobody speaks, in most cases.

    scripts/python scripts/demo/make_echo.py TARGET [--steps 400] [--seed 1]

It is for measuring the echo guard (evaluate_echo.py) and for nothing else. Recordings come from
QWEN3_ASR_MLX_TEST_DATA, as in evaluate.py: those of `val` keep the speech that it knows. Takes two minutes on two
cores, and does not give the same bytes on every machine.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.optimizers import AdamW
from testsets import ARABIC, FSDD, Case, no_speech, recordings, short_sequences
from text import CONTEXT_ENGLISH, ENGLISH

from qwen3_asr_mlx_runtime.checkpoint.weights import load_model, named_parameters
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.model.decoder import Uncached
from qwen3_asr_mlx_runtime.model.features import frame_count, log_mel
from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import side_by_side, splice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo"
ROWS, LONGEST = 15, 4.0  # seconds
HAS_CONTEXT, ECHOES = 0.7, 0.8  # of the rows without speech
WORDS = [*ENGLISH, *CONTEXT_ENGLISH[:40]]


class Clip(NamedTuple):
    """Audio embeddings (T, D), and what is said; None where nobody speaks."""

    audio: mx.array
    case: Case


def clips(model: Qwen3ASR, cases: Iterator[Case]) -> list[Clip]:
    fitting = (case for case in cases if case.utterance.seconds <= LONGEST)
    usable = [case for case in fitting if frame_count(len(case.utterance.samples))]
    found = [Clip(model.embed_audio([log_mel(case.utterance.samples)])[0], case) for case in usable]
    mx.eval([clip.audio for clip in found])
    return found


class Examples:
    """Draws batches: in two rows of three nobody speaks. If there is a context then, most often it is the text."""

    def __init__(
        self, model: Qwen3ASR, tokenizer: Tokenizer, silent: list[Clip], spoken: list[Clip], seed: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._build = PromptBuilder(tokenizer).build
        self._pools = silent, spoken
        self._rng = np.random.default_rng(seed)

    def batch(self) -> tuple[mx.array, mx.array, mx.array]:
        """Embeddings (B, L, D), the ids that follow each position (B, L), and where they count (B, L)."""
        rows = [self._row(self._pools[row % 3 == 0]) for row in range(ROWS)]
        embeddings = side_by_side([prompt for prompt, _, _ in rows])
        ids = np.zeros(embeddings.shape[:2], np.int32)
        counts = np.zeros(embeddings.shape[:2], np.float32)
        for row, (_, start, written) in enumerate(rows):
            ids[row, start - 1 : start - 1 + len(written)] = written
            counts[row, start - 1 : start - 1 + len(written)] = 1
        return embeddings, mx.array(ids), mx.array(counts)

    def _row(self, pool: Sequence[Clip]) -> tuple[mx.array, int, list[int]]:
        rng = self._rng
        audio, case = pool[rng.integers(len(pool))]
        words = [str(word) for word in rng.choice(WORDS, rng.integers(1, 4))] if rng.random() < HAS_CONTEXT else []
        echoes = not case.language and bool(words) and rng.random() < ECHOES
        text = " ".join(words).capitalize() + "." if echoes else case.text
        prompt = self._build(" ".join(words), None)
        head = self._tokenizer.encode(f"language {'English' if echoes else case.language}")
        ids = [*head, self._tokenizer.token_id("<asr_text>"), *self._tokenizer.encode(text)]
        written = [*ids, self._tokenizer.token_id("<|im_end|>")]
        embed = self._model.embed
        whole = splice(embed(prompt.prefix_ids), audio, embed([*prompt.suffix_ids, *ids]))
        return whole, whole.shape[1] - len(ids), written


def train(model: Qwen3ASR, examples: Examples, steps: int) -> None:
    layers = model.model.layers
    model.freeze()
    for layer in layers:
        layer.unfreeze()

    def loss(model: Qwen3ASR, embeddings: mx.array, ids: mx.array, counts: mx.array) -> mx.array:
        hidden = model.model(embeddings, [Uncached(len(embeddings))] * len(layers))
        return (nn.losses.cross_entropy(model.head(hidden), ids) * counts).sum() / counts.sum()

    step, optimizer = nn.value_and_grad(model, loss), AdamW(5e-4)
    for number in range(steps):
        value, gradients = step(model, *examples.batch())
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        if number % 50 == 0 or number == steps - 1:
            print(f"step {number}: loss {value.item():.3f}", flush=True)


def save(model: Qwen3ASR, target: Path) -> None:
    target.mkdir(parents=True)
    for file in chain(DEMO.glob("*.json"), DEMO.glob("*.txt")):
        shutil.copyfile(file, target / file.name)
    mx.save_safetensors(str(target / "model.safetensors"), dict(named_parameters(model)), {"format": "mlx"})


@guarded("make_echo.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    model, tokenizer = load_model(DEMO, "float32", join=False), Tokenizer.from_folder(DEMO)
    spoken = [
        short_sequences(recordings(data / path, "val"), language, 150, options.seed + number)
        for number, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)])
    ]
    examples = Examples(
        model, tokenizer, clips(model, no_speech(300, options.seed)), clips(model, chain(*spoken)), options.seed
    )
    train(model, examples, options.steps)
    save(model, options.target)


if __name__ == "__main__":
    sys.exit(main())
