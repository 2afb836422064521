from dataclasses import replace

import msgspec
import pytest
from support.fake_engine import transcript
from support.utterances import file

from qwen3_asr_mlx_runtime.engines.api import Aligned, Word
from qwen3_asr_mlx_runtime.engines.profile import Memory, Profile, Quantization, QuantizedLayers
from qwen3_asr_mlx_runtime.errors import AudioNotFound
from qwen3_asr_mlx_runtime.session.results import (
    MIN_CONFIDENCE,
    TEXT_DOUBTFUL,
    aligned_reply,
    batch_reply,
    transcript_reply,
)
from qwen3_asr_mlx_runtime.session.transcription import Alignment, Options, Segment, Transcription


def item(path: str, result: object, read_seconds: float | None = 0.05) -> Transcription:
    return file(1, path, Options(0, None, ""), result=result, read_seconds=read_seconds)


def test_a_transcript_has_every_field_of_the_protocol() -> None:
    finished = transcript("Nine.", warnings=("audio_truncated",))
    reply = msgspec.to_builtins(transcript_reply(item("a.wav", finished), finished, 1.5))
    profile = reply.pop("profile")
    assert reply == {
        "type": "transcript",
        "warnings": ["audio_truncated"],
        "audio": "a.wav",
        "text": "Nine.",
        "language": "English",
        "raw_text": "language English<asr_text>Nine.",
        "finish_reason": "stop",
        "generated_tokens": 3,
        "generated_token_ids": [5, 6, 7],
        "audio_embeddings_shape": [13, 256],
        "audio_output_lengths": [13],
        "rms_dbfs": None,
        "decode_seconds": 0.1,
        "total_seconds": 0.25,
        "load_seconds": 1.5,
        "use_cache": True,
        "decoder_mode": "sequential",
        "redecoded": 0,
    }
    assert profile == msgspec.to_builtins(finished.profile)


def test_a_transcript_without_warnings_says_so() -> None:
    finished = transcript()
    assert transcript_reply(item("a", finished), finished, 0.0).warnings == []


def test_log_probabilities_stand_beside_their_tokens_where_they_were_asked_for() -> None:
    sure = transcript(logprobs=(-0.1234567, -2.0, -1e-9))
    asked = file(1, "a", Options(0, None, "", logprobs=True), result=sure)
    reply = msgspec.to_builtins(transcript_reply(asked, sure, 0.0))
    assert reply["generated_token_ids"] == [5, 6, 7]
    assert str(reply["token_logprobs"]) == "[-0.123457, -2.0, 0.0]"
    assert reply["confidence"] == {"mean": 0.4927, "minimum": 0.1353}
    logprob_members = {name: reply[name] for name in ("generated_token_ids", "token_logprobs", "confidence")}
    failed = file(2, "b", asked.options, result=AudioNotFound("no such file"))
    batch = msgspec.to_builtins(batch_reply([asked, failed], "sequential", 0.0))
    assert logprob_members.items() <= batch["items"][0].items()
    assert not logprob_members.keys() & batch["items"][1].keys()


def test_log_probabilities_are_sent_only_if_requested() -> None:
    sure = transcript(logprobs=(-0.1, -0.1, -0.1))
    reply = msgspec.to_builtins(transcript_reply(item("a", sure), sure, 0.0))
    batch = msgspec.to_builtins(batch_reply([item("a", sure)], "sequential", 0.0))
    assert not {"token_logprobs", "confidence"} & {*reply, *batch["items"][0]}


def test_silence_has_no_confidence() -> None:
    silent = transcript("", token_ids=(), logprobs=())
    asked = file(1, "a", Options(0, None, "", logprobs=True), result=silent)
    reply = transcript_reply(asked, silent, 0.0)
    assert (reply.token_logprobs, reply.confidence) == ([], None)


def test_a_batch_counts_what_was_decoded_again() -> None:
    tasks = [item("a", transcript(redecoded=2)), item("b", AudioNotFound("no")), item("c", transcript(redecoded=1))]
    reply = msgspec.to_builtins(batch_reply(tasks, "batched", 0.0))
    assert (reply["decoder_mode"], reply["profile"]["stage"]) == ("batched", "batch_batched")
    assert (reply["redecoded"], [one.get("redecoded") for one in reply["items"]]) == (3, [2, None, 1])


def test_what_was_not_measured_is_null() -> None:
    silent = transcript("", profile=Profile(stage="transcribe"))
    reply = transcript_reply(item("a", silent, None), silent, 0.0)
    assert (reply.decode_seconds, reply.total_seconds) == (None, None)
    batch = batch_reply([item("a", silent, None)], "sequential", 0.0)
    assert batch.total_seconds is None
    given = {"stage": "batch_sequential", "batch_size": 1}
    assert msgspec.to_builtins(batch.profile) == {**dict.fromkeys(Profile.__struct_fields__), **given}


def test_a_batch_reports_of_quantised_weights() -> None:
    quantization = Quantization(8, 64, [QuantizedLayers("decoder", 8, 64, 21)], full_precision=0)
    prepare = Profile(stage="prepare", quantization=quantization)
    finished = transcript(profile=Profile(stage="transcribe", quantization=quantization, prepare=prepare))
    batch = batch_reply([item("a", finished), item("b", AudioNotFound("no such file"))], "sequential", 0.0)
    assert batch.profile.quantization == batch.profile.prepare.quantization == quantization


def test_a_batch_keeps_its_order_and_counts_what_failed() -> None:
    items = [item("a", transcript("One.")), item("b", AudioNotFound("no such file")), item("c", transcript("Two."))]
    reply = msgspec.to_builtins(batch_reply(items, "sequential", 0.0))
    assert (reply["count"], reply["failed"], reply["decoder_mode"]) == (3, 1, "sequential")
    assert [(one["audio"], one["text"]) for one in reply["items"]] == [("a", "One."), ("b", None), ("c", "Two.")]
    assert reply["items"][1] == {
        "audio": "b",
        "text": None,
        "error": {"code": "audio_not_found", "message": "no such file"},
    }
    assert reply["items"][0] == {
        "audio": "a",
        "text": "One.",
        "language": "English",
        "raw_text": "language English<asr_text>One.",
        "finish_reason": "stop",
        "generated_tokens": 3,
        "audio_embeddings_shape": [13, 256],
        "rms_dbfs": None,
        "decode_seconds": 0.1,
        "redecoded": 0,
        "warnings": [],
    }


def test_a_batch_profile_sums_seconds_and_joins_lists() -> None:
    short, long = transcript(audio_samples=8_000), transcript(audio_samples=16_000)
    prepare = Profile(stage="prepare", audio_tower_seconds=0.02, audio_feature_lengths=[100])
    short.profile.prepare = prepare
    long = replace(
        long, profile=msgspec.structs.replace(long.profile, memory=Memory(rss_peak_bytes=7), prepare=prepare)
    )
    profile = batch_reply([item("a", short), item("b", long)], "sequential", 0.0).profile
    assert (profile.stage, profile.batch_size) == ("batch_sequential", 2)
    assert profile.audio_samples == [8_000, 16_000]
    assert profile.audio_seconds == 1.5
    assert (profile.prefill_seconds, profile.decode_seconds, profile.total_seconds) == (0.06, 0.2, 0.4)
    assert profile.audio_output_lengths == [13, 13]
    assert (profile.generated_tokens, profile.generated_tokens_total) == ([3, 3], 6)
    assert profile.generated_tokens_per_second == 30.0
    assert profile.realtime_factor == 3.75
    assert (profile.batch_assembly_seconds, profile.input_features_shape, profile.audio_embeddings_shape) == (None,) * 3
    assert profile.memory == Memory(rss_peak_bytes=7)
    assert profile.prepare == Profile(
        stage="prepare", batch_size=2, audio_tower_seconds=0.04, audio_feature_lengths=[100, 100]
    )


def test_an_item_without_a_result_cannot_be_reported() -> None:
    with pytest.raises(ValueError, match="without a result"):
        batch_reply([item("a", None)], "sequential", 0.0)


def aligned(*confidences: float) -> Transcription:
    """A file whose known text has a word for each confidence."""
    text = "abcdefgh"[: len(confidences)]
    words = [Word(80 * at, 80 * at + 80, at, at + 1, value) for at, value in enumerate(confidences)]
    made = item("a.wav", Aligned(1, words, "demo", 0.1))
    alignment = Alignment(1, made, None, text=text, language="English")
    made.segments = [Segment(1, made, None, alignments=[alignment])]
    return made


@pytest.mark.parametrize(
    ("confidences", "warnings"),
    [
        ([MIN_CONFIDENCE], []),
        ([MIN_CONFIDENCE - 0.01], [TEXT_DOUBTFUL]),
        ([0.9, MIN_CONFIDENCE - 0.1], []),
        ([0.0, 2 * MIN_CONFIDENCE - 0.01], [TEXT_DOUBTFUL]),
        ([], []),
    ],
)
def test_a_known_text_is_doubted_by_the_mean_confidence_of_its_words(confidences, warnings) -> None:
    made = aligned(*confidences)
    reply = aligned_reply(made, made.result, 0.0)
    assert reply.warnings == warnings
    assert reply.confidence == (round(sum(confidences) / len(confidences), 4) if confidences else None)
