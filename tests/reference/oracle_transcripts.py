"""Transcripts of the qwen-asr package, with its window mask put in, in float32 on the CPU.

CLIPS.npz holds float32 16 kHz samples by name. OUT.json maps each name to what came of it in every one of WAYS:
`language` and `text`, and of every step `tokens` and `logprobs`.

    python -m reference.oracle_transcripts CHECKPOINT CLIPS.npz OUT.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from qwen_asr import Qwen3ASRModel
from qwen_asr.core.transformers_backend import Qwen3ASRProcessor

from reference.activations import Array, log_probabilities
from reference.clips import SAMPLE_RATE
from reference.corpus import WAYS
from reference.oracle_qwen_asr import attend_in_windows


class Watched:
    """The package's own path from samples to text; what its model generates on the way is kept.

    The package has the end-of-sequence ids of the released vocabulary in its code, and swaps the pre-tokenizer of a
    local folder for Mistral's: here both are the checkpoint's own.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._asr = Qwen3ASRModel.from_pretrained(str(checkpoint), dtype=torch.float32)
        self._asr.processor = Qwen3ASRProcessor.from_pretrained(checkpoint, fix_mistral_regex=False)
        self._ends = self._asr.processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
        self._generate, self._asr.model.generate = self._asr.model.generate, self._watch
        attend_in_windows(self._asr.model.thinker.audio_tower)

    def _watch(self, **inputs: Any) -> Any:
        generated = self._generate(**inputs, eos_token_id=self._ends, output_logits=True)
        logits = torch.cat(generated.logits).numpy()
        self._tokens = generated.sequences[0, -len(logits) :].numpy()
        self._logprobs = log_probabilities(logits, self._tokens)
        return generated

    def transcribe(self, samples: Array, language: str | None, context: str) -> dict[str, Any]:
        (transcript,) = self._asr.transcribe((samples, SAMPLE_RATE), context=context, language=language)
        return {
            "language": transcript.language,
            "text": transcript.text,
            "tokens": self._tokens.tolist(),
            "logprobs": self._logprobs.tolist(),
        }


def main(checkpoint: str, clips: str, out: str) -> None:
    asr = Watched(Path(checkpoint))
    with np.load(clips) as samples:
        found = {name: [asr.transcribe(samples[name], *way) for way in WAYS] for name in samples}
    Path(out).write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
