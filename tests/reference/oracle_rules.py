"""The rules of the qwen-asr package that are no activations: counts, epsilons, positions, grammar, prompts.

python -m reference.oracle_rules rules OUT.json
python -m reference.oracle_rules prompts TOKENIZER OUT.json
python -m reference.oracle_rules alignments TOKENIZER OUT.json
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from qwen_asr import Qwen3ASRModel, parse_asr_output
from qwen_asr.core.transformers_backend import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor
from qwen_asr.core.transformers_backend.modeling_qwen3_asr import (
    Qwen3ASRThinkerTextRotaryEmbedding,
    _get_feat_extract_output_lengths,
)
from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor
from qwen_asr.inference.utils import SUPPORTED_LANGUAGES, detect_and_fix_repetitions

from reference.configs import config_json
from reference.corpus import CONTEXTS, DEPARTURES, LOOPS, OUTPUTS
from reference.draws import uniform

LAST_FRAME_COUNT = 3_100
LAST_POSITION = 16_000
PROMPT_FRAMES = (2, 24, 101)


def rules() -> dict[str, Any]:
    return {
        "versions": versions(),
        "token_counts": token_counts(),
        "epsilons": epsilons(),
        "mrope": {"sections": [24, 20, 20], "theta": 1e6, **mrope()},
        "outputs": [[raw, forced, *parse_asr_output(raw, forced)] for raw, forced in OUTPUTS],
        "departures": [[raw, *parse_asr_output(raw)] for raw in DEPARTURES],
        "loops": [[text, detect_and_fix_repetitions(text)] for text in LOOPS],
    }


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("qwen-asr", "transformers", "torch")}


def token_counts() -> list[int]:
    """Of 1 … 3100 frames."""
    counts: list[int] = _get_feat_extract_output_lengths(torch.arange(1, LAST_FRAME_COUNT + 1)).tolist()
    return counts


def epsilons() -> dict[str, float]:
    """Of every norm of the tiny model, by name."""
    with torch.device("meta"):
        model = Qwen3ASRForConditionalGeneration(Qwen3ASRConfig(**config_json("tiny", "released", "float32")))
    found = {
        name: getattr(module, "eps", None) or getattr(module, "variance_epsilon", None)
        for name, module in model.thinker.named_modules()
    }
    return {name: epsilon for name, epsilon in found.items() if epsilon is not None}


def mrope() -> dict[str, Any]:
    """Angles of the interleaved rotary where the three rows differ, and how far it is from one-dimensional rotary where
    they do not."""
    config = Qwen3ASRConfig(**config_json("0.6b", "released", "float32")).thinker_config.text_config
    rotary = Qwen3ASRThinkerTextRotaryEmbedding(config)
    hidden = torch.zeros(1)
    rows = torch.arange(LAST_POSITION).expand(3, 1, -1)
    angles = rows[0, 0, :, None].float() * rotary.inv_freq
    cos, sin = (table[0, :, :64] for table in rotary(hidden, rows))
    uneven = torch.from_numpy(np.abs(uniform(0, "positions", 24).reshape(3, 1, 8) * 400).astype(np.int64))
    uneven_cos, uneven_sin = (table[0, :, :64] for table in rotary(hidden, uneven))
    return {
        "positions_compared": LAST_POSITION,
        "difference_from_rope": float(max((cos - angles.cos()).abs().max(), (sin - angles.sin()).abs().max())),
        "positions": uneven[:, 0].tolist(),
        "cos": uneven_cos.double().round(decimals=6).tolist(),
        "sin": uneven_sin.double().round(decimals=6).tolist(),
    }


def prompts(tokenizer: Path) -> dict[str, Any]:
    """Ids before the audio for each context, after it for each language. They are found on silent clips of several
    lengths, and asserted to be the same for every combination.

    The package would swap the pre-tokenizer of a local folder for Mistral's; the model was trained with Qwen2's.
    """
    processor = Qwen3ASRProcessor.from_pretrained(tokenizer, fix_mistral_regex=False)
    asr = Qwen3ASRModel("vllm", model=None, processor=processor)  # either backend; this one asks nothing of the model
    pad = processor.tokenizer.convert_tokens_to_ids(processor.audio_token)
    prefixes: dict[str, list[int]] = {}
    suffixes: dict[str, list[int]] = {}
    for context in CONTEXTS:
        for language in (None, *SUPPORTED_LANGUAGES):
            text = asr._build_text_prompt(context=context, force_language=language)
            for frames in PROMPT_FRAMES:
                ids = _input_ids(processor, text, frames)
                first, count = ids.index(pad), ids.count(pad)
                assert count == token_counts()[frames - 1]
                assert prefixes.setdefault(context, ids[:first]) == ids[:first]
                assert suffixes.setdefault(language or "", ids[first + count :]) == ids[first + count :]
    return {"versions": versions(), "audio_pad": pad, "prefixes": prefixes, "suffixes": suffixes}


def alignments(tokenizer: Path) -> dict[str, Any]:
    """The units that the package's aligner makes of each context, and the ids before and after the audio."""
    processor = Qwen3ASRProcessor.from_pretrained(tokenizer, fix_mistral_regex=False)
    aligner, pad = Qwen3ForceAlignProcessor(), processor.tokenizer.convert_tokens_to_ids(processor.audio_token)
    prompts = []
    for units, text in (aligner.encode_timestamp(context, "English") for context in CONTEXTS):
        ids = _input_ids(processor, text, PROMPT_FRAMES[0])
        first, count = ids.index(pad), ids.count(pad)
        if units:  # the package makes two marks of nothing
            prompts.append([units, ids[:first], ids[first + count :]])
    return {"versions": versions(), "audio_pad": pad, "prompts": prompts}


def _input_ids(processor: Any, text: str, frames: int) -> list[int]:
    silence = np.zeros(max(frames * 160, 201), dtype=np.float32)
    ids: list[int] = processor(text=[text], audio=[silence])["input_ids"][0]
    return ids


def main(kind: str, *paths: str) -> None:
    of_tokenizer = {"prompts": prompts, "alignments": alignments}
    found = of_tokenizer[kind](Path(paths[0])) if kind in of_tokenizer else rules()
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()]
    Path(paths[-1]).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
