"""Alignments of the qwen-asr package, its window mask put in, on a checkpoint in the released layout, in float32 on the
CPU.

    python -m reference.oracle_aligner_qwen_asr CHECKPOINT OUT.npz --cases '0.6 s'
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from qwen_asr.core.transformers_backend import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor
from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor

from reference import alignments
from reference.activations import Array
from reference.alignments import Alignment
from reference.oracle_qwen_asr import attend_in_windows


class QwenAsr:
    """The package would swap the pre-tokenizer of a local folder for Mistral's; the model was trained with Qwen2's."""

    def __init__(self, checkpoint: Path) -> None:
        self._model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._processor = Qwen3ASRProcessor.from_pretrained(checkpoint, fix_mistral_regex=False)
        self._aligner = Qwen3ForceAlignProcessor()
        attend_in_windows(self._model.thinker.audio_tower)

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("qwen-asr", "transformers", "torch")}

    @torch.no_grad()
    def align(self, samples: Array, units: tuple[str, ...]) -> Alignment:
        found, text = self._aligner.encode_timestamp(" ".join(units), "English")
        assert found == [*units]
        inputs = self._processor(text=[text], audio=[samples], return_tensors="pt", padding=True)
        ids = inputs["input_ids"][0]
        logits = self._model.thinker(**inputs).logits[0, ids == self._model.config.timestamp_token_id]
        return Alignment(ids.numpy(), logits.numpy())


if __name__ == "__main__":
    alignments.run(QwenAsr, __doc__)
