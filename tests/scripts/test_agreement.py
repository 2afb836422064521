"""Sixty utterances of the demonstration, cut, joined and levelled at random: scripts/agreement takes two thousand."""

from dataclasses import replace

import agreement
import pytest

from qwen3_asr_mlx_runtime.engine import continuous_batch as batching
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


def test_sixty_utterances_are_written_alike_in_both_modes(recognizer):
    found = agreement.compare(recognizer, list(agreement.random_utterances(60, seed=7)), rows=8)
    assert found["equal_with_guard"] == found["utterances"] == 60
    assert found["redecoded"] <= 6


def test_the_comparison_sees_a_difference(recognizer, monkeypatch):
    """A batch that decodes one token less differs in every utterance."""
    place = batching.ContinuousBatch._take_prepared

    def shortened(self, owner, decoder_input):
        short = owner.recognition.inputs[owner.segment] = replace(decoder_input, max_new_tokens=2)
        place(self, owner, short)

    monkeypatch.setattr(batching.ContinuousBatch, "_take_prepared", shortened)
    found = agreement.compare(recognizer, list(agreement.random_utterances(3, seed=7)), rows=3)
    assert found["equal_with_guard"] == 0
