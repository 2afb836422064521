import math

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.model import drift
from qwen3_asr_mlx_runtime.model.batch import Batch, Row, RowCache
from qwen3_asr_mlx_runtime.model.decoder import Decoder
from qwen3_asr_mlx_runtime.model.drift import Drift, Margin, largest_drift, long_drift
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

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


def test_log_probabilities_are_those_of_the_row_alone():
    rows = [Row(prompt(12, 6), 5), Row(prompt(30, 7), 5)]
    batch = Batch(MODEL, NO_EOS)
    batch.join(rows)
    run(batch)
    for row in rows:
        expected = [token.logprob for token in generate(MODEL, row.prompt, NO_EOS, 5, logprobs=True)]
        assert [token.logprob for token in row.tokens] == pytest.approx(expected, abs=1e-4)


def test_a_row_without_numbers_fails_alone():
    healthy, sick = Row(prompt(20, 8), 6), Row(mx.full((1, 20, 64), mx.nan), 6)
    batch = Batch(MODEL, NO_EOS)
    batch.join([healthy, sick])
    run(batch)
    assert sick.error.code == "non_finite_output"
    assert (healthy.error, written(healthy)) == (None, alone(healthy))


def test_the_drift_of_a_full_batch_counts(monkeypatch):
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: head(self, hidden) + (len(hidden) == MAX_BATCH_ROWS))
    assert largest_drift(MODEL) >= 0.9


def other_attention(monkeypatch, changes) -> None:
    """A device whose steps of a batch come out otherwise for some (rows, capacity)."""
    attend = RowCache.attend

    def attend_otherwise(self, *arguments):
        rows, _, capacity, _ = self.keys.shape
        return attend(self, *arguments) + changes(rows, capacity)

    monkeypatch.setattr(RowCache, "attend", attend_otherwise)


@pytest.mark.parametrize("rows", [1, 4, MAX_BATCH_ROWS])
def test_a_kernel_for_long_rows_counts_where_a_row_may_come_to_be_long(monkeypatch, rows):
    other_attention(monkeypatch, lambda B, capacity: capacity >= 1024 and rows == B)
    one = Drift(MODEL)
    assert one.margin(896) < 1e-3
    assert one.margin(897) > 0.1


def test_long_rows_are_measured_only_when_one_comes(monkeypatch):
    lengths = []
    measure = drift.long_drift
    monkeypatch.setattr(drift, "long_drift", lambda *arguments: lengths.append(1) or measure(*arguments))
    one = Drift(MODEL)
    one.margin(500)
    assert (one.is_known(500), one.is_known(2000), lengths) == (True, False, [])
    one.margin(2000)
    assert (one.is_known(2000), lengths) == (True, [1])


@pytest.mark.parametrize(("room", "sizes"), [(0, {1}), (4, {1, 4}), (MAX_BATCH_ROWS, {1, 4, MAX_BATCH_ROWS})])
def test_long_rows_are_measured_in_batches_that_there_is_room_for(monkeypatch, room, sizes):
    seen = set()
    other_attention(monkeypatch, lambda rows, _: seen.add(rows) or 0)
    for _ in long_drift(MODEL, lambda rows, positions: positions == 204 and rows <= room, 200):
        pass
    assert seen == sizes


def test_the_steps_of_a_measurement_are_short(monkeypatch):
    """Between two of them the engine's thread sees to its inbox, and the watchdog that it moves."""
    passes = []
    decoder = Decoder.__call__
    counted = lambda self, embeddings, cache: passes.append(embeddings.shape[1]) or decoder(self, embeddings, cache)  # noqa: E731
    monkeypatch.setattr(Decoder, "__call__", counted)
    one = Drift(MODEL)
    while not one.is_known(2000):
        before = len(passes)
        one.step(2000)
        assert sum(passes[before:]) <= 256


def test_a_drift_that_is_no_number_trusts_no_batch(monkeypatch):
    monkeypatch.setattr(Qwen3ASR, "head", lambda _, hidden: mx.full((len(hidden), 640), mx.nan))
    assert (Drift(MODEL).margin(500), math.isnan(largest_drift(MODEL))) == (math.inf, True)


def test_what_cannot_be_measured_is_measured_when_it_is_tried_again(monkeypatch):
    def fail(*_):
        raise MemoryError

    one = Drift(MODEL)
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "__call__", fail)
        assert one.margin(2000) == math.inf
    assert one.margin(2000) == math.inf
    one.try_again()
    assert one.margin(2000) < 1e-3


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_the_drift_of_a_batch_is_measured_in_logits(dtype):
    model = tiny_model(dtype)
    drift = largest_drift(model)
    assert 0 <= drift < {mx.float32: 1e-4, mx.bfloat16: 0.5}[dtype]


def test_the_margin_is_four_times_the_drift():
    def measured():
        yield
        return 0.25

    assert Margin(measured).margin == 1.0
