"""Decoding with a draft (draft verification): the earlier text runs through the decoder in one forward pass, and only
tokens that the model chooses again are accepted.

No token is forced: each is the most likely one after those before it. The products are wider than those of a single
step, so the last bits of a logit may differ. If that could change the result, decoding ends with `low_margin`.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.generate import NextTokens, Token, check_finite, finish_reason, prefill
from qwen3_asr_mlx_runtime.model.language import LanguageChoice
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.terms import Bonuses, TermTrie

_MAX_GUESS = 512  # tokens in one forward pass; with a window of audio before them still one block of the prefill
_REACH = 8  # how far ahead in the draft an unexpected token is searched, and how many tokens are guessed after it


@dataclass(slots=True)
class DraftResult:
    """`verified`: how many tokens were in the draft. `low_margin`: the margin of the last token, or of the language,
    was too small. `choice`: of the language, if it was chosen before."""

    tokens: list[Token] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    verified: int = 0
    low_margin: bool = False
    choice: LanguageChoice | None = None

    @property
    def has_ended(self) -> bool:
        return self.low_margin or (bool(self.tokens) and self.tokens[-1].finish_reason is not None)


class Draft:
    """The earlier text, and the position up to which it was followed.

    At first the guess is all of it. After a mismatch the guess is short, and doubles each time that it is right. So a
    draft that is wrong throughout costs only a few rows for each token.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        self._next = 0
        self._lost = 0  # tokens since the last match
        self._width = _MAX_GUESS

    def guess(self) -> Sequence[int]:
        """The tokens expected next."""
        return () if self._lost else self._ids[self._next : self._next + self._width]

    def follow(self, accepted: int, token: int) -> None:
        """`accepted` tokens of the guess were right, and then `token` came: continue after it, if it is near."""
        guessed = len(self.guess())
        self._next += accepted
        near = self._ids[self._next : self._next + _REACH + self._lost]
        if guessed:
            self._width = min(2 * self._width, _MAX_GUESS) if accepted == guessed else _REACH
        if token in near:
            self._next += near.index(token) + 1
            self._lost = 0
        else:
            self._lost += 1


def decode_with_draft(
    model: Qwen3ASR,
    prompt: mx.array,
    cache: Sequence[KVCache],
    draft: Sequence[int],
    eos_ids: frozenset[int],
    max_new_tokens: int,
    *,
    margin: float = 0.0,
    logprobs: bool = False,
    terms: TermTrie | None = None,
) -> Generator[None, None, DraftResult]:
    """Decode greedily from embeddings (1, L, D) that follow the cache; `terms` gain their bonuses. Yields after
    starting each forward pass.

    A token whose logit is less than `margin` above the second ends it with `low_margin`. Otherwise it ends, and raises
    NonFiniteOutput, as `generate` does.
    """
    result, following, feed = DraftResult(), Draft(draft), prompt
    while True:
        guess = following.guess()[: max_new_tokens - len(result.tokens) - 1]
        position = cache[0].offset + feed.shape[1]
        for layer in cache:
            layer.reserve(position + len(guess))
        bonuses = [] if terms is None else _bonuses(terms, result.ids, guess)
        choice = _choose(model, feed, guess, cache, bonuses, margins=margin > 0, logprobs=logprobs)
        yield
        accepted = _accept(result, choice, guess, eos_ids, max_new_tokens, margin)
        for layer in cache:
            layer.rewind(position + accepted)
        if result.has_ended:
            return result
        following.follow(accepted, result.tokens[-1].id)
        feed = model.embed(result.ids[-1:])[None]


def _bonuses(terms: TermTrie, ids: Sequence[int], guess: Sequence[int]) -> list[Bonuses]:
    """Behind `ids`, and behind each of `guess`."""
    written = [*ids, *guess]
    return [terms.bonuses(written[:count]) for count in range(len(ids), len(written) + 1)]


def _choose(
    model: Qwen3ASR,
    feed: mx.array,
    guess: Sequence[int],
    cache: Sequence[KVCache],
    bonuses: Sequence[Bonuses],
    *,
    margins: bool,
    logprobs: bool,
) -> NextTokens:
    """The tokens that follow the last of `feed`, and each of `guess`."""
    embeddings = mx.concatenate([feed, model.embed(guess)[None]], axis=1) if guess else feed
    hidden = prefill(model, embeddings, cache, 1 + len(guess))
    return NextTokens.among(model.head(hidden[0]), bonuses, margins=margins, logprobs=logprobs)


def _accept(
    result: DraftResult,
    choice: NextTokens,
    guess: Sequence[int],
    eos_ids: frozenset[int],
    max_tokens: int,
    margin: float,
) -> int:
    """Append the chosen tokens as long as they match the guess, and one more. Returns how many match."""
    accepted = 0
    for read in choice.read():
        check_finite(read.logit, len(result.tokens))
        result.ids.append(read.token)
        reason = finish_reason(result.ids, eos_ids, len(result.ids) >= max_tokens)
        result.tokens.append(Token(read.token, read.logprob, reason))
        result.low_margin = read.margin is not None and read.margin < margin
        if accepted == len(guess) or guess[accepted] != read.token:
            break
        accepted += 1
        result.verified += 1
        if result.has_ended:
            break
    return accepted
