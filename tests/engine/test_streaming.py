"""Partials in the schedule: which goes first, and what ends them."""

import math

import numpy as np
import pytest
import soundfile
from support.engine_requests import finalize, partial, run, send

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engine.streaming_segment import StreamingSegment
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Finished, Job, PartialDone
from qwen3_asr_mlx_runtime.engines.fair_queue import INTERACTIVE_IN_A_ROW
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

NOISE = (np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE) * 0.02).astype(np.float32)
FILE = Utterance(NOISE, max_new_tokens=4)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    recognizer = Recognizer.load("demo", dtype="float32")
    assert recognizer._streaming_drift.margin < 1  # measured now, and not in a step of a test
    return recognizer


@pytest.fixture
def schedule(recognizer) -> EngineScheduler:
    return recognizer.schedule()


def ids(outcomes) -> list[int]:
    return [outcome.job_id for outcome in outcomes]


def test_partials_are_computed_in_the_order_of_their_requests(schedule):
    for number in (3, 1, 2):
        send(schedule, partial(number, number, NOISE))
    assert schedule.open_ids == [3, 1, 2]
    assert ids(run(schedule)) == [3, 1, 2]


def test_a_partial_waits_for_a_final(schedule):
    send(schedule, partial(1, 1, NOISE))
    schedule.step()
    schedule.submit(Job(2, FILE, interactive=True))
    assert ids(run(schedule)) == [2, 1]


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_files_have_one_step_in_five_beside_partials(schedule, monkeypatch, mode):
    steps = []

    def endless(*_):
        while True:
            steps.append("partial")
            yield

    monkeypatch.setattr(StreamingUtterance, "partial", endless)
    send(schedule, partial(1, 1, NOISE))
    schedule.submit(Job(2, FILE, mode))
    while 2 in schedule.open_ids:
        schedule.step()
        steps.append("step")
    order = "".join("p" if one == "partial" else "." for one in steps).replace("p.", "p")
    assert order.startswith("p" * INTERACTIVE_IN_A_ROW + ".p")
    assert "." * 2 not in order


def test_a_job_of_the_utterance_ends_its_partial(schedule):
    send(schedule, partial(1, 9, NOISE))
    send(schedule, finalize(2, 9, Utterance(NO_SAMPLES, max_new_tokens=4), interactive=True))
    failed, finished = run(schedule)
    assert (failed.job_id, failed.error.code) == (1, "cancelled")
    assert (finished.job_id, finished.transcript.verified_tokens) == (2, None)  # its partials had other options


def test_forget_ends_the_partial_and_keeps_nothing(schedule):
    send(schedule, partial(1, 9, NOISE))
    schedule.step()
    assert schedule.forget(9).error.code == "cancelled"
    assert not schedule.is_busy
    assert not schedule._open_utterances._utterances
    assert schedule.appended == []
    assert schedule.forget(9) is None


def test_a_cancel_ends_a_partial_and_the_next_has_its_samples(schedule):
    send(schedule, partial(1, 9, NOISE))
    schedule.step()
    assert schedule.cancel(1).error.code == "cancelled"
    assert schedule.cancel(1) is None
    send(schedule, partial(2, 9, NOISE))
    [done] = run(schedule)
    assert done.hypothesis.audio_seconds == 4.0


def test_a_partial_that_fails_says_how_long_it_worked(schedule, monkeypatch):
    send(schedule, partial(1, 9, NOISE))
    assert schedule.cancel(1).seconds == 0  # not begun
    send(schedule, partial(2, 9, NOISE))
    schedule.step()
    assert schedule.cancel(2).seconds > 0
    monkeypatch.setattr(StreamingSegment, "decode", lambda *_, **__: 1 / 0)
    send(schedule, partial(3, 9, NOISE))
    [failed] = run(schedule)
    assert (failed.error.code, failed.seconds > 0) == ("decode_failed", True)
    schedule.forget(9)


def test_a_partial_knows_the_probability_of_its_last_token(repository):
    samples, _ = soundfile.read(repository / "examples" / "audio" / "english-one.wav", dtype="float32")
    schedule = Recognizer.load("demo").schedule()
    send(schedule, partial(1, 9, samples))
    [done] = run(schedule)
    send(schedule, finalize(2, 9, Utterance(NO_SAMPLES, logprobs=True)))
    [finished] = run(schedule)
    *_, last, _end = finished.transcript.logprobs
    assert done.hypothesis.text == finished.transcript.text
    assert done.hypothesis.probability == pytest.approx(math.exp(last), abs=1e-3)


def test_a_segment_without_text_has_no_last_token(recognizer, monkeypatch):
    monkeypatch.setattr(Tokenizer, "decode", lambda *_: "language None<asr_text>")
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, NOISE))
    [done] = run(schedule)
    assert (done.hypothesis.text, done.hypothesis.probability) == ("", None)
    schedule.forget(9)


def test_silence_has_no_last_token(schedule):
    send(schedule, partial(1, 9, np.zeros(80, np.float32)))
    [done] = run(schedule)
    assert (done.hypothesis.text, done.hypothesis.probability) == ("", None)


def test_a_partial_that_fails_fails_alone(schedule, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("qwen3_asr_mlx_runtime.model.speculative.check_finite", _not_finite)
        send(schedule, partial(1, 9, NOISE))
        [failed] = run(schedule)
    assert (failed.job_id, failed.error.code) == (1, "non_finite_output")
    send(schedule, partial(2, 9, NOISE))
    schedule.submit(Job(3, FILE))
    assert {type(outcome) for outcome in run(schedule)} == {PartialDone, Finished}


def _not_finite(*_):
    raise NonFiniteOutput("planted")


def test_the_drift_is_measured_while_nothing_else_is_to_be_done():
    recognizer = Recognizer.load("demo", dtype="float32")
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, NOISE))
    while not isinstance((schedule.step() or [None])[0], PartialDone):
        assert not recognizer._streaming_drift.is_known
    assert schedule.is_busy
    assert run(schedule) == []
    assert recognizer._streaming_drift.is_known
    assert not schedule.is_busy
