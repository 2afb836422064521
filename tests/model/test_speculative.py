"""A draft changes how many forward passes there are, and not what is written."""

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import VOCABULARY, tiny_model

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.decoder import PREFILL_BLOCK
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.speculative import DraftResult, decode_with_draft

MODEL = tiny_model()
PROMPT = mx.random.normal((1, 20, 64), key=mx.random.key(3))
BUDGET = 30
WHOLE = [token.id for token in generate(MODEL, PROMPT, frozenset(), BUDGET)]
ids = st.integers(0, VOCABULARY - 1)


def verify(draft, eos_ids=frozenset(), budget=BUDGET, **options) -> tuple[DraftResult, int]:
    """What is written, and in how many forward passes."""
    steps = decode_with_draft(MODEL, PROMPT, MODEL.make_cache(PROMPT.shape[1]), draft, eos_ids, budget, **options)
    passes = 0
    while True:
        try:
            next(steps)
            passes += 1
        except StopIteration as end:
            return end.value, passes


def test_the_whole_draft_comes_out_again_in_one_pass():
    written, passes = verify(WHOLE)
    assert (written.ids, written.tokens[-1].finish_reason) == (WHOLE, "length")
    assert (passes, written.verified) == (1, len(WHOLE) - 1)  # the budget leaves no guess for the last


def test_without_a_draft_every_token_is_a_pass():
    written, passes = verify([])
    assert (written.ids, written.verified, passes) == (WHOLE, 0, BUDGET)


@settings(deadline=None, max_examples=40)
@given(draft=st.lists(ids, max_size=40), kept=st.integers(0, BUDGET))
def test_no_draft_changes_what_is_written(draft, kept):
    written, passes = verify(WHOLE[:kept] + draft)
    assert written.ids == WHOLE
    assert written.verified >= min(kept, BUDGET - 1)
    assert passes <= BUDGET - written.verified


@pytest.mark.parametrize(
    ("draft", "most"),
    [
        pytest.param([*WHOLE[:10], 1, *WHOLE[11:]], 4, id="substituted"),
        pytest.param([*WHOLE[:10], 1, 2, 3, *WHOLE[10:]], 3, id="inserted"),
        pytest.param(WHOLE[:10] + WHOLE[12:], 6, id="deleted"),
    ],
)
def test_a_draft_with_a_mistake_is_followed_again_behind_it(draft, most):
    written, passes = verify(draft)
    assert written.ids == WHOLE
    assert passes <= most


def test_a_draft_that_is_wrong_throughout_is_not_run_whole_again_and_again(monkeypatch):
    rows = []
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: rows.append(len(hidden)) or head(self, hidden))
    draft = [(id + 1) % VOCABULARY if place % 2 else id for place, id in enumerate(WHOLE)]
    written, passes = verify(draft)
    assert written.ids == WHOLE
    assert max(rows[1:]) <= 9
    assert passes <= BUDGET


def test_a_feed_and_a_guess_that_do_not_lie_in_one_block_of_the_prefill_are_refused():
    feed = mx.zeros((1, PREFILL_BLOCK - 10, 64))
    cache = MODEL.make_cache(PREFILL_BLOCK)
    with pytest.raises(ValueError, match="block"):
        next(decode_with_draft(MODEL, feed, cache, WHOLE[:20], frozenset(), BUDGET))
    assert cache[0].offset == 0
    next(decode_with_draft(MODEL, feed, cache, WHOLE[:10], frozenset(), BUDGET))


def test_the_end_is_verified_too():
    eos = WHOLE[12]
    expected = WHOLE[: WHOLE.index(eos) + 1]
    written, passes = verify(expected, frozenset([eos]))
    assert (written.ids, written.tokens[-1].finish_reason, passes) == (expected, "stop", 1)


def test_an_end_in_the_draft_is_not_forced():
    written, _ = verify([*WHOLE[:5], 639, 1, 2], frozenset([639]))
    assert written.ids == WHOLE


def test_a_small_margin_ends_it():
    written, _ = verify(WHOLE, margin=1e9)
    assert (written.low_margin, len(written.tokens)) == (True, 1)
    assert not verify(WHOLE, margin=1e-9)[0].low_margin


def test_a_small_margin_after_the_draft_ends_it_too():
    written, _ = verify([], margin=1e9)
    assert written.low_margin


def test_log_probabilities_are_those_of_single_steps():
    expected = [token.logprob for token in generate(MODEL, PROMPT, frozenset(), BUDGET, logprobs=True)]
    written, _ = verify(WHOLE, logprobs=True)
    assert [token.logprob for token in written.tokens] == pytest.approx(expected, abs=1e-4)


def test_logits_that_are_no_numbers_raise(monkeypatch):
    monkeypatch.setattr(Qwen3ASR, "head", lambda _, hidden: mx.full((len(hidden), VOCABULARY), mx.nan))
    with pytest.raises(NonFiniteOutput):
        verify(WHOLE)


def test_a_loop_ends_as_it_does_without_a_draft(monkeypatch):
    monkeypatch.setattr(
        Qwen3ASR, "head", lambda _, hidden: mx.broadcast_to(mx.arange(VOCABULARY) * 1.0, (len(hidden), VOCABULARY))
    )
    expected = [(token.id, token.finish_reason) for token in generate(MODEL, PROMPT, frozenset(), 60)]
    written, _ = verify([VOCABULARY - 1] * 50, budget=60)
    assert [(token.id, token.finish_reason) for token in written.tokens] == expected
    assert written.tokens[-1].finish_reason == "repetition"
