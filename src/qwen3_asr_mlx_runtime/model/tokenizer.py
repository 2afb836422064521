"""Text ↔ token ids: the byte-level BPE of Qwen2 with the control tokens kept apart.

`encode` cannot yield a control token, whatever the text holds; control tokens are placed by name through `token_id`.
The pre-tokenizer is always Qwen2's, from whichever files the vocabulary comes.
"""

import codecs
import json
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BytePairTokenizer
from tokenizers.models import BPE

from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import ModelConfig

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Tokenizer:
    """Created by `from_folder`. `added` maps each added token to its id; decoding omits those in `special`."""

    def __init__(self, bpe: BPE, added: dict[str, int], special: frozenset[int]) -> None:
        self._tokenizer = BytePairTokenizer(bpe)
        self._tokenizer.normalizer = normalizers.NFC()
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self._tokenizer.decoder = decoders.ByteLevel()
        self._added = added
        self._literal = {id: text for text, id in added.items() if id not in special}
        self._special = special

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read tokenizer.json, where there is one, or vocab.json, merges.txt and tokenizer_config.json.

        Raises ModelIncomplete if both are incomplete, ModelCorrupt if one cannot be read.
        """
        try:
            if (folder / "tokenizer.json").exists():
                return cls(*_from_tokenizer_json(folder))
            return cls(*_from_vocabulary_files(folder))
        except FileNotFoundError as error:
            missing = Path(str(error.filename)).name
            raise ModelIncomplete(f"the tokenizer file {missing} is missing", missing=[missing]) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelCorrupt("the tokenizer files cannot be read") from error

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; text that looks like a control token is encoded as ordinary tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def token_id(self, name: str) -> int:
        """The id of a control token. Raises ModelUnsupported if the vocabulary lacks it."""
        try:
            return self._added[name]
        except KeyError:
            raise ModelUnsupported(f"the tokenizer has no token {name}", field="tokenizer_config.json") from None

    def check_ids(self, config: ModelConfig) -> None:
        """Raises ModelUnsupported if `config` gives a control token another id, or has no embeddings for all ids."""
        for field, token in config.tokens.items():
            if self.token_id(token) != getattr(config, field):
                raise ModelUnsupported(f"{field} is not the tokenizer's {token}", field=field)
        if self.size > config.text.vocab_size:
            message = f"the tokenizer has {self.size} ids, the model embeddings for {config.text.vocab_size}"
            raise ModelUnsupported(message, field="vocab_size")

    @property
    def eos_ids(self) -> frozenset[int]:
        """The two tokens that end a transcript."""
        return frozenset({self.token_id("<|im_end|>"), self.token_id("<|endoftext|>")})

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self._tokenizer.get_vocab_size(), 1 + max(self._added.values(), default=-1))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens left out, other added tokens (`<asr_text>`) spelled as they are.

        Bytes that are no valid UTF-8 become U+FFFD.
        """
        text, plain = "", list[int]()
        for id in ids:
            if id in self._literal:
                text += self._tokenizer.decode(plain) + self._literal[id]
                plain.clear()
            elif id not in self._special:
                plain.append(id)
        return text + self._tokenizer.decode(plain)

    def ends(self, ids: Iterable[int]) -> list[int | None]:
        """Where in `decode(ids)` the text of each id ends, in code points; if it ends within one, behind that. None for
        a special token."""
        ends, written, decoder = list[int | None](), 0, codecs.getincrementaldecoder("utf-8")("replace")
        for id in ids:
            if id in self._literal:
                written += len(decoder.decode(b"", final=True)) + len(self._literal[id])
            elif id not in self._special:
                written += len(decoder.decode(self._bytes(id)))
            ends.append(None if id in self._special else written + bool(decoder.getstate()[0]))
        return ends

    def _bytes(self, id: int) -> bytes:
        token, values = self._tokenizer.id_to_token(id) or "", _byte_values()
        return bytes(values[character] for character in token)


@cache
def _byte_values() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: printable Latin-1 for itself, the rest in order
    from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(0x100) if value not in printable]
    return {chr(value): value for value in printable} | {chr(0x100 + i): value for i, value in enumerate(others)}


_Parts = tuple[BPE, dict[str, int], frozenset[int]]


def _from_vocabulary_files(folder: Path) -> _Parts:
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    tokens = [{**token, "id": int(id)} for id, token in config["added_tokens_decoder"].items()]
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).exists():
            raise FileNotFoundError(2, "missing", name)
    bpe = _parsed_vocabulary(partial(BPE.from_file, str(folder / "vocab.json"), str(folder / "merges.txt")))
    return bpe, *_added_tokens(tokens)


def _from_tokenizer_json(folder: Path) -> _Parts:
    content = json.loads((folder / "tokenizer.json").read_bytes())
    model = content["model"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    merges = [(left, right) for left, right in pairs]
    return _parsed_vocabulary(partial(BPE, vocab=model["vocab"], merges=merges)), *_added_tokens(
        content["added_tokens"]
    )


def _parsed_vocabulary(build: Callable[[], BPE]) -> BPE:
    try:
        return build()
    except Exception as error:  # the library raises bare Exception for what it cannot parse
        raise ValueError("vocabulary or merges") from error


def _added_tokens(tokens: list[dict[str, Any]]) -> tuple[dict[str, int], frozenset[int]]:
    added = {token["content"]: token["id"] for token in tokens}
    return added, frozenset(token["id"] for token in tokens if token["special"])
