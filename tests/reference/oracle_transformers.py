"""Activations of Hugging Face's own implementation, on a checkpoint in the native layout, in float32 on the CPU.

It attends in windows, as the released models do, but pads clips under 100 frames: those belong to qwen-asr.

    python -m reference.oracle_transformers CHECKPOINT OUT.npz --frames 100,101 --tokens 64
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from transformers.models.qwen3_asr import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration

from reference import command_line
from reference.activations import Activations, Array, log_probabilities, prompt_ids, top_two_gaps
from reference.clips import SAMPLE_RATE


class Transformers:
    def __init__(self, checkpoint: Path) -> None:
        self._model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._extractor = Qwen3ASRFeatureExtractor.from_pretrained(checkpoint)

    def versions(self) -> Mapping[str, str]:
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    @torch.no_grad()
    def activations(self, samples: Array, tokens: int) -> Activations:
        features = self._extractor(
            samples, sampling_rate=SAMPLE_RATE, padding="longest", return_attention_mask=True, return_tensors="pt"
        )
        inputs = {
            "input_features": features["input_features"],
            "input_features_mask": features["attention_mask"],
        }
        embeddings = self._model.get_audio_features(**inputs).pooler_output
        ids = torch.from_numpy(prompt_ids(len(embeddings)))[None]
        generated = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **inputs,
            max_new_tokens=tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        frames = int(inputs["input_features_mask"].sum())
        logits = torch.cat(generated.logits).numpy()
        new = generated.sequences[0, ids.shape[1] :].numpy()
        return Activations(
            mel=inputs["input_features"][0, :, :frames].T.numpy(),
            embeddings=embeddings.numpy(),
            prompt_ids=ids[0].numpy(),
            logits=logits[0],
            tokens=new,
            logprobs=log_probabilities(logits, new),
            gaps=top_two_gaps(logits),
        )


if __name__ == "__main__":
    command_line.run(Transformers, __doc__)
