"""How far logits of a streamed utterance drift from those of the whole, and which tokens are trusted."""

import math

import mlx.core as mx
import pytest
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.model import streaming_drift
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.streaming_drift import StreamingDrift


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
        patched.setattr(streaming_drift, "prefill", fail)
        assert drift.margin == math.inf
    drift.try_again()
    assert drift.margin < 1e-3
