import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import EOS, tiny_model

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.generate import NextTokens, generate

MODEL = tiny_model()
PROMPT = MODEL.embed(list(range(30)))[None]
NO_EOS: frozenset[int] = frozenset()


def greedy_without_cache(count: int) -> list[int]:
    """The tokens by definition: the whole sequence run again for each of them."""
    prompt, ids = PROMPT, []
    for _ in range(count):
        ids.append(mx.argmax(MODEL.logits(prompt, MODEL.make_cache(prompt.shape[1]))).item())
        prompt = mx.concatenate([prompt, MODEL.embed(ids[-1:])[None]], axis=1)
    return ids


def test_tokens_are_the_greedy_ones():
    expected = greedy_without_cache(24)
    assert len(set(expected)) > 8, "the weights must not repeat one token: a broken cache would pass"
    assert [token.id for token in generate(MODEL, PROMPT, NO_EOS, 24)] == expected


def test_log_probabilities_are_those_of_the_logits():
    logits = MODEL.logits(PROMPT, MODEL.make_cache(30))
    expected = (logits.max() - mx.logsumexp(logits)).item()
    assert next(generate(MODEL, PROMPT, NO_EOS, 4, logprobs=True)).logprob == pytest.approx(expected, abs=1e-5)
    assert next(generate(MODEL, PROMPT, NO_EOS, 4)).logprob is None


@settings(deadline=None)
@given(
    width=st.sampled_from([2, 3, 127, 128, 129, 640, 1024]),
    distinct=st.integers(1, 2000),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([mx.float32, mx.bfloat16]),
)
def test_a_choice_with_margins_is_the_first_of_the_largest_and_its_distance_from_the_next(
    width: int, distinct: int, seed: int, dtype: mx.Dtype
) -> None:
    logits = mx.array(np.random.default_rng(seed).integers(-distinct, distinct, (5, width))).astype(dtype)
    rows = np.array(logits.astype(mx.float32))
    choice = NextTokens.among(logits, margins=True)
    assert choice.tokens.tolist() == rows.argmax(axis=1).tolist()
    *_, second, first = np.sort(rows, axis=1).T
    assert choice.logits.tolist() == first.tolist()
    assert choice.margins.tolist() == (first - second).tolist()


@pytest.mark.parametrize("place", [0, 200, 639])
def test_a_choice_with_margins_passes_a_nan_on(place: int) -> None:
    logits = mx.zeros((2, 640))
    logits[1, place] = mx.nan
    well, ill = NextTokens.among(logits, margins=True).read()
    assert (well.logit, well.margin) == (0.0, 0.0)
    assert math.isnan(ill.logit)


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_the_budget_ends_generation_with_length(budget):
    tokens = list(generate(MODEL, PROMPT, NO_EOS, budget))
    assert len(tokens) == budget
    assert [token.finish_reason for token in tokens] == [None] * (budget - 1) + ["length"]


@pytest.mark.parametrize("position", [0, 1, 5])
def test_either_eos_token_ends_generation_with_stop(position):
    expected = greedy_without_cache(6)
    first = expected.index(expected[position])
    tokens = list(generate(MODEL, PROMPT, frozenset({EOS, expected[position]}), 24))
    assert [token.id for token in tokens] == expected[: first + 1]
    assert tokens[-1].finish_reason == "stop"


def test_an_eos_token_on_the_last_of_the_budget_is_a_stop():
    expected = greedy_without_cache(1)
    assert next(generate(MODEL, PROMPT, frozenset(expected), 1)).finish_reason == "stop"


def test_a_loop_ends_generation_with_repetition():
    model = tiny_model()
    for layer in model.model.layers:  # no layer adds anything, so the token that fed the last step decides the next
        layer.self_attn.o_proj.weight *= 0
        layer.mlp.down_proj.weight *= 0
    tokens = list(generate(model, PROMPT, NO_EOS, 500))
    assert tokens[-1].finish_reason == "repetition"
    assert len(tokens) < 500


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(poison):
    model = tiny_model()
    model.model.norm.weight = mx.full(model.model.norm.weight.shape, poison)
    with pytest.raises(NonFiniteOutput, match="token 0"):
        next(generate(model, PROMPT, NO_EOS, 8))


def test_a_long_prompt_in_blocks_gives_the_same_tokens(monkeypatch):
    whole = [token.id for token in generate(MODEL, PROMPT, NO_EOS, 8)]
    monkeypatch.setattr("qwen3_asr_mlx_runtime.model.generate.PREFILL_BLOCK", 7)
    assert [token.id for token in generate(MODEL, PROMPT, NO_EOS, 8)] == whole
