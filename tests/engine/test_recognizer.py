import os
import subprocess
import sys

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import word_confidence
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import InvalidParams, ModelUnsupported


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("demo")


@pytest.fixture(scope="module")
def speech(repository) -> np.ndarray:
    from qwen3_asr_mlx_runtime.audio.recording import read_file

    return read_file(str(repository / "examples" / "audio" / "sample.wav")).samples


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.02).astype(np.float32)


@pytest.mark.parametrize("samples", [0, 1, 199, 200])
def test_audio_without_a_mel_frame_is_an_empty_transcript(recognizer, samples):
    transcript = recognizer.transcribe(Utterance(noise(samples), warnings=("kept",)))
    assert (transcript.text, transcript.language, transcript.raw_text) == ("", None, "")
    assert (transcript.finish_reason, transcript.token_ids, transcript.audio_output_lengths) == ("stop", (), ())
    assert transcript.profile.decode_seconds is None
    assert transcript.warnings == ("kept",)


@pytest.mark.parametrize(("samples", "tokens"), [(201, 1), (1_600, 2), (7_999, 7), (16_000, 13), (128_160, 105)])
def test_short_audio_is_taken_as_it_is(recognizer, samples, tokens):
    transcript = recognizer.transcribe(Utterance(noise(samples)))
    assert transcript.audio_output_lengths == (tokens,)
    assert transcript.audio_embeddings_shape == (tokens, recognizer.model.config.text.hidden_size)


def test_digital_silence_has_no_text_and_no_language(recognizer):
    transcript = recognizer.transcribe(Utterance(np.zeros(3 * SAMPLE_RATE, dtype=np.float32)))
    assert (transcript.text, transcript.language) == ("", None)
    assert transcript.raw_text == "language None<asr_text>"


def test_a_forced_language_leaves_the_text_alone(recognizer, speech):
    free = recognizer.transcribe(Utterance(speech))
    forced = recognizer.transcribe(Utterance(speech, language=free.language))
    assert (forced.text, forced.language) == (free.text, free.language)
    assert forced.raw_text == free.text
    assert free.raw_text == f"language {free.language}<asr_text>{free.text}"


def test_the_budget_is_that_of_the_utterance(recognizer, speech):
    transcript = recognizer.transcribe(Utterance(speech, max_new_tokens=2))
    assert len(transcript.token_ids) == 2
    assert transcript.finish_reason == "length"


def test_a_budget_beyond_the_models_positions_is_what_is_left_of_them(recognizer, speech):
    positions = recognizer.model.config.text.max_position_embeddings
    transcript = recognizer.transcribe(Utterance(speech, max_new_tokens=positions))
    assert transcript.token_ids == recognizer.transcribe(Utterance(speech)).token_ids


def test_a_whole_transcript_ends_with_an_eos_token(recognizer, speech):
    transcript = recognizer.transcribe(Utterance(speech))
    assert transcript.finish_reason == "stop"
    assert transcript.token_ids[-1] == recognizer._tokenizer.token_id("<|im_end|>")


def test_a_context_that_does_not_fit_is_named(recognizer, speech):
    with pytest.raises(InvalidParams) as caught:
        recognizer.transcribe(Utterance(speech, context="seven " * 70_000))
    assert caught.value.data == {"field": "context"}
    assert recognizer.transcribe(Utterance(speech)).text


def test_long_audio_is_decoded_in_segments_with_their_own_budgets(recognizer, speech):
    gap = np.zeros(SAMPLE_RATE, dtype=np.float32)
    long = np.concatenate([speech, gap] * 12)
    alone = recognizer.transcribe(Utterance(speech))
    segments = Recognizer(recognizer.model, recognizer._tokenizer, max_segment_seconds=10.0).transcribe(Utterance(long))
    assert len(segments.audio_output_lengths) > 2
    assert max(segments.audio_output_lengths) <= 130
    assert sum(segments.audio_output_lengths) == segments.audio_embeddings_shape[0]
    assert segments.raw_text.count("\n") == len(segments.audio_output_lengths) - 1
    assert segments.language == alone.language
    words = alone.text.lower().strip(".").split()
    assert segments.text.lower().replace(".", "").split() == words * 12


def test_silence_in_several_segments_is_one_empty_transcript(recognizer):
    transcript = recognizer.transcribe(Utterance(np.zeros(35 * SAMPLE_RATE, dtype=np.float32)))
    assert (transcript.text, transcript.language, transcript.finish_reason) == ("", None, "stop")
    assert len(transcript.audio_output_lengths) == 2


@pytest.mark.once
def test_twenty_minutes_are_decoded_in_segments_of_thirty_seconds_at_most(recognizer):
    model = tiny_model(audio_token_id=recognizer.model.config.audio_token_id)
    transcript = Recognizer(model, recognizer._tokenizer).transcribe(
        Utterance(noise(1_200 * SAMPLE_RATE), max_new_tokens=1)
    )
    lengths = transcript.audio_output_lengths
    assert 40 <= len(lengths) <= 48
    assert max(lengths) <= 390
    assert sum(transcript.profile.audio_feature_lengths) == pytest.approx(120_000, abs=len(lengths))
    assert (len(transcript.token_ids), transcript.finish_reason) == (len(lengths), "length")


def test_what_came_before_does_not_change_a_transcript(recognizer, speech):
    first = recognizer.transcribe(Utterance(speech))
    recognizer.transcribe(Utterance(noise(50_000), context="other words", language="Arabic"))
    again = recognizer.transcribe(Utterance(speech))
    assert again.token_ids == first.token_ids


def test_the_profile_measures_what_was_done_and_nothing_else(recognizer, speech):
    profile = recognizer.transcribe(Utterance(speech)).profile
    measured = ["feature_extract", "prompt_assembly", "audio_tower", "prefill", "continuation", "decode", "total"]
    assert all(getattr(profile, f"{stage}_seconds") is not None for stage in measured)
    assert profile.batch_assembly_seconds is None
    assert profile.decode_seconds == pytest.approx(profile.prefill_seconds + profile.continuation_seconds, abs=2e-4)
    assert profile.audio_seconds == pytest.approx(len(speech) / SAMPLE_RATE, abs=1e-4)
    assert profile.realtime_factor == pytest.approx(profile.audio_seconds / profile.total_seconds, abs=0.01)
    assert profile.memory.mlx_peak_bytes > 0
    assert profile.prepare.stage == "prepare"


@pytest.mark.parametrize("decoder_mode", ["sequential", "batched"])
def test_quantised_weights_are_reported_with_the_load_and_with_every_transcript(recognizer, speech, decoder_mode):
    quantised = Recognizer.load("demo", dtype="float32", quantize="mixed")
    assert quantised.load_profile["quantization"] == {
        "bits": 4,
        "group_size": 64,
        "layers": [
            {"part": "audio_tower", "bits": 8, "group_size": 64, "count": 33},
            {"part": "decoder", "bits": 4, "group_size": 64, "count": 21},
            {"part": "embedding", "bits": 8, "group_size": 64, "count": 1},
        ],
        "full_precision": 0,
    }
    transcripts = quantised.transcribe_batch([Utterance(speech)] * 2, decoder_mode)
    for transcript in transcripts:
        assert msgspec.to_builtins(transcript.profile.quantization) == quantised.load_profile["quantization"]
        assert transcript.profile.prepare.quantization == transcript.profile.quantization
        assert transcript.text == recognizer.transcribe(Utterance(speech)).text
    assert recognizer.transcribe(Utterance(speech)).profile.quantization is None


def test_the_load_profile_names_what_was_loaded(recognizer):
    profile = recognizer.load_profile
    assert (profile["files"], profile["dtype"], profile["quantization"]) == (["model.safetensors"], "bfloat16", None)
    assert profile["device"] == ("cpu" if mx.default_device() == mx.cpu else "gpu")
    assert profile["weight_count"] > 50


def test_every_stage_runs_in_the_models_dtype(recognizer, speech):
    from qwen3_asr_mlx_runtime.model.features import log_mel

    audio = recognizer.encode(log_mel(speech))
    [segment] = recognizer._preparation.cut(Utterance(speech), Stopwatch())
    [made] = recognizer._preparation.prepare([segment])
    prompt = made.embeddings
    cache = recognizer.model.make_cache(prompt.shape[1])
    logits = recognizer.model.logits(prompt, cache)
    dtypes = {audio.dtype, prompt.dtype, logits.dtype, cache[0].keys.dtype, cache[0].values.dtype}
    assert dtypes == {recognizer.model.dtype} == {mx.bfloat16}


def test_a_tokenizer_of_another_checkpoint_is_refused(recognizer):
    other = tiny_model(audio_token_id=recognizer.model.config.audio_token_id + 1)
    with pytest.raises(ModelUnsupported, match="audio_token_id"):
        Recognizer(other, recognizer._tokenizer)


def test_a_tokenizer_with_more_ids_than_the_model_has_embeddings_is_refused(recognizer):
    tokenizer = recognizer._tokenizer
    model = tiny_model(audio_token_id=recognizer.model.config.audio_token_id, vocab_size=tokenizer.size - 1)
    with pytest.raises(ModelUnsupported) as caught:
        Recognizer(model, tokenizer)
    assert caught.value.data == {"field": "vocab_size"}


def test_loading_on_the_cpu_compiles_nothing_into_the_temporary_folder(tmp_path):
    script = "from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer; Recognizer.load('demo')"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    if mx.default_device() == mx.cpu:
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_segments_cover_audio_and_text_and_their_tokens_cover_each(recognizer, speech, mode, monkeypatch):
    monkeypatch.setattr(recognizer._preparation, "max_segment_seconds", 2.0)
    speech = np.tile(speech, 3)
    [found] = recognizer.transcribe_batch([Utterance(speech, logprobs=True)], mode)
    bounds = [(each.start, each.end) for each in found.segments]
    assert [0, *(end for _, end in bounds)] == [*(start for start, _ in bounds), len(speech)]
    assert len(found.segments) > 2
    for each in found.segments:
        assert found.text[each.char_start :][: len(each.text)] == each.text
        assert (0, *each.token_ends)[-1] == len(each.text)
        assert len(each.token_ends) == len(each.token_logprobs)
        assert (word_confidence(each, 0, len(each.text)) is None) == (not each.text)
    [plain] = recognizer.transcribe_batch([Utterance(speech)], mode)
    assert {(each.token_ends, each.token_logprobs) for each in plain.segments} == {(None, None)}
