"""The final of an open utterance: exact, behind finals and words, and the utterance goes on as if nothing had been."""

from collections.abc import Iterator

import numpy as np
import pytest
from live_agreement import random_utterances
from support.engine_requests import align, finalize, partial, run, send

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Append, Failed, Finished, PartialDone, Promote, Provisional
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.settings import Settings

SPEECH = 9
SECOND = SAMPLE_RATE
NOISE = (np.random.default_rng(0).standard_normal(2 * SECOND) * 0.02).astype(np.float32)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture
def schedule(recognizer: Recognizer) -> Iterator[EngineScheduler]:
    schedule = recognizer.schedule(Settings(model="demo"))
    yield schedule
    schedule._alignments.drop()


def provisional(
    schedule: EngineScheduler, samples: int, tail: np.ndarray = NO_SAMPLES, id: int = 50, **options
) -> None:
    schedule.take(Provisional(id, SPEECH, samples, tail, **options))


def only(schedule: EngineScheduler) -> Finished:
    [outcome] = run(schedule)
    assert isinstance(outcome, Finished), outcome
    return outcome


def texts(outcome: Finished) -> tuple:
    it = outcome.transcript
    return it.text, it.language, it.token_ids, it.finish_reason, it.segments


@pytest.mark.parametrize("has_partials", [True, False])
@pytest.mark.parametrize("has_tail", [True, False])
def test_it_is_the_transcript_of_what_came_before_it_and_the_utterance_goes_on(
    recognizer: Recognizer, has_partials: bool, has_tail: bool
) -> None:
    """Pauses at random places, several in one utterance; a tail is not what follows."""
    rng = np.random.default_rng(5 + has_partials)
    schedule = recognizer.schedule(Settings(model="demo"))
    verified = 0
    for utterance in random_utterances(2, 0, seed=21):
        samples, given = utterance.samples[: 8 * SECOND], 0
        while given < len(samples):
            more = samples[given : given + int(rng.uniform(0.3, 4.0) * SECOND)]
            send(schedule, partial(1, SPEECH, more) if has_partials else [Append(SPEECH, more)])
            run(schedule)
            given += len(more)
            if rng.random() < 0.5:
                tail = rng.uniform(-0.2, 0.2, 300).astype(np.float32) if has_tail else NO_SAMPLES
                provisional(schedule, given, tail)
                found = only(schedule)
                whole = recognizer.transcribe(Utterance(np.concatenate([samples[:given], tail])))
                assert texts(found) == texts(Finished(0, whole))
                verified += found.transcript.verified_tokens or 0
        send(schedule, finalize(2, SPEECH, Utterance(NO_SAMPLES), interactive=True))
        assert texts(only(schedule)) == texts(Finished(0, recognizer.transcribe(Utterance(samples))))
    assert (verified > 0) == has_partials


def test_a_part_of_what_the_engine_has_is_decoded_by_itself(recognizer: Recognizer, schedule: EngineScheduler) -> None:
    [utterance] = random_utterances(1, 0, seed=22)
    send(schedule, partial(1, SPEECH, utterance.samples))
    run(schedule)
    count = len(utterance.samples) // 2
    provisional(schedule, count)
    assert texts(only(schedule)) == texts(Finished(0, recognizer.transcribe(Utterance(utterance.samples[:count]))))


def test_other_options_than_those_of_the_partials_are_heard(schedule: EngineScheduler) -> None:
    send(schedule, partial(1, SPEECH, NOISE))
    run(schedule)
    provisional(schedule, len(NOISE), language="Arabic", logprobs=True)
    found = only(schedule)
    assert found.transcript.verified_tokens is None
    assert found.transcript.logprobs is not None


def started(schedule: EngineScheduler) -> EngineScheduler:
    """A provisional that has taken a step."""
    send(schedule, partial(1, SPEECH, NOISE))
    run(schedule)
    provisional(schedule, len(NOISE))
    assert schedule.step() == []
    return schedule


def codes(outcomes: list) -> dict[int, str]:
    return {each.job_id: each.error.code if isinstance(each, Failed) else type(each).__name__ for each in outcomes}


@pytest.mark.parametrize("end", ["finalize", "align", "forget", "cancel", "another"])
def test_what_ends_it(schedule: EngineScheduler, end: str) -> None:
    started(schedule)
    expected = {50: "cancelled"}
    if end == "finalize":
        send(schedule, finalize(2, SPEECH, Utterance(NO_SAMPLES), interactive=True))
        expected[2] = "Finished"
    elif end == "align":
        send(schedule, [align_of(2)])
        expected[2] = "Aligned"
    elif end == "forget":
        assert schedule.forget(SPEECH) is None
    elif end == "another":
        provisional(schedule, len(NOISE), id=51)
        expected[51] = "Finished"
    else:
        assert schedule.cancel(50).error.code == "cancelled"
        expected = {}
    assert codes(run(schedule)) == expected
    assert schedule.open_ids == []


def align_of(id: int) -> object:
    *_, request = align(id, NO_SAMPLES, "one")
    return type(request)(id, SPEECH, "one")


def test_the_utterance_is_as_it_was_after_one_that_was_cancelled(recognizer: Recognizer) -> None:
    schedule = recognizer.schedule(Settings(model="demo"))
    [utterance] = random_utterances(1, 0, seed=23)
    half = len(utterance.samples) // 2
    send(schedule, partial(1, SPEECH, utterance.samples[:half]))
    run(schedule)
    for steps in range(1, 12):
        provisional(schedule, half, np.full(300, 0.3, np.float32), id=50 + steps)
        for _ in range(steps):
            schedule.step()
        schedule.cancel(50 + steps)
        run(schedule)
    send(schedule, partial(2, SPEECH, utterance.samples[half:]))
    run(schedule)
    send(schedule, finalize(3, SPEECH, Utterance(NO_SAMPLES), interactive=True))
    assert texts(only(schedule)) == texts(Finished(0, recognizer.transcribe(utterance)))


def test_finals_and_words_go_before_it_and_partials_and_files_behind_it(schedule: EngineScheduler) -> None:
    send(schedule, align(1, NOISE, "one"))
    run(schedule)
    send(schedule, finalize(5, 5, Utterance(NOISE, max_new_tokens=4)))
    send(schedule, partial(4, 4, NOISE))
    send(schedule, [Append(SPEECH, NOISE)])
    provisional(schedule, len(NOISE), id=3)
    send(schedule, align(2, NOISE, "one"))
    send(schedule, finalize(1, 1, Utterance(NOISE, max_new_tokens=4), interactive=True))
    assert [outcome.job_id for outcome in run(schedule)] == [1, 2, 3, 4, 5]


def test_it_ranks_behind_batched_finals(schedule: EngineScheduler) -> None:
    send(schedule, [Append(SPEECH, NOISE)])
    provisional(schedule, len(NOISE))
    schedule.step()
    options = {"decoder_mode": "batched", "interactive": True}
    send(schedule, finalize(2, 2, Utterance(NOISE, max_new_tokens=4), **options))
    assert [outcome.job_id for outcome in run(schedule)] == [2, 50]


def test_one_that_is_promoted_goes_as_a_final_does(schedule: EngineScheduler, recognizer: Recognizer) -> None:
    started(schedule)
    schedule.take(Promote(50))
    for number in range(3):
        send(schedule, finalize(number, number, Utterance(NOISE, max_new_tokens=4), interactive=True))
    outcomes = run(schedule)
    assert outcomes[0].job_id == 50
    assert texts(outcomes[0]) == texts(Finished(0, recognizer.transcribe(Utterance(NOISE))))
    schedule.forget(SPEECH)


def test_speech_that_goes_on_before_it_begins_is_decoded_by_itself(
    recognizer: Recognizer, schedule: EngineScheduler
) -> None:
    [utterance] = random_utterances(1, 0, seed=24)
    half = len(utterance.samples) // 2
    send(schedule, partial(1, SPEECH, utterance.samples[:half]))
    run(schedule)
    provisional(schedule, half)
    schedule.append(Append(SPEECH, utterance.samples[half:]))
    assert texts(only(schedule)) == texts(Finished(0, recognizer.transcribe(Utterance(utterance.samples[:half]))))


def test_it_has_the_work_of_the_partials(schedule: EngineScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    used, steps = [], StreamingUtterance.provisional
    monkeypatch.setattr(StreamingUtterance, "provisional", lambda *arguments: used.append(1) or steps(*arguments))
    started(schedule)
    run(schedule)
    assert used == [1]


def test_a_partial_of_the_utterance_that_waits_ends(schedule: EngineScheduler) -> None:
    send(schedule, partial(1, SPEECH, NOISE))
    provisional(schedule, len(NOISE))
    assert codes(run(schedule)) == {1: "cancelled", 50: "Finished"}
    send(schedule, partial(2, SPEECH, NOISE))
    assert isinstance(run(schedule)[0], PartialDone)
    schedule.forget(SPEECH)
