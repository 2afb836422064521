"""The real engine without its thread: jobs in, outcomes out, in any order and any mixture."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine import memory
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Failed, Finished, Job
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import EngineLost
from qwen3_asr_mlx_runtime.model import drift
from qwen3_asr_mlx_runtime.model.batch import Batch
from qwen3_asr_mlx_runtime.model.decoder import Decoder
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

MODES = ("sequential", "batched")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32", max_segment_seconds=4.0)


UNTRUSTED = SimpleNamespace(is_known=lambda _: True, margin=lambda _: float("inf"), try_again=lambda: None)


@pytest.fixture(scope="module")
def clips(repository) -> list[Utterance]:
    files = sorted((repository / "examples" / "audio").glob("*.wav"))
    nothing = np.zeros(100, dtype=np.float32)
    return [*(Utterance(read_file(str(file)).samples) for file in files), Utterance(nothing)]


@pytest.fixture(scope="module")
def expected(recognizer, clips) -> list[tuple[int, ...]]:
    return [recognizer.transcribe(clip).token_ids for clip in clips]


def run(schedule) -> dict[int, Finished | Failed]:
    outcomes = {}
    while schedule.is_busy:
        outcomes |= {outcome.job_id: outcome for outcome in schedule.step()}
    return outcomes


@settings(deadline=None, max_examples=10)
@given(plan=st.lists(st.tuples(st.integers(0, 8), st.sampled_from(MODES), st.integers(0, 20)), min_size=1, max_size=8))
def test_any_mixture_of_modes_and_arrivals_gives_the_tokens_of_each_alone(recognizer, clips, expected, plan):
    schedule, outcomes = recognizer.schedule(), {}
    for number, (which, mode, steps) in enumerate(plan):
        schedule.submit(Job(number, clips[which % len(clips)], mode))
        for _ in range(steps):
            outcomes |= {outcome.job_id: outcome for outcome in schedule.step()}
    outcomes |= run(schedule)
    assert [outcomes[number].transcript.token_ids for number in range(len(plan))] == [
        expected[which % len(clips)] for which, _, _ in plan
    ]


@settings(deadline=None, max_examples=10)
@given(cancels=st.dictionaries(st.integers(0, 5), st.integers(0, 60), max_size=5), seed=st.integers(0, 9))
def test_a_cancel_at_any_step_ends_its_job_and_no_other(recognizer, clips, expected, cancels, seed):
    schedule, outcomes, step = recognizer.schedule(), {}, 0
    for number in range(6):
        schedule.submit(Job(number, clips[(number + seed) % len(clips)], MODES[number % 2]))
    while schedule.is_busy:
        for job_id in [job_id for job_id, when in cancels.items() if when == step]:
            cancelled = schedule.cancel(job_id)
            assert (cancelled is None) == (job_id in outcomes)
            outcomes.setdefault(job_id, cancelled)
        for outcome in schedule.step():
            assert outcome.job_id not in outcomes
            outcomes[outcome.job_id] = outcome
        step += 1
    for number, outcome in outcomes.items():
        if isinstance(outcome, Failed):
            assert (outcome.error.code, number in cancels) == ("cancelled", True)
        else:
            assert outcome.transcript.token_ids == expected[(number + seed) % len(clips)]
    assert len(outcomes) == 6


def test_more_segments_than_a_batch_has_rows(recognizer, clips, expected, monkeypatch):
    monkeypatch.setattr(memory, "MAX_BATCH_ROWS", 2)
    outcomes = recognizer.outcomes([Job(number, clip, "batched") for number, clip in enumerate(clips)])
    assert [outcome.transcript.token_ids for outcome in outcomes] == expected


def test_a_suspect_is_decoded_again_alone_and_counted(recognizer, clips, expected, monkeypatch):
    monkeypatch.setattr(recognizer, "_drift", UNTRUSTED)
    [guarded] = recognizer.transcribe_batch([clips[0]], "batched")
    [free] = recognizer.transcribe_batch([clips[0]], "batched", drift_guard=False)
    assert guarded.token_ids == free.token_ids == expected[0]
    assert (guarded.redecoded, free.redecoded) == (len(guarded.audio_output_lengths), 0)


def test_a_batch_that_fails_is_decoded_one_by_one(recognizer, clips, expected, monkeypatch):
    def out_of_memory(*_):
        raise RuntimeError("planted")

    monkeypatch.setattr(Batch, "join", out_of_memory)
    outcomes = recognizer.outcomes([Job(number, clip, "batched") for number, clip in enumerate(clips[:3])])
    assert [outcome.transcript.token_ids for outcome in outcomes] == expected[:3]


def test_a_long_row_that_joins_brings_its_margin_to_all_guarded_rows(recognizer, clips, expected, monkeypatch):
    distrusts_long = SimpleNamespace(
        is_known=lambda _: True, margin=lambda most: float("inf") if most >= 1024 else 0.0, try_again=lambda: None
    )
    monkeypatch.setattr(recognizer, "_drift", distrusts_long)
    schedule = recognizer.schedule()
    schedule.submit(Job(0, clips[0], "batched"))
    schedule.submit(Job(1, clips[0], "batched", drift_guard=False))
    for _ in range(4):
        schedule.step()
    schedule.submit(Job(2, replace(clips[1], max_new_tokens=2000), "batched"))
    outcomes = run(schedule)
    assert [outcomes[number].transcript.token_ids for number in range(3)] == [expected[0], expected[0], expected[1]]
    segments = len(outcomes[2].transcript.audio_output_lengths)
    assert [outcomes[number].transcript.redecoded for number in range(3)] == [1, 0, segments]


def test_a_guarded_batch_waits_for_its_margin_and_an_unguarded_one_measures_none(recognizer, clips, monkeypatch):
    measured = []
    drift = SimpleNamespace(
        is_known=lambda _: len(measured) == 3,
        step=measured.append,
        margin=lambda _: 0.0 if len(measured) == 3 else pytest.fail("measured in one go"),
        try_again=lambda: None,
    )
    monkeypatch.setattr(recognizer, "_drift", drift)
    recognizer.transcribe_batch([clips[0]], "batched", drift_guard=False)
    assert measured == []
    recognizer.transcribe_batch([clips[0]], "batched")
    assert len(measured) == 3


IGNORED = (
    "[METAL] Command buffer execution failed: Ignored (for causing prior/excessive GPU errors)"
    " (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)"
)


@pytest.mark.parametrize("mode", MODES)
def test_row_82_a_gpu_that_ignores_the_process_is_lost_and_not_tried_again(recognizer, clips, monkeypatch, mode):
    def ignored(*_):
        raise RuntimeError(IGNORED)

    monkeypatch.setattr(Decoder, "__call__", ignored)
    outcomes = recognizer.outcomes([Job(number, clip, mode) for number, clip in enumerate(clips[:2])])
    assert {type(outcome.error) for outcome in outcomes} == {EngineLost}
    assert not outcomes[0].error.retryable


def test_row_82_a_gpu_that_ignores_the_process_is_lost_while_the_model_loads_too(monkeypatch):
    def ignored(*_):
        raise RuntimeError(IGNORED)

    monkeypatch.setattr(Decoder, "prepare", ignored)
    with pytest.raises(EngineLost):
        Recognizer.load("demo")


def test_a_device_that_cannot_be_calibrated_decodes_alone(recognizer, clips, expected, monkeypatch):
    def out_of_memory(_):
        raise RuntimeError("planted")

    monkeypatch.setattr(drift, "short_drift", out_of_memory)
    monkeypatch.setattr(recognizer, "_drift", drift.Drift(recognizer.model))
    [transcript] = recognizer.transcribe_batch([clips[1]], "batched")
    assert (transcript.token_ids, transcript.redecoded) == (expected[1], len(transcript.audio_output_lengths))


@pytest.mark.parametrize("mode", MODES)
def test_what_fails_fails_alone(recognizer, clips, expected, mode):
    sick = Utterance(np.full(16_000, np.nan, dtype=np.float32))
    odd = Utterance(clips[0].samples, context=5)
    long_context = Utterance(clips[0].samples, context="word " * 9000)
    jobs = [Job(number, one, mode) for number, one in enumerate([clips[0], sick, odd, long_context, clips[1]])]
    outcomes = recognizer.outcomes(jobs)
    codes = [None if isinstance(one, Finished) else one.error.code for one in outcomes]
    assert codes == [None, "non_finite_output", "decode_failed", "invalid_params", None]
    assert [outcomes[0].transcript.token_ids, outcomes[4].transcript.token_ids] == expected[:2]


@pytest.mark.parametrize("mode", MODES)
def test_log_probabilities_and_confidence_come_on_request(recognizer, clips, mode):
    asked = Utterance(clips[0].samples, logprobs=True)
    transcript, plain = recognizer.transcribe_batch([asked, clips[0]], mode)
    assert len(transcript.logprobs) == len(transcript.token_ids)
    assert all(logprob <= 0 for logprob in transcript.logprobs)
    assert 0 < transcript.confidence.minimum <= transcript.confidence.mean <= 1
    assert (plain.logprobs, plain.confidence) == (None, None)


def test_modes_take_turns(recognizer, clips):
    """A short job of one mode does not wait for a long one of the other."""
    for long, short in (MODES, MODES[::-1]):
        schedule = recognizer.schedule()
        schedule.submit(Job(0, Utterance(np.tile(clips[0].samples, 6)), long))
        schedule.submit(Job(1, clips[0], short))
        ended: list[int] = []
        while not ended:
            ended += [outcome.job_id for outcome in schedule.step()]
        assert ended == [1]


def steps_until(schedule, job_id: int) -> int:
    steps = 1
    while job_id not in [outcome.job_id for outcome in schedule.step()]:
        steps += 1
    return steps


def test_a_live_job_goes_before_a_file_that_has_begun_which_still_gets_a_step_in_five(recognizer, clips, expected):
    alone, schedule = recognizer.schedule(), recognizer.schedule()
    alone.submit(Job(1, clips[0], interactive=True))
    schedule.submit(Job(0, Utterance(np.tile(clips[0].samples, 6))))
    for _ in range(5):
        schedule.step()
    schedule.submit(Job(1, clips[0], interactive=True))
    steps = steps_until(alone, 1)
    assert steps_until(schedule, 1) == steps + (steps - 1) // 4
    [file] = run(schedule).values()
    repeated = recognizer.transcribe(Utterance(np.tile(clips[0].samples, 6)))
    assert file.transcript.token_ids == repeated.token_ids


def test_a_live_job_gets_the_next_row_before_what_is_left_of_a_file(recognizer, clips, monkeypatch):
    monkeypatch.setattr(memory, "MAX_BATCH_ROWS", 1)
    schedule = recognizer.schedule()
    schedule.submit(Job(0, Utterance(np.tile(clips[0].samples, 6)), "batched"))
    for _ in range(5):
        schedule.step()
    schedule.submit(Job(1, Utterance(clips[1].samples[:32_000]), "batched", interactive=True))
    steps_until(schedule, 1)
    assert len(schedule._open[0].decoded) <= 1
    assert isinstance(run(schedule)[0], Finished)


def test_rows_decode_between_the_segments_that_a_file_prepares(recognizer, clips):
    alone, schedule = recognizer.schedule(), recognizer.schedule()
    for one in (alone, schedule):
        one.submit(Job(1, clips[0], "batched", interactive=True))
        for _ in range(2):
            one.step()
    schedule.submit(Job(0, Utterance(np.tile(clips[1].samples, 8)), "batched"))
    assert steps_until(schedule, 1) <= 2 * steps_until(alone, 1)
    assert isinstance(run(schedule)[0], Finished)


def test_a_live_job_does_not_wait_until_a_file_is_prepared(recognizer, clips):
    alone, schedule = recognizer.schedule(), recognizer.schedule()
    alone.submit(Job(1, clips[0], "batched", interactive=True))
    schedule.submit(Job(0, Utterance(np.tile(clips[1].samples, 20)), "batched"))
    schedule.submit(Job(1, clips[0], "batched", interactive=True))
    assert steps_until(schedule, 1) <= 2 * steps_until(alone, 1)
    assert isinstance(run(schedule)[0], Finished)


def test_no_more_rows_join_than_memory_has_room_for(recognizer, clips, expected, monkeypatch):
    monkeypatch.setattr(Preparation, "packs", True)
    monkeypatch.setattr(recognizer._governor, "rows", lambda capacity: 16 if capacity == 1 else 2)
    together, step = [], Batch.step
    monkeypatch.setattr(Batch, "step", lambda batch: together.append(len(batch.rows)) or step(batch))
    outcomes = recognizer.outcomes([Job(number, clip, "batched") for number, clip in enumerate(clips)])
    assert [outcome.transcript.token_ids for outcome in outcomes] == expected
    assert max(together) == 2


def test_room_is_reckoned_for_all_that_a_row_may_write(recognizer, clips, monkeypatch):
    asked = []
    monkeypatch.setattr(recognizer._governor, "rows", lambda capacity: asked.append(capacity) or 16)
    recognizer.outcomes([Job(0, Utterance(clips[0].samples, max_new_tokens=900), "batched")])
    assert max(asked) > 900


def test_a_row_whose_text_cannot_be_made_is_decoded_again_alone(recognizer, clips, expected, monkeypatch):
    decode, calls = Tokenizer.decode, []

    def once(tokenizer, ids):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("planted")
        return decode(tokenizer, ids)

    monkeypatch.setattr(Tokenizer, "decode", once)
    schedule = recognizer.schedule()
    for number in (0, 1):
        schedule.submit(Job(number, clips[number], "batched"))
    outcomes = [outcome for _ in range(400) for outcome in schedule.step()]
    assert {one.job_id: one.transcript.token_ids for one in outcomes} == dict(enumerate(expected[:2]))


@pytest.mark.parametrize("live", [True, False])
def test_what_is_decoded_again_without_end_starves_no_sequential_job(recognizer, clips, monkeypatch, live):
    monkeypatch.setattr(recognizer, "_drift", UNTRUSTED)
    alone, schedule = recognizer.schedule(), recognizer.schedule()
    job = Job(0, Utterance(np.tile(clips[0].samples[:32_000], 4)), interactive=live)
    for number in range(1, 40):
        schedule.submit(Job(number, Utterance(clips[0].samples[:32_000]), "batched", interactive=live))
    for _ in range(30):
        schedule.step()
    alone.submit(job)
    schedule.submit(job)
    assert steps_until(schedule, 0) <= 2 * steps_until(alone, 0)
