"""How far logits drift in a batch and in a streamed utterance, and what is trusted then."""

import math

import mlx.core as mx
import pytest
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.model import drift as drift_module
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.batch import RowCache
from qwen3_asr_mlx_runtime.model.decoder import Decoder
from qwen3_asr_mlx_runtime.model.drift import Drift, Margin, StreamingDrift, largest_drift, long_drift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

MODEL = tiny_model()


@pytest.mark.parametrize("packs", [False, True])
def test_the_margin_is_four_units_in_the_last_place_or_more_and_small(packs):
    model = tiny_model()
    margin = StreamingDrift(model, packs).margin
    assert 0 < margin < 1e-3


def test_a_pass_over_several_tokens_counts(monkeypatch):
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: head(self, hidden) + (len(hidden) > 1))
    assert StreamingDrift(tiny_model(), packs=False).margin == pytest.approx(4, abs=1e-3)


def test_a_tower_that_sees_windows_apart_otherwise_counts(monkeypatch):
    encode_window = AudioTower.encode_window
    monkeypatch.setattr(AudioTower, "encode_window", lambda self, rows: encode_window(self, rows) + len(rows) / 1000)
    monkeypatch.setattr(AudioTower, "one_by_one", AudioTower.__call__)
    assert StreamingDrift(tiny_model(), packs=False).margin > 0.01


def test_where_whole_utterances_are_packed_that_is_what_counts(monkeypatch):
    call = AudioTower.__call__
    monkeypatch.setattr(AudioTower, "__call__", lambda self, features: call(self, features) + 0.1)
    assert StreamingDrift(tiny_model(), packs=True).margin > 0.01
    assert StreamingDrift(tiny_model(), packs=False).margin < 0.01


def test_a_pass_over_many_tokens_counts(monkeypatch):
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: head(self, hidden) + (len(hidden) > 100))
    assert StreamingDrift(tiny_model(), packs=False).margin == pytest.approx(4, abs=1e-3)


def test_a_drift_that_is_no_number_trusts_nothing(monkeypatch):
    monkeypatch.setattr(Qwen3ASR, "head", lambda *_: mx.full((129, 640), mx.nan))
    assert StreamingDrift(tiny_model(), packs=False).margin == math.inf


def test_what_cannot_be_measured_is_not_trusted(monkeypatch):
    def fail(*_):
        raise MemoryError

    drift = StreamingDrift(tiny_model(), packs=False)
    with monkeypatch.context() as patched:
        patched.setattr(drift_module, "prefill", fail)
        assert drift.margin == math.inf
    drift.try_again()
    assert drift.margin < 1e-3


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
    measure = drift_module.long_drift
    monkeypatch.setattr(drift_module, "long_drift", lambda *arguments: lengths.append(1) or measure(*arguments))
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
