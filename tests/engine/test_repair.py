"""A segment that ends in a loop is decoded again in two parts, once. The demonstration does not loop, but the guard
takes one word that is said 25 times for a loop, and not a half of that."""

import numpy as np
import pytest
from support.engine_requests import finalize, partial, run, send
from support.repeated_word import one_word

from qwen3_asr_mlx_runtime.engine import repair
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Append, Failed, Finished, Job, Provisional
from qwen3_asr_mlx_runtime.engines.quiet import quiet_middle
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import GpuError, NonFiniteOutput, OutOfMemory
from qwen3_asr_mlx_runtime.model.generate import loops

TIMES = 25


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    recognizer = Recognizer.load("demo", dtype="float32")
    assert recognizer._streaming_drift.margin < 1  # measured now, and not in a step of a test
    return recognizer


@pytest.fixture(scope="module")
def word(repository) -> Samples:
    return one_word(repository)


@pytest.fixture(scope="module")
def looping(word) -> Samples:
    return np.tile(word, TIMES)


@pytest.fixture(scope="module")
def repaired(recognizer, looping) -> Transcript:
    return recognizer.transcribe(Utterance(looping, logprobs=True))


def essence(transcript: Transcript) -> tuple:
    parts = [(each.start, each.end, each.text, each.finish_reason, each.repaired) for each in transcript.segments]
    return transcript.text, transcript.raw_text, transcript.token_ids, transcript.finish_reason, parts


def transcripts(outcomes) -> list[Transcript]:
    return [outcome.transcript for outcome in outcomes if isinstance(outcome, Finished)]


def test_its_two_parts_are_what_they_are_alone(recognizer, looping, repaired):
    cut = quiet_middle(looping)
    first, second = (recognizer.transcribe(Utterance(part)) for part in (looping[:cut], looping[cut:]))
    assert (first.repaired, second.repaired) == (False, False)
    assert repaired.text == f"{first.text} {second.text}"
    assert repaired.token_ids == first.token_ids + second.token_ids
    assert repaired.audio_output_lengths == first.audio_output_lengths + second.audio_output_lengths
    assert [(each.start, each.end) for each in repaired.segments] == [(0, cut), (cut, len(looping))]
    assert (repaired.repaired, repaired.finish_reason) == (True, "stop")
    assert abs(len(repaired.text.split()) - TIMES) <= 1  # it has heard them all


def test_the_loop_stays_in_the_raw_text_and_in_the_profile(recognizer, looping, repaired, monkeypatch):
    monkeypatch.setattr(repair, "MIN_SECONDS", 60.0)
    looped = recognizer.transcribe(Utterance(looping))
    assert loops(looped.token_ids)
    assert (looped.repaired, looped.finish_reason) == (False, "repetition")
    assert repaired.raw_text == looped.raw_text
    assert repaired.profile.generated_tokens_total == len(looped.token_ids) + len(repaired.token_ids)
    assert repaired.profile.audio_output_lengths == [*repaired.audio_output_lengths]
    assert repaired.profile.audio_samples == looped.profile.audio_samples
    profile = repaired.profile
    stages = (profile.feature_extract_seconds, profile.prompt_assembly_seconds, profile.audio_tower_seconds)
    assert profile.total_seconds == pytest.approx(sum(stages) + profile.decode_seconds, abs=1e-3)


def test_every_token_of_the_parts_has_its_probability(repaired):
    assert len(repaired.logprobs) == len(repaired.token_ids)
    for segment in repaired.segments:
        assert segment.token_ends[-1] == len(segment.text)


@pytest.mark.parametrize("guard", [True, False])
def test_in_a_batch_it_is_the_same(recognizer, looping, word, repaired, guard):
    beside = [Utterance(word), Utterance(looping, logprobs=True), Utterance(np.tile(word, 3))]
    _, got, _ = recognizer.transcribe_batch(beside, "batched", drift_guard=guard)
    assert essence(got) == essence(repaired)


def test_a_final_behind_partials_is_the_same_and_the_partial_is_not_repaired(recognizer, looping, repaired):
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, looping))
    [done] = run(schedule)
    assert done.hypothesis.text != repaired.text
    send(schedule, finalize(2, 9, Utterance(NO_SAMPLES, logprobs=True)))
    [final] = transcripts(run(schedule))
    assert essence(final) == essence(repaired)
    assert final.verified_tokens == 0


@pytest.mark.parametrize("listens", [True, False])
def test_a_final_ahead_of_the_boundary_is_the_same(recognizer, looping, repaired, listens):
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, looping) if listens else [Append(9, looping)])
    run(schedule)
    send(schedule, [Provisional(2, 9, len(looping), NO_SAMPLES, logprobs=True)])
    [ahead] = transcripts(run(schedule))
    assert essence(ahead) == essence(repaired)
    schedule.forget(9)


def test_of_long_audio_only_the_segment_that_loops_is_repaired(recognizer, looping, word):
    pause = np.zeros(6 * SAMPLE_RATE, np.float32)  # in which it is cut
    limit = len(looping) / SAMPLE_RATE + 5.0
    recognizer = Recognizer(recognizer.model, recognizer._tokenizer, max_segment_seconds=limit)
    long = np.concatenate([looping, pause, word, word])
    whole = recognizer.transcribe(Utterance(long))
    assert [each.repaired for each in whole.segments] == [True, True, False]
    assert [each.end for each in whole.segments[:-1]] == [each.start for each in whole.segments[1:]]
    schedule = recognizer.schedule()
    send(schedule, partial(1, 9, long))
    [done] = run(schedule)
    assert done.hypothesis.text == whole.text  # a segment that has ended has its final text
    send(schedule, finalize(2, 9, Utterance(NO_SAMPLES)))
    assert [essence(each) for each in transcripts(run(schedule))] == [essence(whole)]


def test_the_languages_of_the_parts_are_chosen_again(recognizer, looping):
    got = recognizer.transcribe(Utterance(looping, languages=("English", "Arabic")))
    assert (got.repaired, got.language) == (True, "English")
    assert got.language_probabilities["English"] > 0.5


def test_a_part_that_loops_again_stays_as_it_is(recognizer, word):
    got = recognizer.transcribe(Utterance(np.tile(word, 44)))
    assert (got.repaired, got.finish_reason, len(got.segments)) == (True, "repetition", 2)


def fail_in_the_second_part(monkeypatch, error):
    prepare, calls = Preparation.prepare, []

    def failing(self, segments):
        calls.append(segments)
        if len(calls) == 3:
            raise error
        return prepare(self, segments)

    monkeypatch.setattr(Preparation, "prepare", failing)
    return calls


NO_MEMORY = [OutOfMemory("planted"), RuntimeError("[malloc] Unable to allocate 8 bytes."), MemoryError()]


@pytest.mark.parametrize("error", [*NO_MEMORY, NonFiniteOutput("planted")], ids=lambda error: type(error).__name__)
def test_row_127_without_memory_or_numbers_for_the_repair_the_loop_stays(recognizer, looping, monkeypatch, error):
    calls = fail_in_the_second_part(monkeypatch, error)
    got = recognizer.transcribe(Utterance(looping))
    assert (got.repaired, got.finish_reason, len(calls)) == (False, "repetition", 3)


def test_another_failure_of_the_repair_is_one_of_its_text(recognizer, looping, monkeypatch):
    fail_in_the_second_part(monkeypatch, RuntimeError("cudaError planted"))
    with pytest.raises(GpuError):
        recognizer.transcribe(Utterance(looping))


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_a_cancel_ends_it_between_the_parts(recognizer, looping, monkeypatch, mode):
    prepare, calls = Preparation.prepare, []
    monkeypatch.setattr(Preparation, "prepare", lambda *arguments: calls.append(1) or prepare(*arguments))
    schedule = recognizer.schedule()
    schedule.submit(Job(1, Utterance(looping), mode))
    while len(calls) < 2:
        assert schedule.step() == []
    cancelled = schedule.cancel(1)
    assert isinstance(cancelled, Failed)
    assert cancelled.error.code == "cancelled"
    assert not schedule.is_busy
