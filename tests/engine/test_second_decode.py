"""Terms, the echo guard, the repair of loops and the drift guard, all at once: in every mode the result is that of
decoding alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.engine_requests import finalize, partial, run, send

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine import echo
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Append, Finished, Job, Provisional
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.terms import Term

EIGHTS = (Term("Eight", 4.0), Term("eight", 4.0))
TIMES = 25  # of one word: a loop


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    recognizer = Recognizer.load("demo", dtype="float32")
    assert recognizer._streaming_drift.margin < 1  # measured now, and not in a step of a test
    return recognizer


@pytest.fixture(scope="module")
def looping(repository: Path) -> Samples:
    samples = read_file(str(repository / "examples" / "audio" / "english-one.wav")).samples
    loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
    word = np.concatenate([samples[loud[0] : loud[-1] + 1], np.zeros(SAMPLE_RATE // 10, np.float32)])
    return np.tile(word, TIMES)


@pytest.fixture(scope="module")
def utterances(repository: Path, looping: Samples) -> list[Utterance]:
    """Some ask for log-probabilities."""
    speech = read_file(str(repository / "examples" / "audio" / "sample.wav")).samples
    noise = np.random.default_rng(2).standard_normal(len(speech)) * 0.3
    echoed = ((speech + noise).clip(-1, 1) * 0.2).astype(np.float32)  # what is written then are the terms
    weak = looping * np.float32(0.003)
    pause = np.zeros(6 * SAMPLE_RATE, np.float32)
    return [
        Utterance(echoed, "English", terms=EIGHTS),
        Utterance(looping, terms=(Term("nine", 1.0),), logprobs=True),
        Utterance(speech, terms=EIGHTS),
        Utterance(weak, "English", context="eight", logprobs=True),
        Utterance(speech, logprobs=True),
        Utterance(weak, terms=(Term("eight", 2.0),)),
        Utterance(np.concatenate([looping, pause, echoed]), "English", terms=EIGHTS),
    ]


@pytest.fixture(scope="module")
def alone(recognizer: Recognizer, utterances: list[Utterance]) -> list[Transcript]:
    return [recognizer.transcribe(utterance) for utterance in utterances]


def essence(transcript: Transcript) -> tuple[object, ...]:
    text = transcript.text, transcript.raw_text, transcript.token_ids, transcript.language, transcript.finish_reason
    parts = [(each.start, each.end, each.text, each.finish_reason, each.repaired) for each in transcript.segments]
    has_logprobs = transcript.logprobs is not None and len(transcript.logprobs) == len(transcript.token_ids)
    return *text, transcript.context_echo, has_logprobs, parts


def streamed(recognizer: Recognizer, utterance: Utterance) -> list[Transcript]:
    """A provisional final behind partials, and the final."""
    asked = {name: getattr(utterance, name) for name in ("language", "context", "terms")}
    half, samples = len(utterance.samples) // 2, utterance.samples
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, samples[:half], **asked))
    run(schedule)
    send(schedule, partial(2, 9, samples[half:], **asked))
    run(schedule)
    send(schedule, [Provisional(3, 9, len(samples), NO_SAMPLES, logprobs=utterance.logprobs, **asked)])
    outcomes = run(schedule)
    send(schedule, finalize(4, 9, replace(utterance, samples=NO_SAMPLES)))
    outcomes += run(schedule)
    return [outcome.transcript for outcome in outcomes if isinstance(outcome, Finished)]


def test_each_kind_is_among_them(alone: list[Transcript]) -> None:
    found = [(each.context_echo, each.repaired) for each in alone]
    assert set(found) == {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("guard", [True, False])
def test_batched_is_alone(
    recognizer: Recognizer, utterances: list[Utterance], alone: list[Transcript], guard: bool
) -> None:
    got = recognizer.transcribe_batch(utterances, "batched", drift_guard=guard)
    assert [essence(each) for each in got] == [essence(each) for each in alone]
    assert [each.redecoded for each in got] == [1, 0, 0, 1, 0, 1, 0]  # those that may be an echo, and no loop


def test_streamed_and_provisional_are_whole(
    recognizer: Recognizer, utterances: list[Utterance], alone: list[Transcript]
) -> None:
    for utterance, whole in zip(utterances, alone, strict=True):
        for got in streamed(recognizer, utterance):
            assert essence(got) == essence(whole)
            assert bool(got.verified_tokens) == (not whole.context_echo and not whole.repaired)


def test_an_echo_in_a_loop_is_repaired_without_the_words(
    recognizer: Recognizer, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, given = Preparation.prepare, []

    def recorded(self: Preparation, segments: list) -> list:
        given.extend(segment.utterance.context for segment in segments)
        return prepare(self, segments)

    monkeypatch.setattr(Preparation, "prepare", recorded)
    monkeypatch.setattr(echo, "SURE", 2.0)
    monkeypatch.setattr(echo, "is_echo", lambda *_: True)
    utterance = utterances[3]
    whole = recognizer.transcribe(utterance)
    assert (whole.context_echo, whole.repaired) == (True, True)
    assert given == ["eight", "", "", ""]
    plain = recognizer.transcribe(replace(utterance, context=""))
    assert (whole.text, whole.raw_text, whole.token_ids) == (plain.text, plain.raw_text, plain.token_ids)
    [batched] = recognizer.transcribe_batch([utterance], "batched")
    for got in (batched, *streamed(recognizer, utterance)):
        assert essence(got) == essence(whole)


@pytest.mark.parametrize("mode", ["sequential", "batched", "streamed"])
def test_a_cancel_in_any_step_ends_it_and_nothing_else(
    recognizer: Recognizer, utterances: list[Utterance], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Echo, and then repair: a cancel at each preparation."""
    prepare, calls = Preparation.prepare, []
    monkeypatch.setattr(Preparation, "prepare", lambda *given: calls.append(1) or prepare(*given))
    monkeypatch.setattr(echo, "SURE", 2.0)
    monkeypatch.setattr(echo, "is_echo", lambda *_: True)
    utterance, other = utterances[3], utterances[4]
    for count in range(1, 4):
        schedule = recognizer.schedule()
        calls.clear()
        if mode == "streamed":
            send(schedule, partial(1, 9, utterance.samples, language="English", context="eight"))
            run(schedule)
            send(schedule, finalize(2, 9, replace(utterance, samples=NO_SAMPLES)))
        else:
            schedule.submit(Job(2, utterance, mode))
        while len(calls) < count:
            assert schedule.step() == []
        send(schedule, [Append(7, other.samples)])
        schedule.submit(Job(3, other, "sequential"))
        assert schedule.cancel(2).job_id == 2
        assert [outcome.job_id for outcome in run(schedule)] == [3]
        assert schedule.open_ids == []
