"""Transcripts of the qwen-asr package, with its window mask put in, in float32 on the CPU.

CLIPS.npz holds float32 16 kHz samples by name. OUT.json maps each name to [[language, text], …]: as the model decides,
then with each of LANGUAGES forced, then with CONTEXT.

    python -m reference.oracle_transcripts CHECKPOINT CLIPS.npz OUT.json
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from qwen_asr import Qwen3ASRModel
from qwen_asr.core.transformers_backend import Qwen3ASRProcessor

from reference.activations import Array
from reference.clips import SAMPLE_RATE
from reference.corpus import CONTEXT, LANGUAGES
from reference.oracle_qwen_asr import attend_in_windows


def load(checkpoint: Path) -> Qwen3ASRModel:
    """The package has the end-of-sequence ids of the released vocabulary in its code, and swaps the pre-tokenizer of a
    local folder for Mistral's: here both are the checkpoint's own."""
    asr = Qwen3ASRModel.from_pretrained(str(checkpoint), dtype=torch.float32)
    asr.processor = Qwen3ASRProcessor.from_pretrained(checkpoint, fix_mistral_regex=False)
    ends = asr.processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    asr.model.generate = partial(asr.model.generate, eos_token_id=ends)
    attend_in_windows(asr.model.thinker.audio_tower)
    return asr


def transcripts(asr: Qwen3ASRModel, samples: Array) -> list[list[str]]:
    found = [asr.transcribe((samples, SAMPLE_RATE))]
    found += [asr.transcribe((samples, SAMPLE_RATE), language=language) for language in LANGUAGES]
    found += [asr.transcribe((samples, SAMPLE_RATE), context=CONTEXT)]
    return [[transcript.language, transcript.text] for (transcript,) in found]


def main(checkpoint: str, clips: str, out: str) -> None:
    asr = load(Path(checkpoint))
    with np.load(clips) as samples:
        found = {name: transcripts(asr, samples[name]) for name in samples}
    Path(out).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
