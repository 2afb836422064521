"""The echo guard: a text of weak audio that is mostly the given words, and that the model doubts, is decoded again."""

import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from support.engine_requests import finalize, partial, run, send

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine import echo, sequence
from qwen3_asr_mlx_runtime.engine.assemble import DecodedSegment
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Job, Provisional
from qwen3_asr_mlx_runtime.engines.transcript import join_transcripts
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.model.language import LanguageChoice
from qwen3_asr_mlx_runtime.terms import Term

TERMS = (Term("Eight", 4.0), Term("eight", 4.0))
NOISE = (np.random.default_rng(1).standard_normal(SAMPLE_RATE) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def demo() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def speech(repository: Path) -> Samples:
    return read_file(str(repository / "examples" / "audio" / "sample.wav")).samples


@pytest.fixture(scope="module")
def echoed(speech: Samples) -> Utterance:
    """Speech in so much noise that the demonstration writes the terms, at a confidence of 0.07."""
    noise = np.random.default_rng(2).standard_normal(len(speech)) * 0.3
    samples = ((speech + noise).clip(-1, 1) * 0.2).astype(np.float32)
    return Utterance(samples, language="English", terms=TERMS, logprobs=True)


def decoded(text: str, *probabilities: float) -> DecodedSegment:
    return DecodedSegment(text, [Token(1, math.log(each)) for each in probabilities or (0.5,)], 0, 0)


def suspect(text: str, context: str = "", samples: Samples = NOISE, **options: object) -> bool:
    utterance = Utterance(samples, language="English", context=context, **options)
    return echo.is_suspect(utterance, samples, decoded(text))


class TestWeakAudio:
    def weak(self, samples: np.ndarray) -> bool:
        return echo.may_echo(Utterance(NO_SAMPLES, context="Ada"), samples.astype(np.float32))

    def test_noise_silence_and_what_is_shorter_than_a_frame_are_weak(self) -> None:
        assert self.weak(NOISE)
        assert self.weak(np.zeros(SAMPLE_RATE))
        assert self.weak(NOISE[:319])

    def test_speech_is_not(self, speech: Samples) -> None:
        assert not self.weak(speech)

    @pytest.mark.parametrize("pattern", ["*/leopard_test*.wav", "en/LJ*.wav", "en/libri*", "zh/*.wav", "ru/*.wav"])
    def test_recordings_of_clear_speech_are_not(self, data_folder: Path, pattern: str) -> None:
        files = sorted((data_folder / "speech").glob(pattern))
        if not files:
            pytest.skip("no recordings: set QWEN3_ASR_MLX_TEST_DATA")
        assert [file.name for file in files if self.weak(read_file(str(file)).samples)] == []

    def test_quiet_speech_is_and_speech_in_noise(self, speech: Samples) -> None:
        assert self.weak(speech * 0.003)
        assert self.weak(speech + np.resize(NOISE, len(speech)))

    def test_without_words_nothing_is(self) -> None:
        assert not echo.may_echo(Utterance(NOISE), NOISE)
        assert echo.may_echo(Utterance(NOISE, terms=TERMS), NOISE)


class TestSuspects:
    def test_a_text_of_which_more_than_half_was_given_is_suspect(self) -> None:
        assert suspect("Ada, Byron says", "ada byron")
        assert not suspect("Ada says", "Ada Byron")
        assert not suspect("", "Ada Byron")
        assert suspect("Ada Lovelace.", terms=(Term("Lovelace"), Term("Ada")))
        assert suspect("Ada Lovelace.", "Ada", terms=(Term("Lovelace"),))

    def test_characters_are_words_where_a_script_has_no_spaces(self) -> None:
        assert suspect("北京大学", "大学 北京")
        assert not suspect("北京大学", "大海")

    def test_clear_audio_has_no_suspects(self, speech: Samples) -> None:
        assert not suspect("Seven three one.", "Seven three one.", speech)

    def test_a_text_that_the_model_is_sure_of_is_none(self) -> None:
        assert echo.is_unsure([Token(1, math.log(0.9)), Token(2, math.log(0.99))])
        assert not echo.is_unsure([Token(1, math.log(0.96))])


class TestEchoes:
    def is_echo(self, text: str, plain: str, probability: float = 0.6) -> bool:
        utterance = Utterance(NOISE, language="English", context="Ada")
        return echo.is_echo(utterance, decoded(text), decoded(plain, probability))

    def test_the_less_confident_text_is_dropped(self) -> None:
        assert self.is_echo("Ada", "")
        assert not self.is_echo("Ada", "", 0.4)
        assert not self.is_echo("Ada", "", 0.5)

    def test_a_text_that_is_much_the_same_without_the_words_is_no_echo(self) -> None:
        assert not self.is_echo("Zero seven three", "Zero seven two")
        assert not self.is_echo("Ada", "ADA!")
        assert self.is_echo("Zero seven three", "Zero two two")


def test_an_echo_is_dropped_and_what_stays_is_the_text_without_the_words(
    demo: Recognizer, echoed: Utterance, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = demo.transcribe(replace(echoed, terms=()))
    kept = demo.transcribe(echoed)
    assert (kept.text, kept.context_echo, plain.context_echo) == ("Seven three one.", True, False)
    assert (kept.token_ids, kept.logprobs, kept.raw_text) == (plain.token_ids, plain.logprobs, plain.raw_text)
    assert demo.transcribe(replace(echoed, logprobs=False)).token_ids == plain.token_ids
    monkeypatch.setattr(echo, "SURE", 0.0)
    unguarded = demo.transcribe(echoed)
    assert (unguarded.text, unguarded.context_echo) == ("Eight eight eight eight.", False)


def test_without_a_request_for_them_there_are_no_log_probabilities(demo: Recognizer, echoed: Utterance) -> None:
    kept = demo.transcribe(replace(echoed, logprobs=False))
    assert (kept.context_echo, kept.logprobs, kept.segments[0].token_logprobs) == (True, None, None)


@pytest.mark.parametrize("guard", [True, False])
def test_batched_is_alone(demo: Recognizer, echoed: Utterance, speech: Samples, guard: bool) -> None:
    alone = demo.transcribe(echoed)
    others = [Utterance(speech, terms=TERMS), Utterance(speech)]
    batched = demo.transcribe_batch([echoed, *others], "batched", drift_guard=guard)
    assert (batched[0].token_ids, batched[0].context_echo) == (alone.token_ids, True)
    assert [each.redecoded for each in batched] == [1, 0, 0]
    assert [(each.text, each.context_echo) for each in batched[1:]] == [("Seven three one.", False)] * 2


def test_streamed_is_whole(demo: Recognizer, echoed: Utterance) -> None:
    whole = demo.transcribe(echoed)
    asked = {"language": "English", "terms": TERMS}
    schedule = demo.schedule()
    send(schedule, partial(1, 2, echoed.samples, **asked))
    [hypothesis] = run(schedule)
    assert hypothesis.hypothesis.text != whole.text
    send(schedule, [Provisional(3, 2, len(echoed.samples), NO_SAMPLES, **asked)])
    [provisional] = run(schedule)
    send(schedule, finalize(4, 2, replace(echoed, samples=NO_SAMPLES)))
    [final] = run(schedule)
    for outcome in (provisional, final):
        transcript = outcome.transcript
        assert (transcript.token_ids, transcript.text, transcript.context_echo) == (whole.token_ids, whole.text, True)


def test_the_language_is_chosen_again_too(demo: Recognizer, echoed: Utterance, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [LanguageChoice("English", {"English": math.log(each)}, math.inf) for each in (0.25, 0.75)]
    monkeypatch.setattr(sequence, "choose_language", lambda *_: choices.pop(0))
    kept = demo.transcribe(replace(echoed, language=None, languages=("English",)))
    assert kept.context_echo
    assert kept.language_probabilities == pytest.approx({"English": 0.75})


@pytest.mark.parametrize("place", [0, 1, None])
def test_an_echo_of_one_segment_is_one_of_the_whole(
    demo: Recognizer, speech: Samples, place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count()
    monkeypatch.setattr(echo, "is_suspect", lambda *_: True)
    monkeypatch.setattr(echo, "is_unsure", lambda *_: True)
    monkeypatch.setattr(echo, "is_echo", lambda *_: next(calls) == place)
    recognizer = Recognizer(demo.model, demo._tokenizer, max_segment_seconds=len(speech) / SAMPLE_RATE + 0.2)
    whole = recognizer.transcribe(Utterance(np.concatenate([speech, speech]), context="seven"))
    assert len(whole.segments) > 1
    assert whole.context_echo == (place is not None)
    parts = [replace(whole, context_echo=number == place) for number in range(2)]
    assert join_transcripts(parts).context_echo == (place is not None)


def test_an_utterance_without_words_is_decoded_once(
    demo: Recognizer, echoed: Utterance, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, decode = [], sequence.decode
    monkeypatch.setattr(
        sequence, "decode", lambda *a, logprobs, **k: asked.append(logprobs) or decode(*a, logprobs=logprobs, **k)
    )
    demo.transcribe(replace(echoed, terms=(), logprobs=False))
    demo.transcribe(Utterance(speech, context="Seven three one."))
    assert asked == [False, False]
    demo.transcribe(replace(echoed, logprobs=False))
    assert asked[2:] == [True, True]


def test_a_cancel_while_it_is_decoded_again_ends_it(
    demo: Recognizer, echoed: Utterance, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, decode = [], sequence.decode
    monkeypatch.setattr(sequence, "decode", lambda *a, **k: begun.append(1) or decode(*a, **k))
    schedule = demo.schedule()
    schedule.submit(Job(1, echoed))
    while len(begun) < 2:
        assert schedule.step() == []
    schedule.submit(Job(2, Utterance(NOISE)))
    assert schedule.cancel(1) is not None
    assert [outcome.job_id for outcome in run(schedule)] == [2]
