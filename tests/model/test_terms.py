"""Terms gain their bonuses by definition: alone, in a batch, and behind a draft."""

import math

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import VOCABULARY, tiny_model

from qwen3_asr_mlx_runtime.model import generate as generate_module
from qwen3_asr_mlx_runtime.model.batch import Batch, Row
from qwen3_asr_mlx_runtime.model.decoder import Uncached
from qwen3_asr_mlx_runtime.model.generate import NextTokens, Token, generate
from qwen3_asr_mlx_runtime.model.speculative import DraftResult, decode_with_draft
from qwen3_asr_mlx_runtime.model.terms import TermTrie, WeightedIds

MODEL = tiny_model()
PROMPT = MODEL.embed(list(range(30)))[None]
NO_EOS: frozenset[int] = frozenset()
BUDGET = 16
PLAIN = [token.id for token in generate(MODEL, PROMPT, NO_EOS, BUDGET)]
WEIGHT = 3.0


def trie(*terms: tuple[tuple[int, ...], float], begins: int | None = None) -> TermTrie:
    return TermTrie([WeightedIds(*term) for term in terms], begins)


def random_terms(seed: int) -> list[tuple[tuple[int, ...], float]]:
    """So many that the text of the tiny model changes."""
    drawn = mx.random.randint(0, VOCABULARY, (60, 3), key=mx.random.key(seed)).tolist()
    return [(tuple(ids[: 1 + number % 3]), 1 + number % 4) for number, ids in enumerate(drawn)]


class TestBonuses:
    def test_the_first_token_of_each_term_gains_its_weight(self) -> None:
        assert trie(((5, 6), 2.0), ((7,), 1.0)).bonuses([]) == {5: 2.0, 7: 1.0}

    def test_a_term_that_has_begun_gains_twice_and_one_that_was_left_does_not(self) -> None:
        terms = trie(((5, 6, 7), 2.0))
        assert terms.bonuses([1, 5]) == {5: 2.0, 6: 4.0}
        assert terms.bonuses([1, 5, 6]) == {5: 2.0, 7: 4.0}
        assert terms.bonuses([1, 5, 6, 7]) == {5: 2.0}
        assert terms.bonuses([1, 5, 8]) == {5: 2.0}

    def test_no_token_gains_more_than_4(self) -> None:
        assert trie(((5, 6), 2.5)).bonuses([5]) == {5: 2.5, 6: 4.0}

    def test_of_two_bonuses_of_a_token_the_larger_counts(self) -> None:
        terms = trie(((5, 6), 1.0), ((5, 7), 1.5), ((6,), 0.5), ((8, 5, 9), 1.0))
        assert terms.bonuses([]) == {5: 1.5, 6: 0.5, 8: 1.0}
        assert terms.bonuses([8]) == {5: 2.0, 6: 0.5, 8: 1.0}
        assert terms.bonuses([8, 5]) == {5: 1.5, 6: 2.0, 7: 3.0, 8: 1.0, 9: 2.0}

    def test_terms_that_overlap_go_on_side_by_side(self) -> None:
        terms = trie(((5, 5, 6), 1.0))
        assert terms.bonuses([5, 5]) == {5: 2.0, 6: 2.0}
        assert terms.bonuses([5, 5, 5]) == {5: 2.0, 6: 2.0}

    def test_nothing_gains_before_the_text_begins(self) -> None:
        terms = trie(((5, 6), 2.0), begins=9)
        assert terms.bonuses([]) == terms.bonuses([5]) == {}
        assert terms.bonuses([5, 9]) == {5: 2.0}
        assert terms.bonuses([4, 9, 5]) == {5: 2.0, 6: 4.0}


def logits_behind(ids: list[int]) -> mx.array:
    text = MODEL.embed(ids)[None] if ids else PROMPT[:, :0]
    caches = [Uncached(1)] * len(MODEL.model.layers)
    return MODEL.head(MODEL.model(mx.concatenate([PROMPT, text], axis=1), caches)[:, -1])[0]


def by_definition(terms: TermTrie, count: int) -> list[tuple[int, float, float]]:
    """Tokens, their log-probabilities and margins: whole forward passes, and plain arithmetic."""
    ids, found = [], []
    for _ in range(count):
        logits = logits_behind(ids).tolist()
        scores = [logit + terms.bonuses(ids).get(id, 0.0) for id, logit in enumerate(logits)]
        second, best = sorted(scores)[-2:]
        ids.append(scores.index(best))
        normaliser = math.log(sum(map(math.exp, logits)))
        found.append((ids[-1], logits[ids[-1]] - normaliser, best - second))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_tokens_have_the_largest_sums_and_unbiased_log_probabilities(seed: int) -> None:
    terms = trie(*random_terms(seed))
    expected = by_definition(terms, BUDGET)
    tokens = [*generate(MODEL, PROMPT, NO_EOS, BUDGET, logprobs=True, terms=terms)]
    assert [token.id for token in tokens] == [id for id, _, _ in expected]
    assert [token.id for token in tokens] != PLAIN
    assert [token.logprob for token in tokens] == pytest.approx([each for _, each, _ in expected], abs=1e-3)
    assert tokens[-1].finish_reason == "length"


def test_margins_are_those_of_the_sums() -> None:
    terms = trie(*random_terms(1))
    for count in (0, 4):
        ids = [id for id, _, _ in by_definition(terms, count)]
        choice = NextTokens.among(logits_behind(ids)[None], [terms.bonuses(ids)], margins=True)
        [read] = choice.read()
        assert read.margin == pytest.approx(by_definition(terms, count + 1)[-1][2], abs=1e-4)


def test_a_bonus_is_not_rounded_away() -> None:
    logits = mx.array([[100.0, 100.0, 99.5]], mx.bfloat16)
    assert NextTokens.among(logits, [{1: 0.01}]).tokens.item() == 1
    assert NextTokens.among(logits, [{2: 0.51}]).tokens.item() == 2


def test_each_row_has_its_own_bonuses() -> None:
    logits = mx.array([[1.0, 0.0, 0.0]] * 3)
    assert NextTokens.among(logits, [{2: 2.0}, {}, {1: 2.0}]).tokens.tolist() == [2, 0, 1]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_no_numbers_stay_none(poison: float) -> None:
    [read] = NextTokens.among(mx.array([[1.0, poison, 0.0]]), [{2: 9.0}]).read()
    assert not math.isfinite(read.logit)


def test_without_terms_no_step_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate_module, "_with_bonuses", lambda *_: pytest.fail("a bonus without terms"))
    assert [token.id for token in generate(MODEL, PROMPT, NO_EOS, BUDGET)] == PLAIN
    row = Row(PROMPT, BUDGET)
    batch = Batch(MODEL, NO_EOS)
    batch.join([row])
    while batch.rows:
        batch.step()
    assert row.ids == PLAIN


def written(tokens: list[Token]) -> list[tuple[int, str | None]]:
    return [(token.id, token.finish_reason) for token in tokens]


@settings(deadline=None, max_examples=20)
@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 12), st.integers(0, 5), st.sampled_from([None, 1, 2])),
        min_size=1,
        max_size=5,
    )
)
def test_rows_of_a_batch_get_the_tokens_that_they_get_alone(
    arrivals: list[tuple[int, int, int, int | None]],
) -> None:
    rows = []
    for length, budget, _, seed in arrivals:
        terms = None if seed is None else trie(*random_terms(seed))
        rows.append(Row(MODEL.embed(list(range(length, 2 * length)))[None], budget, terms=terms))
    batch = Batch(MODEL, NO_EOS)
    for step in range(40):
        batch.join([row for row, (_, _, when, _) in zip(rows, arrivals, strict=True) if when == step])
        batch.step()
    for row in rows:
        assert written(row.tokens) == written(
            list(generate(MODEL, row.prompt, NO_EOS, row.max_new_tokens, terms=row.terms))
        )


def test_a_row_that_ends_leaves_the_bonuses_of_the_others() -> None:
    rows = [Row(PROMPT, 2), Row(PROMPT, BUDGET, terms=trie(*random_terms(1))), Row(PROMPT, 5)]
    batch = Batch(MODEL, NO_EOS)
    batch.join(rows)
    while batch.rows:
        batch.step()
    expected = generate(MODEL, PROMPT, NO_EOS, BUDGET, terms=rows[1].terms)
    assert rows[1].ids == [token.id for token in expected]
    assert rows[2].ids == PLAIN[:5]


def draft_result(draft: list[int], terms: TermTrie | None, margin: float = 0.0) -> DraftResult:
    steps = decode_with_draft(
        MODEL, PROMPT, MODEL.make_cache(30), draft, NO_EOS, BUDGET, margin=margin, logprobs=True, terms=terms
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@settings(deadline=None, max_examples=20)
@given(kept=st.integers(0, BUDGET), seed=st.integers(0, 2), other=st.lists(st.integers(0, VOCABULARY - 1), max_size=9))
def test_no_draft_changes_what_is_written(kept: int, seed: int, other: list[int]) -> None:
    terms = trie(*random_terms(seed))
    alone = list(generate(MODEL, PROMPT, NO_EOS, BUDGET, logprobs=True, terms=terms))
    ids = [token.id for token in alone]
    result = draft_result(ids[:kept] + other, terms)
    assert result.ids == ids
    assert result.verified >= min(kept, BUDGET - 1)
    assert [token.logprob for token in result.tokens] == pytest.approx([token.logprob for token in alone], abs=1e-3)


def test_a_guess_that_continues_a_term_gains_too() -> None:
    """The second choice, where it is close and continues a term whose first token is written anyway."""
    for place in range(1, BUDGET - 1):
        scores = logits_behind(PLAIN[:place]).tolist()
        first, second = sorted(range(VOCABULARY), key=lambda id: -scores[id])[:2]
        weight = (scores[first] - scores[second]) / 2 + 0.1
        terms = trie(((PLAIN[place - 1], second), weight))
        ids = [token.id for token in generate(MODEL, PROMPT, NO_EOS, BUDGET, terms=terms)]
        if ids[: place + 1] == [*PLAIN[:place], second]:
            break
    assert ids[: place + 1] == [*PLAIN[:place], second]
    result = draft_result(ids, terms)
    assert (result.ids, result.verified) == (ids, BUDGET - 1)


def test_a_draft_ends_where_the_margin_of_the_sums_is_too_small() -> None:
    terms = trie(*random_terms(1))
    margins = [margin for _, _, margin in by_definition(terms, BUDGET)]
    least = sorted(margins)[2]
    result = draft_result([token.id for token in generate(MODEL, PROMPT, NO_EOS, BUDGET, terms=terms)], terms, least)
    assert result.low_margin
    assert len(result.ids) == 1 + next(place for place, margin in enumerate(margins) if margin < least)


def test_a_row_leaves_a_batch_where_the_margin_of_the_sums_is_too_small() -> None:
    terms = trie(*random_terms(1))
    margins = [margin for _, _, margin in by_definition(terms, BUDGET)]
    row = Row(PROMPT, BUDGET, min_margin=sorted(margins)[2], terms=terms)
    batch = Batch(MODEL, NO_EOS)
    batch.join([row])
    while batch.rows:
        batch.step()
    assert row.low_margin
    assert len(row.tokens) == 1 + next(place for place, margin in enumerate(margins) if margin < row.min_margin)
