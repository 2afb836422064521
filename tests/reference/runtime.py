"""Activations of this runtime, on a checkpoint in any layout.

python -m reference.runtime CHECKPOINT OUT.npz --frames 100,101 --tokens 64
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import numpy as np

from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import splice
from reference import command_line
from reference.activations import PREFIX, SUFFIX, Activations, Array, prompt_ids


class Runtime:
    def __init__(self, model: Qwen3ASR) -> None:
        self.model = model

    @classmethod
    def load(cls, checkpoint: Path) -> "Runtime":
        return cls(load_model(checkpoint, "float32"))

    def versions(self) -> Mapping[str, str]:
        return {"mlx": version("mlx")}

    def activations(self, samples: Array, tokens: int) -> Activations:
        """`gaps` is empty: the runtime does not keep the second best."""
        mel = log_mel(samples)
        embeddings = self.embeddings(mel)
        prompt = self.prompt(embeddings)
        logits = self.model.logits(prompt, self.model.make_cache(prompt.shape[1]))[0]
        generated = list(generate(self.model, prompt, frozenset(), tokens, logprobs=True))
        return Activations(
            mel=mel,
            embeddings=np.array(embeddings.astype(mx.float32)),
            prompt_ids=prompt_ids(len(embeddings)),
            logits=np.array(logits.astype(mx.float32)),
            tokens=np.array([token.id for token in generated]),
            logprobs=np.array([token.logprob for token in generated]),
            gaps=np.zeros(0),
        )

    def embeddings(self, mel: Array) -> mx.array:
        return self.model.audio_tower(mx.array(mel).astype(self.model.dtype))

    def prompt(self, embeddings: mx.array) -> mx.array:
        return splice(self.model.embed(PREFIX), embeddings, self.model.embed(SUFFIX))


if __name__ == "__main__":
    command_line.run(Runtime.load, __doc__)
