"""The final of an utterance that was streamed is that of the same samples whole."""

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from live_agreement import compare, joined_examples, random_utterances
from support.engine_requests import finalize, partial, run, send

from qwen3_asr_mlx_runtime.engine import streaming_segment
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Finished, PartialDone
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import OutOfMemory
from qwen3_asr_mlx_runtime.model.decoder import KVCache
from qwen3_asr_mlx_runtime.model.drift import StreamingDrift
from qwen3_asr_mlx_runtime.model.generate import Token
from qwen3_asr_mlx_runtime.model.speculative import DraftResult

SPEECH = 7


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo", dtype="float32")


@pytest.fixture(scope="module")
def utterance() -> Utterance:
    [drawn] = [one for one in random_utterances(8, 0, 2) if 9 < one.seconds < 14]
    return drawn


def set_margin(monkeypatch: pytest.MonkeyPatch, margin: float) -> None:
    """As if the drift had been measured: infinite, no token of a draft is trusted; 0, each is."""
    monkeypatch.setattr(StreamingDrift, "is_known", True)
    monkeypatch.setattr(StreamingDrift, "margin", margin)


def partials(schedule: EngineScheduler, samples: np.ndarray, seconds: float = 1.0, **options) -> list[PartialDone]:
    """Append samples, and compute a partial every so many seconds."""
    done = []
    for number, start in enumerate(range(0, len(samples), int(seconds * SAMPLE_RATE))):
        more = samples[start : start + int(seconds * SAMPLE_RATE)]
        send(schedule, partial(100 + number, SPEECH, more, **options))
        done += run(schedule)
    return done


def final(schedule: EngineScheduler, utterance: Utterance, **options) -> Finished:
    """The final of an utterance of which the schedule may have the beginning."""
    known = sum(len(append.samples) for append in schedule.appended if append.audio_id == SPEECH)
    rest = replace(utterance, samples=utterance.samples[known:])
    send(schedule, finalize(1, SPEECH, rest, interactive=True, **options))
    [*_, outcome] = run(schedule)
    return outcome


def test_streamed_equals_whole(recognizer):
    found = compare(recognizer, [*random_utterances(8, 1, seed=11)], seed=1)
    assert found["different"] == []
    assert found["final_tokens_verified"] > found["final_tokens"] / 2
    reuse = found["reuse"]
    assert all(reuse[name] > 0 for name in ("frames", "seconds", "windows", "positions", "tokens")), reuse


def test_streamed_equals_whole_step_by_step(recognizer, monkeypatch):
    set_margin(monkeypatch, math.inf)
    found = compare(recognizer, [*random_utterances(4, 0, seed=12)], seed=2)
    assert (found["different"], found["final_tokens_verified"]) == ([], 0)


def test_streamed_equals_whole_where_every_token_is_trusted(recognizer, monkeypatch):
    set_margin(monkeypatch, 0.0)
    assert compare(recognizer, [*random_utterances(3, 0, seed=13)], seed=3)["different"] == []


def test_streamed_equals_whole_in_bfloat16():
    found = compare(Recognizer.load("demo", dtype="bfloat16"), [*random_utterances(2, 0, seed=16)], seed=4)
    assert found["different"] == []


def test_streamed_equals_whole_with_nothing_kept(recognizer, monkeypatch):
    compute = StreamingUtterance.partial

    def from_samples(utterance, watch):
        utterance.drop()
        return compute(utterance, watch)

    monkeypatch.setattr(StreamingUtterance, "partial", from_samples)
    found = compare(recognizer, [*random_utterances(2, 0, seed=15)], seed=5)
    assert found["different"] == []
    assert found["reuse"]["seconds"] > 0  # the final still has what the last partial kept


def test_stale_keys_and_values_would_be_seen(recognizer, monkeypatch):
    def stale(layer: KVCache, offset: int) -> None:
        layer.keys, layer.offset = mx.zeros_like(layer.keys), min(layer.offset, offset)

    monkeypatch.setattr(KVCache, "rewind", stale)
    utterances = [one for one in random_utterances(8, 0, seed=11) if one.seconds > 9]
    assert compare(recognizer, utterances, seed=1)["different"] != []


def test_a_token_that_was_forced_would_be_seen(recognizer, monkeypatch):
    accept = streaming_segment.decode_with_draft

    def forced(model, prompt, cache, draft, *rest, **options):
        return accept(model, prompt, cache, draft, *rest, **options) if not draft else _given(draft)

    monkeypatch.setattr(streaming_segment, "decode_with_draft", forced)
    assert compare(recognizer, [*random_utterances(4, 0, seed=11)], seed=1)["different"] != []


def _given(draft):
    tokens = [*map(Token, draft[:-1]), Token(draft[-1], None, "stop")]
    written = DraftResult(tokens, [*draft], len(draft))
    yield
    return written


def test_the_prompt_of_a_final_is_that_of_the_whole_to_the_last_bit(recognizer, utterance, monkeypatch):
    """Embeddings, and the logits after them: on the CPU the shapes are the same."""
    requested = Utterance(utterance.samples, logprobs=True)
    logprobs = []
    for margin in (None, math.inf):  # with no token of the draft trusted, every one is decoded alone
        if margin is not None:
            set_margin(monkeypatch, margin)
        schedule = recognizer.schedule()
        partials(schedule, utterance.samples[: 9 * SAMPLE_RATE])
        logprobs.append(final(schedule, requested).transcript.logprobs)
    assert logprobs[1] == recognizer.transcribe(requested).logprobs
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-3)


def test_hypotheses_follow_the_audio(recognizer, utterance):
    done = partials(recognizer.schedule(), utterance.samples, 0.5)
    seconds = [one.hypothesis.audio_seconds for one in done]
    assert seconds == sorted(seconds)
    assert seconds[-1] == round(utterance.seconds, 4)
    last = done[-1].hypothesis
    whole = recognizer.transcribe(utterance)
    assert (last.text, last.language, last.tokens) == (whole.text, whole.language, len(whole.token_ids))
    assert last.verified > 0


def test_doubt_is_decoded_step_by_step(recognizer, utterance, monkeypatch):
    monkeypatch.setattr(type(recognizer._streaming_drift), "margin", 1e9)
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples)
    transcript = final(schedule, utterance).transcript
    assert (transcript.verified_tokens, transcript.token_ids) == (0, recognizer.transcribe(utterance).token_ids)


def test_what_was_verified_is_counted(recognizer, utterance):
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples)
    transcript = final(schedule, utterance).transcript
    assert transcript.verified_tokens == len(transcript.token_ids)
    assert recognizer.transcribe(utterance).verified_tokens is None


@pytest.mark.parametrize("changed", [{"language": "English"}, {"context": "digits"}, {"max_new_tokens": 3}], ids=str)
def test_other_options_at_the_end_are_obeyed(recognizer, utterance, changed):
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples)
    requested = Utterance(utterance.samples, **changed)
    transcript = final(schedule, requested).transcript
    assert transcript.verified_tokens is None
    assert transcript.token_ids == recognizer.transcribe(requested).token_ids


def test_a_final_that_fails_with_its_cache_is_decoded_from_its_beginning(recognizer, utterance, monkeypatch):
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples)

    def fail(*_, **__):
        raise RuntimeError("planted")

    monkeypatch.setattr(StreamingUtterance, "_decode", fail)
    assert final(schedule, utterance).transcript.token_ids == recognizer.transcribe(utterance).token_ids


def test_segments_that_can_grow_no_more_end_while_the_rest_goes_on(recognizer):
    [long] = random_utterances(0, 1, seed=3)
    schedule = recognizer.schedule()
    done = partials(schedule, long.samples[: 40 * SAMPLE_RATE], 5.0)
    assert len(done) == 8
    transcript = final(schedule, long).transcript
    whole = recognizer.transcribe(long)
    assert (transcript.token_ids, transcript.text) == (whole.token_ids, whole.text)
    assert len(transcript.audio_output_lengths) > 1


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_final_that_cuts_a_partial_short_has_nothing_stale(recognizer, steps):
    """A loud end lifts the floor, and the partial that encodes all windows again is ended after so many steps."""
    samples = (joined_examples(19 * SAMPLE_RATE, np.random.default_rng(0))).astype(np.float32)
    samples[: 17 * SAMPLE_RATE] *= 0.003
    schedule = recognizer.schedule()
    partials(schedule, samples[: 16 * SAMPLE_RATE + 8000], 30.0)
    before = 16 * SAMPLE_RATE + 8000
    send(schedule, partial(2, SPEECH, samples[before : 18 * SAMPLE_RATE]))
    for _ in range(steps):
        schedule.step()
    transcript = final(schedule, Utterance(samples)).transcript
    assert transcript.token_ids == recognizer.transcribe(Utterance(samples)).token_ids


def test_memory_that_is_kept_for_others_makes_room(recognizer, utterance, monkeypatch):
    """Also where what is missing is kept for the very utterance that ends."""
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples)
    send(schedule, partial(1, SPEECH + 1, utterance.samples))
    run(schedule)
    admit, refused = type(recognizer._governor).admit, []

    def tight(self, *requested, **options):
        if any(one.nbytes for one in schedule._open_utterances._utterances.values()):
            self.evict()
        if not refused:
            refused.append(True)
            raise OutOfMemory("planted")
        admit(self, *requested, **options)

    monkeypatch.setattr(type(recognizer._governor), "admit", tight)
    assert final(schedule, utterance).transcript.token_ids == recognizer.transcribe(utterance).token_ids
    assert schedule._open_utterances._utterances[SPEECH + 1].nbytes == 0


def test_the_first_final_measures_the_drift_step_by_step():
    recognizer = Recognizer.load("demo", dtype="float32")
    schedule = recognizer.schedule()
    send(schedule, partial(1, SPEECH, np.zeros(SAMPLE_RATE, np.float32)))
    schedule.step()
    send(schedule, finalize(2, SPEECH, Utterance(NO_SAMPLES), interactive=True))
    steps = 0
    while schedule.is_busy:
        was_known = recognizer._streaming_drift.is_known
        schedule.step()
        steps += not was_known
    assert steps > 10


@pytest.mark.parametrize("samples", [0, 100, 200, 201], ids=str)
def test_too_little_audio_has_no_text(recognizer, samples):
    schedule = recognizer.schedule()
    silence = np.zeros(samples, np.float32)
    [done] = partials(schedule, silence) or [None]
    if samples:
        assert (done.hypothesis.text, done.hypothesis.language) == ("", None)
    assert final(schedule, Utterance(silence)).transcript.text == ""


def test_memory_that_is_too_small_refuses_the_partial_and_the_next_starts_over(recognizer, utterance, monkeypatch):
    schedule = recognizer.schedule()
    with monkeypatch.context() as patched:
        patched.setattr(recognizer._governor, "limit_bytes", 1)
        [failed] = partials(schedule, utterance.samples[:SAMPLE_RATE])
    assert isinstance(failed.error, OutOfMemory)
    send(schedule, partial(2, SPEECH, utterance.samples[SAMPLE_RATE:]))
    [done] = run(schedule)
    assert done.hypothesis.text == recognizer.transcribe(utterance).text


def test_what_is_kept_is_bounded(recognizer, utterance, monkeypatch):
    """Nothing may be kept: all is made again, and is the same."""
    monkeypatch.setattr(type(recognizer._governor), "streaming_bytes", 0)
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples[: 9 * SAMPLE_RATE])
    send(schedule, partial(1, SPEECH + 1, utterance.samples))
    run(schedule)
    assert schedule._open_utterances._utterances[SPEECH].nbytes == 0
    assert final(schedule, utterance).transcript.token_ids == recognizer.transcribe(utterance).token_ids


def test_the_segments_of_a_streamed_utterance_are_those_of_the_whole(recognizer, utterance, monkeypatch):
    monkeypatch.setattr(recognizer._preparation, "max_segment_seconds", 4.0)
    schedule = recognizer.schedule()
    partials(schedule, utterance.samples[: 8 * SAMPLE_RATE])
    streamed = final(schedule, replace(utterance, logprobs=True)).transcript
    whole = recognizer.transcribe(replace(utterance, logprobs=True))
    assert len(whole.segments) > 2
    where = [(each.start, each.end, each.text, each.char_start, each.token_ends) for each in whole.segments]
    assert [(each.start, each.end, each.text, each.char_start, each.token_ends) for each in streamed.segments] == where
