"""Alignments of this runtime, on a checkpoint in any layout.

python -m reference.aligner_runtime CHECKPOINT OUT.npz
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner
from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count
from qwen3_asr_mlx_runtime.model.aligner import Aligner
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.prompt import aligner_prompt
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from reference import alignments
from reference.activations import Array
from reference.alignments import Alignment


class AlignerRuntime:
    def __init__(self, checkpoint: Path, dtype: str = "float32") -> None:
        self.tokenizer = Tokenizer.from_folder(checkpoint)
        self.aligner = Aligner(load_aligner(checkpoint, dtype), self.tokenizer)

    def versions(self) -> Mapping[str, str]:
        return {"mlx": version("mlx")}

    def align(self, samples: Array, units: tuple[str, ...]) -> Alignment:
        features = log_mel(samples)
        [logits] = self.aligner.logits([features], [units])
        ids = aligner_prompt(self.tokenizer, units).input_ids(audio_token_count(len(features)))
        return Alignment(np.array(ids), logits)


if __name__ == "__main__":
    alignments.run(AlignerRuntime, __doc__)
