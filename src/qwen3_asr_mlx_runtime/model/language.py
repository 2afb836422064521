"""Chooses the language of a text among several, before the text is decoded.

The model itself begins with `language English<asr_text>`. The names that are allowed form a trie of tokens. Wherever
they part, their next tokens compete with each other alone.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple, cast

import mlx.core as mx

from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.generate import check_finite, prefill, prefill_prompt
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

NO_LANGUAGE = "None"  # as the model spells it

Names = Mapping[str, tuple[int, ...]]
"""Names of languages, and their tokens up to `<asr_text>`; none of them begins another."""


class LanguageChoice(NamedTuple):
    """The most probable of some names; None for NO_LANGUAGE.

    `logprobs`: of each language, natural logarithms; together with that of NO_LANGUAGE their probabilities add up to 1.
    `margin`: how much the logits of each pass have to change before another name wins.
    """

    language: str | None
    logprobs: dict[str, float]
    margin: float


class _Path(NamedTuple):
    """The log-probability of a name, and how many passes it took."""

    logprob: float
    passes: int


def choose_language(
    model: Qwen3ASR, prompt: mx.array, cache: Sequence[KVCache], blocks: Sequence[int], names: Names
) -> LanguageChoice:
    """Choose the name that follows the prompt (1, L, D). The cache, which may hold its beginning, then holds it all.
    `blocks` as in `generate`. Raises NonFiniteOutput where the logits are no numbers."""
    for layer in cache:
        layer.reserve(prompt.shape[1] + max(map(len, names.values())))
    paths = _paths(model, cache, prefill_prompt(model, prompt, cache, blocks), names, 0)
    best, *others = sorted(paths, key=lambda name: -paths[name].logprob)
    margin = min(_margin(paths[best], paths[other]) for other in others)
    logprobs = {name: path.logprob for name, path in paths.items() if name != NO_LANGUAGE}
    return LanguageChoice(None if best == NO_LANGUAGE else best, logprobs, margin)


def _margin(best: _Path, other: _Path) -> float:
    """For each pass of both; at least one is common to them."""
    return (best.logprob - other.logprob) / (best.passes + other.passes - 1)


def _paths(model: Qwen3ASR, cache: Sequence[KVCache], logits: mx.array, names: Names, depth: int) -> dict[str, _Path]:
    """`logits` (1, vocabulary) follow the first `depth` tokens, which all names share."""
    branches: dict[int, list[str]] = {}
    for name, ids in names.items():
        branches.setdefault(ids[depth], []).append(name)
    competing = logits[0, mx.array([*branches])].astype(mx.float32)
    logprobs = cast(list[float], (competing - mx.logsumexp(competing)).tolist())
    check_finite(max(logprobs), 0)
    paths: dict[str, _Path] = {}
    for logprob, members in zip(logprobs, branches.values(), strict=True):
        inner = {name: names[name] for name in members}
        below = _below(model, cache, inner, depth) if len(members) > 1 else {members[0]: _Path(0.0, 0)}
        paths |= {name: _Path(logprob + path.logprob, 1 + path.passes) for name, path in below.items()}
    return {name: paths[name] for name in names}


def _below(model: Qwen3ASR, cache: Sequence[KVCache], names: Names, depth: int) -> dict[str, _Path]:
    """The paths of several names that share more than the first `depth` tokens."""
    every, position = [*names.values()], cache[0].offset
    shared = next(end for end in count(depth + 1) if len({ids[end] for ids in every}) > 1)
    hidden = prefill(model, model.embed(every[0][depth:shared])[None], cache)
    paths = _paths(model, cache, model.head(hidden[0]), names, shared)
    for layer in cache:
        layer.rewind(position)
    return paths
