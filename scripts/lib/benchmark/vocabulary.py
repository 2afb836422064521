"""A tokenizer in the released layout for benchmark checkpoints: the real ids, and tokens without meaning.

The words of the chat prompt and of a text to align are few tokens each, as in the released vocabulary, so that prompts
are as long.
"""

import json
from collections.abc import Iterator
from pathlib import Path

# To align.
TEXT = "Please bring the notes about our last visit and keep some room for questions from all who join"
FIRST_SPECIAL = 151_643
SPECIAL = {
    151_643: "<|endoftext|>",
    151_644: "<|im_start|>",
    151_645: "<|im_end|>",
    151_669: "<|audio_start|>",
    151_670: "<|audio_end|>",
    151_676: "<|audio_pad|>",
}
LITERAL = {151_704: "<asr_text>", 151_705: "<timestamp>"}
WORDS = ("system", "user", "assistant", *TEXT.split())


def write_tokenizer(folder: Path) -> Path:
    """vocab.json, merges.txt and tokenizer_config.json in `folder`; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = list(dict.fromkeys(_merges()))
    tokens = [*_byte_symbols(), *(left + right for left, right in merges)]
    tokens += [f"{i:x}-" for i in range(len(tokens), FIRST_SPECIAL)]
    added = {str(id): _added(text, special=id in SPECIAL) for id, text in sorted((SPECIAL | LITERAL).items())}
    config = {"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}
    (folder / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("".join(f"{left} {right}\n" for left, right in merges), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def _merges() -> Iterator[tuple[str, str]]:
    for word in WORDS:
        for length in range(1, len(word)):
            yield word[:length], word[length]


def _byte_symbols() -> Iterator[str]:
    """The 256 characters that stand for bytes in byte-level BPE: printable ones for themselves, others from U+0100."""
    others = 0x100
    for byte in range(256):
        if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte:
            yield chr(byte)
        else:
            yield chr(others)
            others += 1


def _added(text: str, *, special: bool) -> dict[str, object]:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": text, **flags, "special": special}
