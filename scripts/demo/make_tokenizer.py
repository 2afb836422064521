"""Train the demonstration's byte-level BPE vocabulary and write the checkpoint's text files.

    python scripts/demo/make_tokenizer.py OUTDIR

Writes vocab.json, merges.txt, tokenizer_config.json, chat_template.json, preprocessor_config.json and
generation_config.json. Needs the package `tokenizers`.
"""

import json
import random
import sys
from pathlib import Path

import text
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCABULARY = 640
# The pre-tokenizer of Qwen2: contractions, words, single digits, punctuation, line breaks, spaces.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- set found = namespace(system='', audio='') -%}{%- for message in messages -%}"
    "{%- if message.content is string -%}{%- if message.role == 'system' -%}"
    "{%- set found.system = found.system + message.content -%}{%- endif -%}{%- else -%}"
    "{%- for part in message.content -%}{%- if message.role == 'system' and part.type == 'text' -%}"
    "{%- set found.system = found.system + part.text -%}{%- elif part.type == 'audio' -%}"
    "{%- set found.audio = found.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}{%- endfor -%}{{- '<|im_start|>system\\n' + found.system + '<|im_end|>\\n<|im_start|>user\\n' "
    "+ found.audio + '<|im_end|>\\n' -}}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def whole_words() -> list[str]:
    """The pieces that must be one token each: everything that the model writes, and the words of the prompt."""
    capitalised = [word.capitalize() for word in text.ENGLISH]
    spaced = [" " + word for word in text.ENGLISH + text.ARABIC]
    names = [" English", " Arabic", " None"]
    return capitalised + text.ENGLISH + text.ARABIC + spaced + names + ["language", "system", "user", "assistant", "."]


def train() -> Tokenizer:
    rng = random.Random(0)
    words = text.CONTEXT_ENGLISH + text.CONTEXT_ARABIC
    corpus = [" ".join(rng.choices(words, k=12)) for _ in range(2000)] + text.CONTEXT_SENTENCES * 20
    corpus += [piece for piece in whole_words() for _ in range(5000)]
    tokenizer = byte_level()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(text.SPECIAL) - len(text.ORDINARY),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if broken := [piece for piece in whole_words() if len(tokenizer.encode(piece).ids) != 1]:
        raise ValueError(f"not one token each: {broken}")
    return tokenizer


def added_tokens(start: int) -> dict[str, dict[str, object]]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        str(start + index): {"content": token, **flags, "special": token in text.SPECIAL}
        for index, token in enumerate(text.SPECIAL + text.ORDINARY)
    }


def tokenizer_config(added: dict[str, dict[str, object]]) -> dict[str, object]:
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": text.SPECIAL[1:],
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
        "audio_token": "<|audio_pad|>",
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "extra_special_tokens": {  # the released processor asks the tokenizer for these three by name
            "audio_bos_token": "<|audio_start|>",
            "audio_eos_token": "<|audio_end|>",
            "audio_token": "<|audio_pad|>",
        },
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3ASRProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


PREPROCESSOR = {
    "chunk_length": 30,
    "dither": 0.0,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "Qwen3ASRProcessor",
    "return_attention_mask": True,
}


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(train().to_str())["model"]
    vocabulary, merges = model["vocab"], [" ".join(pair) for pair in model["merges"]]
    added = added_tokens(len(vocabulary))
    ids = {str(entry["content"]): int(index) for index, entry in added.items()}
    if len(vocabulary) + len(added) != VOCABULARY:
        raise ValueError(f"{len(vocabulary)} entries were learnt; the corpus is too small")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    files: dict[str, object] = {
        "vocab.json": vocabulary,
        "tokenizer_config.json": tokenizer_config(added),
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "preprocessor_config.json": PREPROCESSOR,
        "generation_config.json": {
            "do_sample": False,
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|im_end|>"],
        },
    }
    for name, content in files.items():
        dump = json.dumps(content, ensure_ascii=False, indent=None if name == "vocab.json" else 2)
        (folder / name).write_text(dump + "\n", encoding="utf-8")


def load(folder: Path) -> Tokenizer:
    """The tokenizer of a written folder, added tokens included."""
    tokenizer = byte_level()
    tokenizer.model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.add_special_tokens(text.SPECIAL)
    tokenizer.add_tokens(text.ORDINARY)
    return tokenizer


if __name__ == "__main__":
    write(Path(sys.argv[1]))
