"""Languages to choose from: the same choice alone, in a batch, in a stream; and the text of the one that is chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agreement import compare as compare_batched
from live_agreement import compare as compare_streamed
from live_agreement import random_utterances
from support.engine_requests import partial, run, send
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine import continuous_batch, sequence, single, streaming_segment
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence
from qwen3_asr_mlx_runtime.engines.api import Append, Failed, Finished, Job, PartialDone, Provisional
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift

BOTH = ("English", "Arabic")
EVERY = tuple(LANGUAGE_CODES)


@pytest.fixture(scope="module")
def demo() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def random(demo: Recognizer) -> Recognizer:
    """Random weights, whose choices vary with the audio."""
    model = tiny_model(audio_token_id=demo.model.config.audio_token_id, vocab_size=demo._tokenizer.size)
    return Recognizer(model, demo._tokenizer, max_segment_seconds=4.0)


@pytest.fixture(scope="module")
def clips(repository: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_file(str(path)).samples for path in (repository / "examples/audio").glob("*.wav")}


def noises(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.3, 7, count) * SAMPLE_RATE
    return [(rng.standard_normal(int(length)) * rng.uniform(0.01, 0.3)).astype(np.float32) for length in lengths]


def test_the_text_is_that_of_the_chosen_language(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    chosen = set()
    for samples in clips.values():
        free = demo.transcribe(Utterance(samples))
        among = demo.transcribe(Utterance(samples, languages=BOTH))
        named = demo.transcribe(Utterance(samples, language=among.language or "None"))
        assert (among.text, among.token_ids, among.raw_text) == (named.text, named.token_ids, named.raw_text)
        assert (among.text, among.language) == (free.text, free.language)
        assert set(among.language_probabilities) == set(BOTH)
        assert 0 < sum(among.language_probabilities.values()) <= 1 + 1e-6
        assert free.language_probabilities is None
        chosen.add(among.language)
    assert chosen >= set(BOTH)


def test_no_language_is_always_allowed(demo: Recognizer) -> None:
    silence = Utterance(np.zeros(SAMPLE_RATE, np.float32), languages=BOTH)
    transcript = demo.transcribe(silence)
    assert (transcript.text, transcript.language, transcript.raw_text) == ("", None, "")
    assert sum(transcript.language_probabilities.values()) < 0.01
    nothing = demo.transcribe(replace(silence, samples=NO_SAMPLES))
    assert (nothing.text, nothing.language, nothing.language_probabilities) == ("", None, None)


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_probabilities_are_the_mean_of_the_segments_by_their_length(
    demo: Recognizer, random: Recognizer, mode: str
) -> None:
    [samples] = noises(1, 7)
    samples = np.tile(samples, 3)[: 10 * SAMPLE_RATE]
    [whole] = random.transcribe_batch([Utterance(samples, languages=BOTH, max_new_tokens=3)], mode)
    assert len(whole.segments) > 1
    parts = [
        random.transcribe(Utterance(samples[each.start : each.end], languages=BOTH, max_new_tokens=3))
        for each in whole.segments
    ]
    for language in BOTH:
        weighted = sum(
            part.language_probabilities[language] * (each.end - each.start)
            for part, each in zip(parts, whole.segments, strict=True)
        )
        assert whole.language_probabilities[language] == pytest.approx(weighted / len(samples), rel=1e-4)


@pytest.mark.once
def test_batched_is_alone(random: Recognizer) -> None:
    rng = np.random.default_rng(5)
    utterances = [
        Utterance(samples, languages=tuple(rng.permutation(EVERY)[: rng.integers(1, 31)]), max_new_tokens=20)
        for samples in noises(24, 3)
    ]
    assert compare_batched(random, utterances, rows=6)["equal_with_guard"] == len(utterances)
    assert len({random.transcribe(utterance).language for utterance in utterances}) > 3


def test_batched_is_alone_beside_rows_that_choose_nothing(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    asked = [BOTH, (), ("English",), EVERY]
    jobs = [
        Job(number, Utterance(samples, languages=asked[number % 4]), "batched")
        for number, samples in enumerate(clips.values())
    ]
    for outcome, job in zip(demo.outcomes(jobs), jobs, strict=True):
        alone = demo.transcribe(job.utterance)
        assert isinstance(outcome, Finished)
        assert (outcome.transcript.token_ids, outcome.transcript.language) == (alone.token_ids, alone.language)
        assert outcome.transcript.language_probabilities == alone.language_probabilities


def test_a_batch_of_chosen_languages_has_the_log_probabilities_that_were_asked_for(
    demo: Recognizer, clips: dict[str, np.ndarray]
) -> None:
    utterances = [Utterance(samples, languages=BOTH, logprobs=True) for samples in clips.values()]
    for utterance, together in zip(utterances, demo.transcribe_batch(utterances, "batched"), strict=True):
        assert together.logprobs == pytest.approx(demo.transcribe(utterance).logprobs, abs=1e-3)


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streamed_is_whole(dtype: str) -> None:
    recognizer = Recognizer.load("demo", dtype=dtype)
    drawn = random_utterances(6, 1, seed=31) if dtype == "float32" else random_utterances(2, 0, seed=32)
    utterances = [replace(utterance, languages=BOTH) for utterance in drawn]
    found = compare_streamed(recognizer, utterances, seed=3)
    assert found["different"] == []
    assert found["final_tokens_verified"] > 0


def test_a_provisional_is_whole(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    for samples in clips.values():
        schedule = demo.schedule()
        send(schedule, partial(1, 2, samples, languages=BOTH))
        [hypothesis] = run(schedule)
        send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, languages=BOTH)])
        [outcome] = run(schedule)
        whole = demo.transcribe(Utterance(samples, languages=BOTH))
        assert isinstance(hypothesis, PartialDone)
        assert hypothesis.hypothesis.language == whole.language
        assert outcome.transcript.verified_tokens  # its draft is that of the partial
        assert (outcome.transcript.token_ids, outcome.transcript.language) == (whole.token_ids, whole.language)
        assert outcome.transcript.language_probabilities == pytest.approx(whole.language_probabilities, abs=1e-6)


def test_a_draft_of_other_languages_is_not_used(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    samples = clips["sample"]
    schedule = demo.schedule()
    send(schedule, partial(1, 2, samples))
    run(schedule)
    send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, languages=("Arabic",))])
    [outcome] = run(schedule)
    assert outcome.transcript.token_ids == demo.transcribe(Utterance(samples, languages=("Arabic",))).token_ids


def with_margin(monkeypatch: pytest.MonkeyPatch, module: object, margin: float) -> None:
    choose = module.with_language

    def doubtful(model, decoder_input):
        named = choose(model, decoder_input)
        return named if named.choice is None else replace(named, choice=named.choice._replace(margin=margin))

    monkeypatch.setattr(module, "with_language", doubtful)


def test_a_doubtful_choice_in_a_batch_is_made_again_alone(
    demo: Recognizer, clips: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    utterance = Utterance(clips["sample"], languages=BOTH)
    alone = demo.transcribe(utterance)
    [sure] = demo.transcribe_batch([utterance], "batched")
    with_margin(monkeypatch, continuous_batch, 0.0)
    [doubtful] = demo.transcribe_batch([utterance], "batched")
    [unguarded] = demo.transcribe_batch([utterance], "batched", drift_guard=False)
    assert [each.redecoded for each in (sure, doubtful, unguarded)] == [0, 1, 0]
    assert sure.token_ids == doubtful.token_ids == unguarded.token_ids == alone.token_ids
    assert doubtful.language_probabilities == alone.language_probabilities


def test_a_doubtful_choice_in_a_stream_is_made_again_alone(
    demo: Recognizer, clips: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, made = clips["sample"], []
    monkeypatch.setattr(StreamingDrift, "is_known", True)
    monkeypatch.setattr(StreamingDrift, "margin", 1e-6)
    choose = sequence.with_language
    monkeypatch.setattr(single, "decode_alone", lambda *_, **__: pytest.fail("decoded from the beginning"))
    monkeypatch.setattr(sequence, "with_language", lambda *inputs: made.append(1) or choose(*inputs))
    with_margin(monkeypatch, streaming_segment, 0.0)
    schedule = demo.schedule()
    send(schedule, partial(1, 2, samples, languages=BOTH))
    run(schedule)
    send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, languages=BOTH)])
    [outcome] = run(schedule)
    assert (made, outcome.transcript.verified_tokens) == ([1], 0)
    monkeypatch.undo()
    assert outcome.transcript.token_ids == demo.transcribe(Utterance(samples, languages=BOTH)).token_ids


def test_a_doubtful_final_of_a_packing_tower_is_prepared_again_with_its_languages(
    demo: Recognizer, clips: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = clips["sample"]
    monkeypatch.setattr(Preparation, "packs", True)
    monkeypatch.setattr(StreamingDrift, "is_known", True)
    monkeypatch.setattr(StreamingDrift, "margin", float("inf"))
    schedule = demo.schedule()
    send(schedule, partial(1, 2, samples, languages=BOTH))
    run(schedule)
    send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, languages=BOTH)])
    [outcome] = run(schedule)
    whole = demo.transcribe(Utterance(samples, languages=BOTH))
    assert (outcome.transcript.raw_text, outcome.transcript.language) == (whole.raw_text, whole.language)
    assert outcome.transcript.language_probabilities == pytest.approx(whole.language_probabilities)


@pytest.mark.parametrize("files", [8, 16])
def test_a_live_job_does_not_wait_until_the_languages_of_files_are_chosen(
    demo: Recognizer, clips: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(Preparation, "packs", True)
    demo.transcribe_batch([Utterance(clips["sample"])], "batched")  # measures the drift
    chosen, choose = [], continuous_batch.with_language
    monkeypatch.setattr(continuous_batch, "with_language", lambda *inputs: chosen.append(1) or choose(*inputs))
    utterance = Utterance(clips["sample"], languages=BOTH)
    schedule = demo.schedule()
    for number in range(files):
        schedule.submit(Job(number, utterance, "batched"))
    schedule.step()
    schedule.submit(Job(files, utterance, "batched", interactive=True))
    while not any(row.recognition.job.interactive for row in schedule._batching._rows.values()):
        schedule.step()
    assert len(chosen) == 1
    assert len(run(schedule)) == files + 1


def test_a_cancelled_job_has_no_language_chosen(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    schedule = demo.schedule()
    schedule.submit(Job(0, Utterance(clips["sample"], languages=BOTH), "batched"))
    while not schedule._batching._unnamed:
        schedule.step()
    assert schedule.cancel(0) is not None
    assert not schedule._batching.is_busy


def test_a_choice_that_fails_in_a_batch_is_made_alone_and_fails_one_job(
    demo: Recognizer, clips: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NonFiniteOutput("planted")

    utterances = [Utterance(clips["sample"], languages=BOTH), Utterance(clips["sample"])]
    expected = demo.transcribe(utterances[1]).token_ids
    monkeypatch.setattr(continuous_batch, "with_language", fail)
    jobs = [Job(number, utterance, "batched") for number, utterance in enumerate(utterances)]
    assert [outcome.transcript.token_ids[-5:] for outcome in demo.outcomes(jobs)] == [expected[-5:]] * 2
    monkeypatch.setattr(sequence, "with_language", fail)
    failed, other = demo.outcomes(jobs)
    assert isinstance(failed, Failed)
    assert failed.error.code == "non_finite_output"
    assert other.transcript.token_ids == expected


def test_a_cancel_while_languages_are_chosen_ends_its_job_and_no_other(
    demo: Recognizer, clips: dict[str, np.ndarray]
) -> None:
    utterance = Utterance(clips["sample"], languages=BOTH)
    for steps in range(5):
        schedule = demo.schedule()
        for number in range(3):
            schedule.submit(Job(number, utterance, "batched"))
        for _ in range(steps):
            schedule.step()
        assert schedule.cancel(1) is not None
        outcomes = run(schedule)
        assert sorted(outcome.job_id for outcome in outcomes) == [0, 2]
        assert {outcome.transcript.text for outcome in outcomes} == {"Seven three one."}


def test_appended_audio_is_ended_as_it_was_asked(demo: Recognizer, clips: dict[str, np.ndarray]) -> None:
    schedule = demo.schedule()
    send(schedule, [Append(2, clips["sample"]), Provisional(3, 2, 16_000, NO_SAMPLES, languages=BOTH)])
    [outcome] = run(schedule)
    whole = demo.transcribe(Utterance(clips["sample"][:16_000], languages=BOTH))
    assert outcome.transcript.language_probabilities == whole.language_probabilities


def test_the_name_and_the_budget_stay_within_the_models_positions(
    demo: Recognizer, clips: dict[str, np.ndarray]
) -> None:
    positions = demo.model.config.text.max_position_embeddings
    utterance = Utterance(clips["sample"], languages=EVERY, max_new_tokens=positions)
    job = JobSequence.of(Job(1, utterance), demo._preparation)
    [prepared] = demo._preparation.prepare(job.segments)
    longest = max(map(len, prepared.names.values()))
    assert prepared.embeddings.shape[1] + longest + prepared.max_new_tokens == positions
