"""How far logits drift when an utterance is heard instead of whole, and what is trusted then."""

import math

import mlx.core as mx
import pytest
from tiny import tiny_model

from qwen3_asr_mlx_runtime.model import live_drift
from qwen3_asr_mlx_runtime.model.audio_tower import AudioTower
from qwen3_asr_mlx_runtime.model.live_drift import LiveDrift
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR


@pytest.mark.parametrize("packs", [False, True])
def test_the_margin_is_four_units_in_the_last_place_or_more_and_small(packs):
    model = tiny_model()
    margin = LiveDrift(model, packs).margin
    assert 0 < margin < 1e-3


def test_a_pass_over_several_tokens_counts(monkeypatch):
    head = Qwen3ASR.head
    monkeypatch.setattr(Qwen3ASR, "head", lambda self, hidden: head(self, hidden) + (len(hidden) > 1))
    assert LiveDrift(tiny_model(), packs=False).margin == pytest.approx(4, abs=1e-3)


@pytest.mark.parametrize("packs", [False, True])
def test_the_tower_counts_where_whole_utterances_go_through_it_otherwise(monkeypatch, packs):
    one_by_one = AudioTower.one_by_one
    monkeypatch.setattr(AudioTower, "one_by_one", lambda self, features: one_by_one(self, features) + 1)
    assert (LiveDrift(tiny_model(), packs).margin > 0.01) is packs


def test_a_drift_that_is_no_number_trusts_nothing(monkeypatch):
    monkeypatch.setattr(Qwen3ASR, "head", lambda *_: mx.full((9, 640), mx.nan))
    assert LiveDrift(tiny_model(), packs=False).margin == math.inf


def test_what_cannot_be_measured_is_not_trusted(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(live_drift, "prefill", fail)
    assert LiveDrift(tiny_model(), packs=False).margin == math.inf
