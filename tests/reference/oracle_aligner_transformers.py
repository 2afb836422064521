"""Alignments of Hugging Face's own implementation, on a checkpoint in the native layout, in float32 on the CPU.

python -m reference.oracle_aligner_transformers CHECKPOINT OUT.npz --cases '1 s,31 s'
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer
from transformers.models.qwen3_asr import (
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForTokenClassification,
    Qwen3ASRProcessor,
)

from reference import alignments
from reference.activations import Array
from reference.alignments import Alignment


class Transformers:
    def __init__(self, checkpoint: Path) -> None:
        self._model = Qwen3ASRForTokenClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
        extractor = Qwen3ASRFeatureExtractor.from_pretrained(checkpoint)
        self._processor = Qwen3ASRProcessor(extractor, AutoTokenizer.from_pretrained(checkpoint))

    def versions(self) -> Mapping[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    @torch.no_grad()
    def align(self, samples: Array, units: tuple[str, ...]) -> Alignment:
        """The package's processor has the template from the checkpoint; here the string is written out."""
        assert self._processor.split_words_for_alignment(" ".join(units)) == [*units]
        marked = "".join(f"{unit}<timestamp><timestamp>" for unit in units)
        inputs = self._processor(text=[f"<|audio_start|><|audio_pad|><|audio_end|>{marked}"], audio=[samples])
        ids = inputs["input_ids"][0]
        logits = self._model(**inputs).logits[0, ids == self._model.config.timestamp_token_id]
        return Alignment(ids.numpy(), logits.numpy())


if __name__ == "__main__":
    alignments.run(Transformers, __doc__)
