"""Activations of the qwen-asr package, on a checkpoint in the released layout, in float32 on the CPU.

On the CPU the package forgets its own mask: its encoder builds the windows but attends over the whole clip. Here each
layer is given the mask that the package's unused `_prepare_attention_mask` makes of the windows it computed.

    python -m reference.oracle_qwen_asr CHECKPOINT OUT.npz --frames 24,60,99 --tokens 64
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from qwen_asr.core.transformers_backend import Qwen3ASRForConditionalGeneration
from transformers import WhisperFeatureExtractor

from reference import command_line
from reference.activations import Activations, Array, log_probabilities, prompt_ids, top_two_gaps
from reference.clips import SAMPLE_RATE


class QwenAsr:
    def __init__(self, checkpoint: Path) -> None:
        model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._thinker = model.thinker
        self._extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
        attend_in_windows(self._thinker.audio_tower)

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("qwen-asr", "transformers", "torch")}

    @torch.no_grad()
    def activations(self, samples: Array, tokens: int) -> Activations:
        features = self._extractor(
            samples,
            sampling_rate=SAMPLE_RATE,
            padding=True,
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mel, mask = features["input_features"], features["attention_mask"]
        embeddings = self._thinker.get_audio_features(mel, feature_attention_mask=mask)
        ids = torch.from_numpy(prompt_ids(len(embeddings)))[None]
        generated = self._thinker.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=mel,
            feature_attention_mask=mask,
            max_new_tokens=tokens,
            eos_token_id=[151645, 151643],
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.cat(generated.logits).numpy()
        new = generated.sequences[0, ids.shape[1] :].numpy()
        return Activations(
            mel=mel[0, :, : int(mask.sum())].T.numpy(),
            embeddings=embeddings.numpy(),
            prompt_ids=ids[0].numpy(),
            logits=logits[0],
            tokens=new,
            logprobs=log_probabilities(logits, new),
            gaps=top_two_gaps(logits),
        )


def attend_in_windows(tower: Any) -> None:
    """Give every layer of the audio tower the block-diagonal mask of the windows in `cu_seqlens`."""

    def add_mask(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden_states, cu_seqlens = args
        mask = tower._prepare_attention_mask(hidden_states, cu_seqlens)
        return args, kwargs | {"attention_mask": mask}

    for layer in tower.layers:
        layer.register_forward_pre_hook(add_mask, with_kwargs=True)


if __name__ == "__main__":
    command_line.run(QwenAsr, __doc__)
