"""Terms: the same text alone, in a batch, in a stream and ahead of its boundary; and what they do to a text."""

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from agreement import compare as compare_batched
from live_agreement import compare as compare_streamed
from live_agreement import random_utterances
from support.engine_requests import finalize, partial, run, send
from support.marks import rest_once
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine import echo, streaming_utterance
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Finished, Job, Provisional
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift
from qwen3_asr_mlx_runtime.terms import Term

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHRASE = (Term("nine nine nine", 4.0),)


def all_but(*spoken: str, weight: float = 4.0) -> tuple[Term, ...]:
    return tuple(Term(word, weight) for word in DIGITS if word not in spoken)


@pytest.fixture(scope="module")
def demo() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def random(demo: Recognizer) -> Recognizer:
    """Random weights, whose texts vary with the audio and the terms."""
    model = tiny_model(audio_token_id=demo.model.config.audio_token_id, vocab_size=demo._tokenizer.size)
    return Recognizer(model, demo._tokenizer, max_segment_seconds=4.0)


@pytest.fixture(scope="module")
def speech(repository: Path) -> np.ndarray:
    return read_file(str(repository / "examples" / "audio" / "sample.wav")).samples


@pytest.fixture(autouse=True)
def no_echo_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would drop much of what terms do in noise."""
    monkeypatch.setattr(echo, "SURE", 0.0)


def noisy(samples: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(len(samples)) * level
    return (samples + noise).clip(-1, 1).astype(np.float32)


def drawn_terms(rng: np.random.Generator) -> tuple[Term, ...]:
    """Words and phrases that random weights write too, with weights up to 4."""
    words = [*DIGITS, "Ada Lovelace", "nine five", "two two two", "صفر", "e", " a", "The"]
    return tuple(Term(str(word), float(rng.uniform(0.5, 4))) for word in rng.permutation(words)[: rng.integers(1, 12)])


def test_terms_decide_where_the_model_is_in_doubt_and_change_no_log_probability(
    demo: Recognizer, speech: np.ndarray
) -> None:
    changed = 0
    for seed in range(12):
        utterance = Utterance(noisy(speech, 0.3, seed), language="English", logprobs=True)
        plain = demo.transcribe(utterance)
        biased = demo.transcribe(replace(utterance, terms=all_but("seven", "three", "one")))
        changed += plain.text != biased.text
        pairs = zip(plain.token_ids, biased.token_ids, strict=False)
        same = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        assert biased.logprobs[:same] == pytest.approx(plain.logprobs[:same], abs=1e-5)
        if same < len(plain.token_ids):
            assert biased.logprobs[same] < plain.logprobs[same]
    assert changed > 2


def test_a_clear_text_stays(demo: Recognizer, speech: np.ndarray) -> None:
    for language in (None, "English"):
        plain = demo.transcribe(Utterance(speech, language))
        assert demo.transcribe(Utterance(speech, language, terms=PHRASE)).token_ids == plain.token_ids
        assert plain.text == "Seven three one."


def test_terms_without_weight_are_none(demo: Recognizer) -> None:
    prompt = demo._preparation.prompt(Utterance(NO_SAMPLES, terms=(Term("nine", 0.0),)))
    assert prompt.terms is None


def test_a_term_counts_with_and_without_a_space_and_only_within_the_text(demo: Recognizer) -> None:
    terms = (Term(" nine ", 1.5),)
    encode = demo._tokenizer.encode
    [bare], [spaced], tag = encode("nine"), encode(" nine"), demo._tokenizer.token_id("<asr_text>")
    free = demo._preparation.prompt(Utterance(NO_SAMPLES, terms=terms)).terms
    assert (free.bonuses([]), free.bonuses([tag])) == ({}, {bare: 1.5, spaced: 1.5})
    for how in ({"language": "English"}, {"languages": ("English", "Arabic")}):
        assert demo._preparation.prompt(Utterance(NO_SAMPLES, terms=terms, **how)).terms.bonuses([]) != {}


def test_half_a_surrogate_pair_is_no_error(demo: Recognizer, speech: np.ndarray) -> None:
    assert demo.transcribe(Utterance(speech, terms=(Term("Ada \ud800"),))).text == "Seven three one."


@pytest.mark.once
def test_batched_is_alone(random: Recognizer) -> None:
    rng = np.random.default_rng(5)
    utterances = [
        Utterance(
            (rng.standard_normal(int(rng.uniform(0.3, 7) * SAMPLE_RATE)) * rng.uniform(0.01, 0.3)).astype(np.float32),
            language=[None, "English", "Arabic"][number % 3],
            max_new_tokens=20,
            terms=drawn_terms(rng) if number % 4 else (),
        )
        for number in range(24)
    ]
    assert compare_batched(random, utterances, rows=6)["equal_with_guard"] == len(utterances)
    alone = [random.transcribe(utterance).token_ids for utterance in utterances]
    plain = [random.transcribe(replace(utterance, terms=())).token_ids for utterance in utterances]
    assert sum(pair[0] != pair[1] for pair in zip(alone, plain, strict=True)) > 8


@pytest.mark.parametrize("dtype", rest_once(["float32", "bfloat16"]))
def test_batched_is_alone_in_noise(dtype: str, speech: np.ndarray) -> None:
    recognizer = Recognizer.load("demo", dtype=dtype)
    asked = [all_but("seven"), (), PHRASE, all_but(weight=1.0)]
    jobs = [
        Job(number, Utterance(noisy(speech, 0.3, number), terms=asked[number % 4]), "batched") for number in range(12)
    ]
    for outcome, job in zip(recognizer.outcomes(jobs), jobs, strict=True):
        assert isinstance(outcome, Finished)
        assert outcome.transcript.token_ids == recognizer.transcribe(job.utterance).token_ids


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_streamed_is_whole(dtype: str) -> None:
    recognizer = Recognizer.load("demo", dtype=dtype)
    drawn = random_utterances(6, 1, seed=31) if dtype == "float32" else random_utterances(2, 0, seed=32)
    utterances = [replace(utterance, terms=all_but("seven")) for utterance in drawn]
    found = compare_streamed(recognizer, utterances, seed=3)
    assert found["different"] == []
    assert found["final_tokens_verified"] > 0


def test_a_provisional_is_whole(demo: Recognizer, speech: np.ndarray) -> None:
    for seed in range(4):
        samples, terms = noisy(speech, 0.3, seed), all_but("seven", "three", "one")
        schedule = demo.schedule()
        send(schedule, partial(1, 2, samples, terms=terms))
        [hypothesis] = run(schedule)
        send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, terms=terms)])
        [outcome] = run(schedule)
        whole = demo.transcribe(Utterance(samples, terms=terms))
        assert hypothesis.hypothesis.text == whole.text
        assert outcome.transcript.verified_tokens  # its draft is that of the partial
        assert outcome.transcript.token_ids == whole.token_ids


def test_a_draft_of_other_terms_is_not_used(demo: Recognizer, speech: np.ndarray) -> None:
    terms, changed = all_but("seven", "three", "one"), 0
    for seed in range(6):
        samples = noisy(speech, 0.3, seed)
        whole = demo.transcribe(Utterance(samples, "English", terms=terms))
        changed += whole.text != demo.transcribe(Utterance(samples, "English")).text
        schedule = demo.schedule()
        send(schedule, partial(1, 2, samples, language="English"))
        run(schedule)
        send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, "English", terms=terms)])
        [provisional] = run(schedule)
        send(schedule, finalize(4, 2, Utterance(NO_SAMPLES, "English", terms=terms)))
        [final] = run(schedule)
        for outcome in (provisional, final):
            assert outcome.transcript.verified_tokens is None
            assert outcome.transcript.token_ids == whole.token_ids
    assert changed > 1


def test_a_doubtful_final_is_decoded_alone_with_its_terms(
    demo: Recognizer, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, terms, decoded = noisy(speech, 0.3, 1), all_but("seven", "three", "one"), []
    decode = streaming_utterance.decode_alone
    monkeypatch.setattr(StreamingDrift, "is_known", True)
    monkeypatch.setattr(StreamingDrift, "margin", float("inf"))
    monkeypatch.setattr(streaming_utterance, "decode_alone", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    schedule = demo.schedule()
    send(schedule, partial(1, 2, samples, terms=terms))
    run(schedule)
    send(schedule, [Provisional(3, 2, len(samples), NO_SAMPLES, terms=terms)])
    [outcome] = run(schedule)
    assert decoded == [1]
    assert outcome.transcript.token_ids == demo.transcribe(Utterance(samples, terms=terms)).token_ids
