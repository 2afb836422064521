"""Teaches the demonstration's decoder to write given texts, right or wrong. make_echo.py and make_loop.py share it."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.optimizers import AdamW
from testsets import Case

from qwen3_asr_mlx_runtime.checkpoint.weights import load_model, named_parameters
from qwen3_asr_mlx_runtime.model.decoder import Uncached
from qwen3_asr_mlx_runtime.model.features import frame_count, log_mel
from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import side_by_side, splice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo"
DATA = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")


class Clip(NamedTuple):
    """Audio embeddings (T, D), and what is said."""

    audio: mx.array
    case: Case


class Example(NamedTuple):
    """What the decoder shall write for audio embeddings (T, D). `ends`: it stops there."""

    audio: mx.array
    language: str | None
    text: str
    context: str = ""
    ends: bool = True


class Demonstration:
    """The demonstration in float32, of which only the decoder's layers are taught."""

    def __init__(self) -> None:
        self._model = load_model(DEMO, "float32", join=False)
        self._tokenizer = Tokenizer.from_folder(DEMO)
        self._build = PromptBuilder(self._tokenizer).build

    def clips(self, cases: Iterable[Case], longest: float) -> list[Clip]:
        """Those of at most `longest` seconds."""
        fitting = (case for case in cases if case.utterance.seconds <= longest)
        usable = [case for case in fitting if frame_count(len(case.utterance.samples))]
        found = [Clip(self._model.embed_audio([log_mel(case.utterance.samples)])[0], case) for case in usable]
        mx.eval([clip.audio for clip in found])
        return found

    def learn(self, batches: Iterator[Sequence[Example]], steps: int) -> None:
        model, layers = self._model, self._model.model.layers
        model.freeze()
        for layer in layers:
            layer.unfreeze()

        def loss(model: Qwen3ASR, embeddings: mx.array, ids: mx.array, counts: mx.array) -> mx.array:
            hidden = model.model(embeddings, [Uncached(len(embeddings))] * len(layers))
            return (nn.losses.cross_entropy(model.head(hidden), ids) * counts).sum() / counts.sum()

        step, optimizer = nn.value_and_grad(model, loss), AdamW(5e-4)
        for number in range(steps):
            value, gradients = step(model, *self._arrays(next(batches)))
            optimizer.update(model, gradients)
            mx.eval(model.parameters(), optimizer.state)
            if number % 50 == 0 or number == steps - 1:
                print(f"step {number}: loss {value.item():.3f}", flush=True)

    def save(self, target: Path) -> None:
        target.mkdir(parents=True)
        for file in chain(DEMO.glob("*.json"), DEMO.glob("*.txt")):
            shutil.copyfile(file, target / file.name)
        mx.save_safetensors(str(target / "model.safetensors"), dict(named_parameters(self._model)), {"format": "mlx"})

    def _arrays(self, batch: Sequence[Example]) -> tuple[mx.array, mx.array, mx.array]:
        """Embeddings (B, L, D), the ids that follow each position (B, L), and where they count (B, L)."""
        rows = [self._row(example) for example in batch]
        embeddings = side_by_side([prompt for prompt, _, _ in rows])
        ids = np.zeros(embeddings.shape[:2], np.int32)
        counts = np.zeros(embeddings.shape[:2], np.float32)
        for row, (_, start, written) in enumerate(rows):
            ids[row, start - 1 : start - 1 + len(written)] = written
            counts[row, start - 1 : start - 1 + len(written)] = 1
        return embeddings, mx.array(ids), mx.array(counts)

    def _row(self, example: Example) -> tuple[mx.array, int, list[int]]:
        """Embeddings (1, L, D) of the prompt and the text, the position where the text begins, and its ids."""
        prompt = self._build(example.context, None)
        head = self._tokenizer.encode(f"language {example.language}")
        ids = [*head, self._tokenizer.token_id("<asr_text>"), *self._tokenizer.encode(example.text)]
        embed = self._model.embed
        whole = splice(embed(prompt.prefix_ids), example.audio, embed([*prompt.suffix_ids, *ids]))
        end = [self._tokenizer.token_id("<|im_end|>")] if example.ends else []
        return whole, whole.shape[1] - len(ids), [*ids, *end]
