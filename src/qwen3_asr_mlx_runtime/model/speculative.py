"""Decoding with a draft: what was written before is run again in one forward pass, and only what comes out again is
accepted.

No token is forced: each is the most likely one after those before it. The products are wider than those of a single
step, so the last bits of a logit may differ; where that could matter, `margin` ends it.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.generate import Choice, Token, check_finite, finish_reason, prefill
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

_LONGEST_GUESS = 512  # tokens in one forward pass; with a window of audio before them still one block of the prefill
_REACH = 8  # how far ahead in the draft a token is looked for that was not expected, and how much is expected behind it


@dataclass(slots=True)
class DraftResult:
    """`verified` of the tokens were in the draft. `low_margin`: the margin of the last was too small."""

    tokens: list[Token] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    verified: int = 0
    low_margin: bool = False

    @property
    def has_ended(self) -> bool:
        return self.low_margin or (bool(self.tokens) and self.tokens[-1].finish_reason is not None)


class Draft:
    """What was written before, and how far it has been followed.

    All of it is expected at first. Behind a mistake only little is, and twice as much each time that it comes: a draft
    that is wrong throughout costs no more than a few rows for each token.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        self._next = 0
        self._lost = 0  # tokens since it was last followed
        self._width = _LONGEST_GUESS

    def guess(self) -> Sequence[int]:
        """The tokens that are expected to come next."""
        return () if self._lost else self._ids[self._next : self._next + self._width]

    def follow(self, accepted: int, token: int) -> None:
        """So many of the guess were right, and then `token` came: go on behind it, if it is near."""
        guessed = len(self.guess())
        self._next += accepted
        near = self._ids[self._next : self._next + _REACH + self._lost]
        if guessed:
            self._width = min(2 * self._width, _LONGEST_GUESS) if accepted == guessed else _REACH
        if token in near:
            self._next += near.index(token) + 1
            self._lost = 0
        else:
            self._lost += 1


def write(
    model: Qwen3ASR,
    prompt: mx.array,
    cache: Sequence[KVCache],
    draft: Sequence[int],
    eos_ids: frozenset[int],
    max_new_tokens: int,
    *,
    margin: float = 0.0,
    logprobs: bool = False,
) -> Generator[None, None, DraftResult]:
    """Decode greedily from embeddings (1, L, D) that follow the cache. Yields after each forward pass was begun.

    A token whose logit is not at least `margin` above the second ends it: `low_margin`. Ends otherwise as `generate`
    does, and raises NonFiniteOutput as it does.
    """
    written, following, feed = DraftResult(), Draft(draft), prompt
    while True:
        guess = following.guess()[: max_new_tokens - len(written.tokens) - 1]
        place = cache[0].offset + feed.shape[1]
        for layer in cache:
            layer.reserve(place + len(guess))
        choice = _choose(model, feed, guess, cache, margins=margin > 0, logprobs=logprobs)
        yield
        accepted = _accept(written, choice, guess, eos_ids, max_new_tokens, margin)
        for layer in cache:
            layer.rewind(place + accepted)
        if written.has_ended:
            return written
        following.follow(accepted, written.tokens[-1].id)
        feed = model.embed(written.ids[-1:])[None]


def _choose(
    model: Qwen3ASR, feed: mx.array, guess: Sequence[int], cache: Sequence[KVCache], *, margins: bool, logprobs: bool
) -> Choice:
    """What follows the last of `feed`, and each of `guess`."""
    embeddings = mx.concatenate([feed, model.embed(guess)[None]], axis=1) if guess else feed
    hidden = prefill(model, embeddings, cache, 1 + len(guess))
    return Choice.among(model.head(hidden[0]), margins=margins, logprobs=logprobs)


def _accept(
    written: DraftResult, choice: Choice, guess: Sequence[int], eos_ids: frozenset[int], most: int, margin: float
) -> int:
    """Write what was chosen as long as it was guessed, and one token more. Returns how many were guessed."""
    accepted = 0
    for read in choice.read():
        check_finite(read.logit, len(written.tokens))
        written.ids.append(read.token)
        reason = finish_reason(written.ids, eos_ids, len(written.ids) >= most)
        written.tokens.append(Token(read.token, read.logprob, reason))
        written.low_margin = read.margin is not None and read.margin < margin
        if accepted == len(guess) or guess[accepted] != read.token:
            break
        accepted += 1
        written.verified += 1
        if written.has_ended:
            break
    return accepted
