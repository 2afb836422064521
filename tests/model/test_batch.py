import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.model import batch as batch_module
from qwen3_asr_mlx_runtime.model.batch import Batch, Places, Row
from qwen3_asr_mlx_runtime.model.generate import NextTokens, generate

MODEL = tiny_model()
NO_EOS: frozenset[int] = frozenset()


def prompt(length: int, seed: int) -> mx.array:
    return MODEL.model.embed_tokens(mx.random.randint(0, 600, (1, length), key=mx.random.key(seed)))


def alone(row: Row, eos_ids: frozenset[int] = NO_EOS) -> list[tuple[int, str | None]]:
    return [(token.id, token.finish_reason) for token in generate(MODEL, row.prompt, eos_ids, row.max_new_tokens)]


def written(row: Row) -> list[tuple[int, str | None]]:
    return [(token.id, token.finish_reason) for token in row.tokens]


def run(batch: Batch) -> list[Row]:
    ended = []
    while batch.rows:
        ended += batch.step()
    return ended


@settings(deadline=None, max_examples=20)
@given(arrivals=st.lists(st.tuples(st.integers(1, 150), st.integers(1, 20), st.integers(0, 9)), min_size=1, max_size=6))
def test_rows_that_join_and_leave_at_any_step_get_the_tokens_that_they_get_alone(arrivals):
    rows = [Row(prompt(length, seed), budget) for seed, (length, budget, _) in enumerate(arrivals)]
    batch = Batch(MODEL, NO_EOS)
    waiting = sorted(zip((step for *_, step in arrivals), rows, strict=True), key=lambda one: one[0])
    ended: list[Row] = []
    for step in range(200):
        batch.join([row for when, row in waiting if when == step])
        ended += batch.step()
        if len(ended) == len(rows):
            break
    assert {id(row) for row in ended} == {id(row) for row in rows}
    for row in rows:
        assert written(row) == alone(row)


def test_a_row_outgrows_the_capacity_it_began_with():
    row, short = Row(prompt(120, 1), 160), Row(prompt(9, 2), 3)
    batch = Batch(MODEL, NO_EOS)
    batch.join([row, short])
    run(batch)
    assert len(row.tokens) > 136
    assert (written(row), written(short)) == (alone(row), alone(short))


def test_eos_ends_a_row_and_the_others_go_on():
    first, second = Row(prompt(20, 3), 12), Row(prompt(31, 4), 12)
    eos = frozenset({alone(first)[4][0]}) - {token for token, _ in alone(second)}
    assert eos
    batch = Batch(MODEL, eos)
    batch.join([first, second])
    run(batch)
    assert written(first) == alone(first, eos)
    assert first.tokens[-1].finish_reason == "stop"
    assert written(second) == alone(second)


def test_a_row_that_is_taken_out_does_not_disturb_the_others():
    rows = [Row(prompt(10 + seed, seed), 10) for seed in range(3)]
    batch = Batch(MODEL, NO_EOS)
    batch.join(rows)
    batch.step()
    batch.leave(rows[1])
    batch.leave(rows[1])
    run(batch)
    assert [written(row) == alone(row) for row in rows] == [True, False, True]
    assert len(rows[1].tokens) == 1


def test_a_row_leaves_as_a_suspect_when_its_choice_was_close():
    free = Row(prompt(40, 5), 20)
    batch = Batch(MODEL, NO_EOS)
    batch.join([free])
    run(batch)
    margins = smallest_margins(free)
    guarded = Row(free.prompt, 20, min_margin=sorted(margins)[2])
    batch.join([guarded])
    run(batch)
    assert (guarded.low_margin, free.low_margin) == (True, False)
    assert len(guarded.tokens) == 1 + next(i for i, margin in enumerate(margins) if margin < guarded.min_margin)


def smallest_margins(row: Row) -> list[float]:
    """By definition: the two largest logits after each prefix of the row."""
    margins = []
    for count in range(len(row.tokens)):
        text = MODEL.embed([token.id for token in row.tokens[:count]])[None] if count else row.prompt[:, :0]
        logits = MODEL.logits(mx.concatenate([row.prompt, text], axis=1), MODEL.make_cache(row.length))
        second, first = mx.sort(logits[0])[-2:].tolist()
        margins.append(first - second)
    return margins


def logprobs(row: Row) -> list[float | None]:
    return [token.logprob for token in row.tokens]


def logprobs_alone(row: Row) -> list[float | None]:
    tokens = generate(MODEL, row.prompt, NO_EOS, row.max_new_tokens, logprobs=True)
    return [token.logprob for token in tokens]


def test_log_probabilities_are_those_of_the_row_alone():
    rows = [Row(prompt(12, 6), 5, logprobs=True), Row(prompt(30, 7), 5, logprobs=True)]
    batch = Batch(MODEL, NO_EOS)
    batch.join(rows)
    run(batch)
    for row in rows:
        assert logprobs(row) == pytest.approx(logprobs_alone(row), abs=1e-4)


@pytest.mark.parametrize("first", [True, False])
def test_only_rows_that_ask_for_log_probabilities_have_them_whoever_joins_first(first: bool) -> None:
    early, late = Row(prompt(12, 6), 9, logprobs=first), Row(prompt(30, 7), 9, logprobs=not first)
    batch = Batch(MODEL, NO_EOS)
    batch.join([early, Row(prompt(14, 8), 9)])
    batch.step()
    batch.join([late])
    run(batch)
    asked, other = (early, late) if first else (late, early)
    assert logprobs(asked) == pytest.approx(logprobs_alone(asked), abs=1e-4)
    assert logprobs(other) == [None] * 9
    assert (written(early), written(late)) == (alone(early), alone(late))


def test_log_probabilities_are_computed_while_a_row_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, among = [], NextTokens.among
    monkeypatch.setattr(
        NextTokens, "among", lambda *a, logprobs, **k: seen.append(logprobs) or among(*a, logprobs=logprobs, **k)
    )
    batch = Batch(MODEL, NO_EOS)
    batch.join([Row(prompt(12, 6), 3, logprobs=True), Row(prompt(13, 7), 6)])
    run(batch)
    assert seen == [True] * 4 + [False] * 2  # a step is queued before it is known that the row has ended


def test_a_row_without_numbers_fails_alone():
    healthy, sick = Row(prompt(20, 8), 6), Row(mx.full((1, 20, 64), mx.nan), 6)
    batch = Batch(MODEL, NO_EOS)
    batch.join([healthy, sick])
    run(batch)
    assert sick.error.code == "non_finite_output"
    assert (healthy.error, written(healthy)) == (None, alone(healthy))


def test_metal_neither_copies_the_mask_in_each_layer_nor_reads_what_it_hides():
    mask = Places([3, 1], mx.zeros((2, 4, 8, 16), mx.bfloat16)).mask
    mx.eval(mask)
    assert (mask.shape, mask.dtype) == ((2, 4, 1, 8), mx.bool_)
    assert memoryview(mask).c_contiguous
    assert mask[:, 0, 0].tolist() == [[True] * 4 + [False] * 4, [True] * 2 + [False] * 6]


def test_cuda_gets_a_mask_that_it_need_not_convert(monkeypatch):
    monkeypatch.setattr(mx.cuda, "is_available", lambda: True)
    mask = Places([1], mx.zeros((1, 2, 4, 16), mx.float16)).mask
    assert (mask.dtype, mask[0, 1, 0].tolist()) == (mx.float16, [0.0, 0.0, -mx.inf, -mx.inf])


@pytest.mark.parametrize(("part", "starts"), [(0.0, [False] * 6), (1e9, [True] * 6)])
def test_on_metal_a_step_starts_when_the_one_before_is_read_where_buffers_are_large(
    part: float, starts: list[bool], metal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, among = [], NextTokens.among
    monkeypatch.setattr(batch_module, "_COPIED_PART", part)
    row = Row(prompt(20, 5), 7)
    expected = alone(row)
    monkeypatch.setattr(
        NextTokens, "among", lambda *a, start=True, **k: seen.append(start) or among(*a, start=start, **k)
    )
    batch = Batch(MODEL, NO_EOS)
    batch.join([row])
    run(batch)
    assert written(row) == expected
    assert seen == [True, *starts]
