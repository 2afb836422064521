"""What comes before the decoder never depends on the company: bit for bit in float32 on the CPU."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engine.memory import MemoryLimits
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Failed, Job
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.model.features import log_mel

pytestmark = pytest.mark.cpu
NEW_TOKENS = 8


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


def noise(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(count) * rng.uniform(0.001, 0.3)).clip(-1, 1).astype(np.float32)


@settings(deadline=None, max_examples=10)
@given(lengths=st.lists(st.integers(201, 60_000), min_size=2, max_size=5))
def test_features_tower_and_tokens_are_the_same_to_the_last_bit_whatever_is_beside(recognizer, lengths):
    utterances = [
        Utterance(noise(length, seed), max_new_tokens=NEW_TOKENS, logprobs=True) for seed, length in enumerate(lengths)
    ]
    segments = [segment for one in utterances for segment in recognizer._preparation.cut(one, Stopwatch())]
    together = recognizer._preparation.prepare(segments)
    for segment, made in zip(segments, together, strict=True):
        [alone] = recognizer._preparation.prepare([segment])
        assert mx.array_equal(made.embeddings, alone.embeddings)
    transcripts = recognizer.transcribe_batch(utterances)
    for utterance, transcript in zip(utterances, transcripts, strict=True):
        alone = recognizer.transcribe(utterance)
        assert (transcript.token_ids, transcript.logprobs) == (alone.token_ids, alone.logprobs)


def test_the_features_in_the_prompt_are_those_of_the_clip(recognizer):
    """The comparison above would hold for any function of a clip: this one is the tower's."""
    samples = noise(30_000, 1)
    [segment] = recognizer._preparation.cut(Utterance(samples), Stopwatch())
    [made] = recognizer._preparation.prepare([segment])
    audio = recognizer.encode(log_mel(samples))
    start = made.embeddings.shape[1] - audio.shape[0]
    windows = [made.embeddings[0, i : i + audio.shape[0]] for i in range(start + 1)]
    assert sum(mx.array_equal(window, audio).item() for window in windows) == 1


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_what_memory_is_too_small_for_is_refused_and_the_others_finish(mode):
    recognizer = Recognizer.load("demo")
    governor = recognizer._governor
    estimates = [governor.estimate(16_000, 300), governor.estimate(480_000, 900)]
    governor.limit_bytes = mx.get_active_memory() + sum(estimates) // 2
    long, short = Utterance(noise(480_000, 1)), Utterance(noise(16_000, 2), max_new_tokens=4)
    outcomes = recognizer.outcomes([Job(0, short, mode), Job(1, long, mode), Job(2, short, mode)])
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].error.code == "out_of_memory"
    assert outcomes[1].error.data["needed_bytes"] > outcomes[1].error.data["limit_bytes"]


def test_a_model_that_does_not_fit_is_not_read(monkeypatch):
    monkeypatch.setattr(mx, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(OutOfMemory) as caught:
        Recognizer.load("demo", limits=MemoryLimits(limit_bytes=1_000_000))
    assert caught.value.data["limit_bytes"] == 1_000_000
