"""The chat prompt around the audio: prefix ids, a run of audio placeholders, suffix ids.

    <|im_start|>system⏎{context}<|im_end|>⏎<|im_start|>user⏎<|audio_start|> <|audio_pad|>×T <|audio_end|><|im_end|>⏎
    <|im_start|>assistant⏎[language [{name}<asr_text>]]

The system turn is always there, also when the context is empty. With a forced language the model writes only the text.
Where the language is chosen among several, the prompt ends before its name.

The aligner has no turns. Two marks stand behind each unit, for its start and its end:

    <|audio_start|> <|audio_pad|>×T <|audio_end|>{unit}<timestamp><timestamp>{unit}<timestamp><timestamp>…
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from qwen3_asr_mlx_runtime.model.language import NO_LANGUAGE, Names
from qwen3_asr_mlx_runtime.model.terms import TermTrie, WeightedIds
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.terms import Term


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids before and after the audio of an utterance. `names`: what has to follow, if a language is to be chosen
    among several. `terms`: those of the text, if there are some."""

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    audio_token_id: int
    names: Names = field(default_factory=dict)
    terms: TermTrie | None = None

    def input_ids(self, audio_tokens: int) -> list[int]:
        """The whole prompt with `audio_tokens` placeholders in its middle."""
        return [*self.prefix_ids, *[self.audio_token_id] * audio_tokens, *self.suffix_ids]

    def length(self, audio_tokens: int) -> int:
        """Positions of the whole prompt and of the longest of the names."""
        longest_name = max(map(len, self.names.values()), default=0)
        return len(self.prefix_ids) + audio_tokens + len(self.suffix_ids) + longest_name


class PromptBuilder:
    """Builds prompts, and caches those of the last 64 contexts, languages and terms."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.build = lru_cache(maxsize=64)(self._build)

    def _build(
        self, context: str, language: str | None, languages: tuple[str, ...] = (), terms: tuple[Term, ...] = ()
    ) -> Prompt:
        """`language` is a canonical name, or None for the model to decide, if need be among `languages`. Control tokens
        in the context stay plain text."""
        control, text = self._tokenizer.token_id, self._tokenizer.encode
        context = _encodable(context)
        turn, end = control("<|im_start|>"), control("<|im_end|>")
        newline = text("\n")
        prefix = [turn, *text("system\n" + context), end, *newline, turn, *text("user\n"), control("<|audio_start|>")]
        suffix = [control("<|audio_end|>"), end, *newline, turn]
        names: dict[str, tuple[int, ...]] = {}
        if language is not None:
            suffix += [*text(f"assistant\nlanguage {language}"), control("<asr_text>")]
        elif languages:
            suffix += text("assistant\nlanguage")
            names = {name: (*text(f" {name}"), control("<asr_text>")) for name in (*languages, NO_LANGUAGE)}
        else:
            suffix += text("assistant\n")
        begins = None if language is not None or languages else control("<asr_text>")
        return Prompt(tuple(prefix), tuple(suffix), control("<|audio_pad|>"), names, self._trie(terms, begins))

    def _trie(self, terms: Sequence[Term], begins: int | None) -> TermTrie | None:
        """Of each term, as it stands behind a space, and without one."""
        spelled = [(_encodable(term.text).strip(), term.weight) for term in terms if term.weight]
        paths = [
            WeightedIds(tuple(self._tokenizer.encode(space + text)), weight)
            for text, weight in spelled
            for space in ("", " ")
        ]
        return TermTrie(paths, begins) if paths else None


def _encodable(text: str) -> str:
    """JSON may carry half a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def aligner_prompt(tokenizer: Tokenizer, units: Sequence[str]) -> Prompt:
    """The aligner's prompt for the units of a text, each encoded on its own. Nothing else may stand before the audio:
    one token there moves most marks. Raises ModelUnsupported if the vocabulary lacks a token."""
    mark = tokenizer.token_id("<timestamp>")
    suffix = [tokenizer.token_id("<|audio_end|>")]
    for unit in units:
        suffix += [*tokenizer.encode(unit), mark, mark]
    return Prompt((tokenizer.token_id("<|audio_start|>"),), tuple(suffix), tokenizer.token_id("<|audio_pad|>"))
