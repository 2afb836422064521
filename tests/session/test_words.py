"""Words: a text never waits for them and never fails by them, and each is delivered once."""

import numpy as np
import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.engines.transcript import TextSegment
from qwen3_asr_mlx_runtime.errors import (
    AlignerDownloading,
    AudioTooLong,
    BridgeError,
    EngineUnavailable,
    LanguageUnsupported,
    ModelNotFound,
    OutOfMemory,
    TooManyUnits,
)
from qwen3_asr_mlx_runtime.limits import MAX_ALIGN_SECONDS
from qwen3_asr_mlx_runtime.session import scheduler
from qwen3_asr_mlx_runtime.session.effects import AudioFailed
from qwen3_asr_mlx_runtime.session.results import MIN_CONFIDENCE
from qwen3_asr_mlx_runtime.settings import Settings

SECOND = np.zeros(16_000, np.float32)
TEXTS = ["Seven", "three", "one."]


def listening(**members: object) -> Conversation:
    """A stream whose finals are events, and a loaded model."""
    talk = Conversation()
    talk.send("hello", want=["events"])
    talk.send("start_stream", stream_id="mic", auto_flush=True, batch_size=1, words=True, **members)
    talk.load()
    return talk


def utterance(talk: Conversation, samples: int = 16_000, **members: object) -> list[dict]:
    talk.chunk(samples, "mic")
    return talk.send("end_utterance", stream_id="mic", **members)


def final(talk: Conversation) -> dict:
    [line] = talk.decode()
    [item] = line["items"]
    return item


def transcribing(**members: object) -> Conversation:
    talk = Conversation()
    talk.send("transcribe", id=1, audio="/a.wav", words=True, **members)
    talk.read("/a.wav", samples=SECOND)
    talk.load()
    return talk


def texts(words: list[dict]) -> list[str]:
    return [word["text"] for word in words]


def test_a_final_goes_first_and_its_words_follow() -> None:
    talk = listening()
    utterance(talk)
    item = final(talk)
    assert (item["text"], item["words"], item["words_pending"]) == ("Seven three one.", None, True)
    assert "aligner" not in item
    [ready] = talk.align()
    assert (ready["type"], ready["event"]) == ("words_ready", True)
    assert [ready[name] for name in ("job", "stream_id", "utterance_id")] == [item["job"], "mic", "mic-1"]
    assert texts(ready["words"]) == TEXTS
    assert ready["aligner"] == {"model": "fake-aligner", "seconds": 0.02, "decoder": "viterbi"}


def test_who_asks_for_no_words_sees_nothing_new() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="/a.wav")
    talk.read("/a.wav", samples=SECOND)
    talk.load()
    [reply] = talk.decode()
    assert not {"words", "words_pending", "aligner", "segments"} & {*reply}
    assert not talk.aligns


def test_a_reply_waits_for_its_words() -> None:
    talk = transcribing()
    assert talk.decode() == []
    [reply] = talk.align()
    assert texts(reply["words"]) == TEXTS
    assert reply["warnings"] == []
    assert "token_logprobs" not in reply


def test_the_words_of_a_batch_come_with_its_reply() -> None:
    talk = Conversation()
    talk.send("batch_transcribe", audio=["/a.wav", "/b.wav"], words=True)
    for path in ("/a.wav", "/b.wav"):
        talk.read(path, samples=SECOND)
    talk.load()
    talk.decode()
    assert talk.align() == []
    talk.decode()
    [reply] = talk.align()
    assert [texts(item["words"]) for item in reply["items"]] == [TEXTS, TEXTS]


def test_a_flush_asks_for_words_of_what_was_decoded_without() -> None:
    talk = Conversation()
    talk.chunk(16_000)
    talk.send("end_utterance", utterance_id="u")
    talk.wait(1.0)
    talk.load()
    talk.decode()
    talk.send("flush", words=True)
    assert talk.decode() == []
    [reply] = talk.align()
    [item] = reply["items"]
    assert texts(item["words"]) == TEXTS
    assert "words_pending" not in item
    assert item["stream_start"] == 0.0


def test_the_confidence_of_a_word_is_that_of_its_tokens_and_of_its_times() -> None:
    talk = transcribing()
    talk.decode()
    [reply] = talk.align()
    assert reply["words"][0]["confidence"] == pytest.approx(np.exp(np.mean([-0.5, -0.25])), abs=1e-4)
    assert reply["words"][2]["confidence"] == 1.0
    assert {word["time_confidence"] for word in reply["words"]} == {0.9}


def test_stream_start_counts_what_the_stream_got_before_the_utterance() -> None:
    talk = listening(sample_rate=48_000)
    starts = []
    for samples in (48_000, 24_000, 4800):
        utterance(talk, samples)
        starts.append(final(talk)["stream_start"])
    assert starts == [0.0, 1.0, 1.5]


def test_audio_of_the_boundary_has_no_place_in_the_stream() -> None:
    talk = listening()
    talk.speak("u", "mic")
    assert "stream_start" not in final(talk)


def test_an_utterance_without_text_has_no_words_and_waits_for_none() -> None:
    talk = listening()
    utterance(talk)
    [line] = talk.decode(transcript("", language=None))
    [item] = line["items"]
    assert item["words"] == []
    assert "words_pending" not in item
    assert not talk.aligns


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (LanguageUnsupported("not known"), "language", "language_unsupported"),
        (TooManyUnits("too many"), "too_many_units", "too_many_units"),
        (AlignerDownloading("on its way"), "aligner_downloading", "aligner_downloading"),
        (ModelNotFound("no such aligner"), "model_not_found", "model_not_found"),
        (OutOfMemory("too large"), "out_of_memory", "out_of_memory"),
    ],
)
def test_words_that_fail_fail_no_text(error: BridgeError, reason: str, code: str) -> None:
    talk = transcribing()
    talk.decode()
    [reply] = talk.align(error)
    assert (reply["type"], reply["text"], reply["words"]) == ("transcript", "Seven three one.", None)
    assert reply["warnings"] == [f"words_unavailable: {reason}"]
    talk = listening()
    utterance(talk)
    talk.decode()
    [ready] = talk.align(error)
    assert ready["error"] == {"code": code, "message": error.message}
    assert "words" not in ready


def parts(*texts: str) -> object:
    """A transcript of one-second segments, as the engine makes of a long utterance."""
    segments, start = [], 0
    for place, text in enumerate(texts):
        segments.append(TextSegment(place * 16_000, (place + 1) * 16_000, text, "English", "stop", start))
        start += len(text) + 1
    return transcript(" ".join(texts), audio_samples=16_000 * len(texts), segments=tuple(segments))


def test_each_segment_is_aligned_by_itself_and_its_times_are_of_the_whole() -> None:
    talk = listening(segments=True)
    utterance(talk, 32_000)
    [line] = talk.decode(parts("One two.", "Three."))
    assert line["items"][0]["segments"] == [
        {"start": 0.0, "end": 1.0, "text": "One two.", "finish_reason": "stop"},
        {"start": 1.0, "end": 2.0, "text": "Three.", "finish_reason": "stop"},
    ]
    assert [(align.text, len(align.samples)) for align in talk.aligns.values()] == [
        ("One two.", 16_000),
        ("Three.", 16_000),
    ]
    assert talk.align() == []
    [ready] = talk.align()
    assert [(word["text"], word["start"], word["end"], word["char_start"]) for word in ready["words"]] == [
        ("One", 0.0, 0.5, 0),
        ("two.", 0.5, 1.0, 4),
        ("Three.", 1.0, 2.0, 9),
    ]
    assert ready["aligner"]["seconds"] == 0.04


def test_text_before_the_first_word_belongs_to_it_and_all_other_text_to_the_word_before() -> None:
    talk = listening()
    utterance(talk, 64_000)
    talk.decode(parts("♪", "One two.", "…", "Three."))
    for _ in range(3):
        talk.align()
    [ready] = talk.align()
    assert [(word["text"], word["char_start"], word["char_end"]) for word in ready["words"]] == [
        ("♪ One", 0, 6),
        ("two. …", 6, 13),
        ("Three.", 13, 19),
    ]


def test_a_segment_without_times_is_one_word_where_others_have_some() -> None:
    talk = listening()
    utterance(talk, 32_000)
    talk.decode(parts("One two.", "Three four."))
    talk.align(TooManyUnits("too many"))
    [ready] = talk.align()
    assert texts(ready["words"]) == ["One two.", "Three", "four."]
    assert [word["time_confidence"] for word in ready["words"]] == [None, 0.9, 0.9]
    assert ready["words"][0]["end"] == 1.0
    assert ready["warnings"] == ["words_unavailable: too_many_units"]


def test_without_any_times_there_are_no_words() -> None:
    talk = listening()
    utterance(talk, 32_000)
    talk.decode(parts("One.", "Two."))
    talk.align(TooManyUnits("too many"))
    [ready] = talk.align(LanguageUnsupported("not known"))
    assert ready["error"]["code"] == "too_many_units"
    assert ready["warnings"] == ["words_unavailable: too_many_units", "words_unavailable: language"]


def test_the_words_of_a_file_are_found_while_it_is_read_and_its_audio_is_freed() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="/a.wav", words=True)
    talk.read("/a.wav", samples=SECOND, is_last=False)
    talk.load()
    talk.decode()
    [transcription] = talk.session._state.scheduler._open.values()
    assert [segment.samples is None for segment in transcription.segments] == [False]
    talk.align()
    assert [segment.samples is None for segment in transcription.segments] == [True]
    talk.read("/a.wav", samples=SECOND)
    talk.decode()
    [reply] = talk.align()
    assert texts(reply["words"]) == TEXTS * 2
    assert [word["start"] for word in reply["words"]][::3] == [0.0, 1.0]


def test_stop_stream_waits_for_words() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    assert talk.send("stop_stream", stream_id="mic") == []
    assert [line["type"] for line in talk.align()] == ["words_ready", "stream_stopped"]


def test_a_discarded_stream_ends_its_words() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    ready, stopped = talk.send("stop_stream", stream_id="mic", mode="discard")
    assert ready["error"]["code"] == "cancelled"
    assert stopped["type"] == "stream_stopped"
    assert len(talk.cancelled) == 1


def test_a_flush_does_not_wait_for_words_of_events() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    [reply] = talk.send("flush")
    assert reply["items"] == []


def test_stop_waits_for_words() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.send("stop")
    assert talk.session.pending
    talk.align()
    assert not talk.session.pending
    [last] = talk.finish()
    assert last["unfinished"] == []


@pytest.mark.parametrize("how", ["abort", "engine lost"])
def test_an_abort_ends_words_and_names_their_utterance(how: str) -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    if how == "abort":
        [ready] = talk.send("stop", mode="abort")
    else:
        talk.session.engine_lost(EngineUnavailable("planted"))
        [ready] = talk.perform()
    code = "shutting_down" if how == "abort" else "engine_unavailable"
    assert ready["error"]["code"] == code
    [last] = talk.finish()
    assert last["unfinished"] == [{"stream_id": "mic", "utterance_id": "mic-1", "code": code}]


def test_an_abort_answers_a_request_that_waits_for_words_with_its_text() -> None:
    talk = transcribing()
    talk.decode()
    [reply] = talk.send("stop", mode="abort")
    assert (reply["type"], reply["words"]) == ("transcript", None)
    assert reply["warnings"] == ["words_unavailable: shutting_down"]


def test_a_time_out_ends_the_words_and_keeps_the_text() -> None:
    talk = transcribing(timeout_ms=500)
    talk.decode()
    [reply] = talk.wait(1.0)
    assert (reply["text"], reply["words"]) == ("Seven three one.", None)
    assert reply["warnings"] == ["words_unavailable: timeout"]
    assert len(talk.cancelled) == 1


def test_a_time_out_of_a_boundary_ends_words_that_follow() -> None:
    talk = listening()
    utterance(talk, timeout_ms=500)
    talk.decode()
    [ready] = talk.wait(1.0)
    assert ready["error"]["code"] == "timeout"


def test_a_cancel_while_words_are_missing_ends_with_the_text() -> None:
    talk = transcribing()
    talk.decode()
    result, reply = sorted(talk.send("cancel", id=2, target=1), key=lambda line: line["type"])
    assert result["state"] == "cancelling"
    assert (reply["id"], reply["words"], reply["warnings"]) == (1, None, ["words_unavailable: cancelled"])


def test_a_delivered_final_cannot_be_cancelled_and_its_words_come() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    [result] = talk.send("cancel", stream_id="mic", utterance_id="mic-1")
    assert result["state"] == "already_done"
    [ready] = talk.align()
    assert texts(ready["words"]) == TEXTS


def test_audio_that_waits_for_words_leaves_room_for_speech() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    assert talk.session._state.budget.samples == 0


def test_audio_that_waits_for_words_is_bounded_and_the_oldest_that_waits_loses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "MAX_WORDS_SECONDS", 10.5)
    talk = listening()
    for _ in range(10):
        utterance(talk)
        talk.decode()
    utterance(talk)
    lines = {line["type"]: line for line in talk.decode()}
    assert lines["realtime_batch_final"]["items"][0]["words_pending"]
    ready = lines["words_ready"]
    assert (ready["utterance_id"], ready["error"]["code"]) == ("mic-9", "out_of_memory")
    ends = []
    while talk.aligns:
        ends += [line["utterance_id"] for line in talk.align()]
    assert ends == [f"mic-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)]


def test_a_file_is_read_and_decoded_however_long_its_words_take() -> None:
    talk = Conversation()
    talk.send("transcribe", audio="/a.wav", words=True, timeout_ms=60_000)
    talk.read("/a.wav", samples=SECOND, is_last=False)
    talk.load()
    for _ in range(39):
        talk.decode()
        talk.read("/a.wav", samples=SECOND, is_last=False)
    talk.decode()
    talk.read("/a.wav", samples=SECOND)
    talk.decode()
    [reply] = talk.wait(60.0)
    assert (reply["type"], reply["words"]) == ("transcript", None)
    assert reply["warnings"] == ["words_unavailable: timeout"]


def waiting(**members: object) -> Conversation:
    """An utterance that was decoded ahead of the flush, and whose words are looked for."""
    talk = Conversation()
    talk.send("start_stream", stream_id="mic", batch_size=9, words=True, **members)
    talk.load()
    utterance(talk)
    talk.wait(1.0)
    talk.decode()
    return talk


def test_a_flush_without_words_ends_them() -> None:
    talk = waiting()
    [job_id] = talk.aligns
    [reply] = talk.send("flush", words=False)
    assert "words" not in reply["items"][0]
    assert talk.cancelled == [job_id]
    assert talk.align() == []


def test_a_discarded_utterance_that_waits_ends_its_words() -> None:
    talk = waiting()
    [stopped] = talk.send("stop_stream", stream_id="mic", mode="discard")
    assert stopped["cancelled_utterances"] == ["mic-1"]
    assert talk.align() == []
    assert talk.session._state.budget.samples == 0


def with_text() -> Conversation:
    """A stream whose one utterance has its text, without words."""
    talk = Conversation()
    talk.send("start_stream", stream_id="mic", batch_size=9, logprobs=True)
    talk.load()
    utterance(talk)
    talk.wait(1.0)
    talk.decode()
    return talk


def test_a_flush_finds_the_words_of_a_text_that_is_there() -> None:
    talk = with_text()
    assert talk.send("flush", words=True) == []
    assert not talk.jobs
    [reply] = talk.align()
    assert texts(reply["items"][0]["words"]) == TEXTS


def waiting_text(*members: str) -> Conversation:
    """As `waiting`, of segments with these texts."""
    talk = Conversation()
    talk.send("start_stream", stream_id="mic", batch_size=9, words=True)
    talk.load()
    utterance(talk, 16_000 * len(members))
    talk.wait(1.0)
    talk.decode(parts(*members))
    return talk


def test_a_flush_loads_the_model_and_looks_again_for_words_that_a_failed_load_ended() -> None:
    talk = waiting_text("Seven three", "", "one.")
    talk.align()
    talk.end_engine()
    talk.fail_load()
    loads = talk.loads
    assert talk.send("flush") == []
    assert talk.loads == loads + 1
    talk.load()
    assert [align.text for align in talk.aligns.values()] == ["one."]
    [reply] = talk.align()
    assert texts(reply["items"][0]["words"]) == TEXTS


def test_a_flush_that_asks_for_words_loads_the_model_again() -> None:
    talk = with_text()
    talk.send("unload")
    talk.unloaded()
    loads = talk.loads
    assert talk.send("flush", words=True) == []
    assert talk.loads == loads + 1
    talk.load()
    [reply] = talk.align()
    assert texts(reply["items"][0]["words"]) == TEXTS


def test_words_asked_for_behind_an_unload_wait_for_it() -> None:
    talk = with_text()
    utterance(talk)
    talk.send("unload")
    talk.send("flush", words=True)
    assert not talk.aligns


def test_a_flush_looks_again_for_words_whose_aligner_was_downloaded() -> None:
    talk = waiting()
    talk.align(AlignerDownloading("on its way"))
    assert talk.send("flush") == []
    [reply] = talk.align()
    assert texts(reply["items"][0]["words"]) == TEXTS


@pytest.mark.parametrize("error", [TooManyUnits("too many"), LanguageUnsupported("not known")])
def test_a_flush_does_not_look_again_for_words_that_there_are_not(error: BridgeError) -> None:
    talk = waiting()
    talk.align(error)
    [reply] = talk.send("flush")
    assert reply["items"][0]["words"] is None


def test_stop_stream_waits_for_no_words_of_a_later_stream_of_the_name() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.send("stop_stream", id=1, stream_id="mic")
    talk.send("start_stream", id=2, stream_id="mic", auto_flush=True, batch_size=1, words=True)
    utterance(talk)
    talk.decode()
    assert [line["type"] for line in talk.align()] == ["words_ready", "stream_stopped"]


def test_partials_go_on_while_words_are_looked_for() -> None:
    talk = listening(partials=True, partial_interval_ms=100)
    utterance(talk)
    talk.decode()
    assert talk.aligns
    talk.chunk(8_000, "mic")
    assert talk.partials


def test_events_cannot_be_given_up_while_words_follow() -> None:
    talk = listening()
    utterance(talk)
    talk.send("start_stream", stream_id="mic", restart=True)
    talk.decode()
    [refused] = talk.send("hello", want=[])
    assert refused["code"] == "invalid_params"


def test_words_are_found_again_after_the_engine_has_ended() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.end_engine()
    talk.load()
    [ready] = talk.align()
    assert texts(ready["words"]) == TEXTS


def test_words_that_end_the_engine_twice_are_given_up_for_a_while() -> None:
    talk = listening()
    for _ in range(8):
        utterance(talk)
        talk.decode()
    assert talk.end_engine() == []
    talk.load()
    assert len(talk.aligns) == 8
    lines = talk.end_engine()
    assert [line["error"]["code"] for line in lines] == ["engine_crashed"] * 8
    talk.wait(1.0)
    talk.load()
    utterance(talk)
    item = final(talk)
    assert (item["text"], item["words"]) == ("Seven three one.", None)
    assert item["warnings"] == ["words_unavailable: engine_crashed"]
    talk.wait(60.0)
    utterance(talk)
    talk.decode()
    [ready] = talk.align()
    assert texts(ready["words"]) == TEXTS


def test_words_never_lose_the_engine() -> None:
    talk = listening()
    for _ in range(17):
        utterance(talk)
        talk.decode()
    lines = []
    for delay in (0.0, 1.0, 2.0, 4.0):
        lines += talk.end_engine() if talk.aligns else []
        lines += talk.wait(delay)
        talk.load() if talk.loads else None
    assert len(lines) == 17
    assert not talk.aligns
    assert not talk.session.engine_is_lost
    utterance(talk)
    assert final(talk)["text"] == "Seven three one."


def test_known_texts_never_lose_the_engine() -> None:
    talk = Conversation()
    codes = []
    for path in ("/a.wav", "/b.wav", "/c.wav", "/d.wav"):
        talk.send("align", audio=path, text="One.", language="en")
        codes += [line["code"] for line in talk.read(path, samples=SECOND)]
        talk.load()
        while talk.aligns:
            codes += [line["code"] for line in talk.end_engine()]
            talk.wait(1.0)
            talk.load()
    assert codes == ["engine_crashed"] * 4
    assert not talk.session.engine_is_lost


def test_a_long_file_loses_no_more_words_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MAX_WORDS_SECONDS", 10.5)
    talk = Conversation()
    talk.send("transcribe", audio="/a.wav", words=True)
    talk.read("/a.wav", samples=SECOND, is_last=False)
    talk.load()
    for place in range(1, 13):
        talk.decode()
        talk.read("/a.wav", samples=SECOND, is_last=place == 12)
    talk.decode()
    lines = []
    while talk.aligns:
        lines += talk.align()
    [reply] = lines
    whole = [word["text"] for word in reply["words"] if word["time_confidence"] is None]
    assert len(whole) == 3
    assert reply["warnings"] == ["words_unavailable: out_of_memory"]


def test_a_stop_stream_that_waits_for_words_can_be_cancelled() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.send("stop_stream", id=1, stream_id="mic")
    lines = {line["type"]: line for line in talk.send("cancel", id=2, target=1)}
    assert lines["cancel_result"]["state"] == "cancelling"
    assert lines["words_ready"]["error"]["code"] == "cancelled"
    assert lines["stream_stopped"]["id"] == 1


def test_a_final_goes_before_the_words_that_the_engine_has_lost() -> None:
    talk = listening()
    for _ in range(8):
        utterance(talk)
        talk.decode()
    utterance(talk)
    talk.end_engine()
    talk.load()
    assert len(talk.jobs) == 1
    talk.decode()
    assert len(talk.aligns) == 8


def test_words_end_where_the_model_cannot_be_loaded_again() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.end_engine()
    [ready] = talk.fail_load()
    assert ready["error"]["code"] == "model_not_found"


def test_an_unload_comes_after_the_words() -> None:
    talk = listening()
    utterance(talk)
    talk.decode()
    talk.send("unload")
    assert not talk.is_unloading
    talk.align()
    assert talk.is_unloading


def test_a_final_waits_for_no_words() -> None:
    """All places for words are taken, and more wait."""
    talk = listening()
    for _ in range(12):
        utterance(talk)
        talk.decode()
    assert len(talk.aligns) == 8
    utterance(talk)
    assert len(talk.jobs) == 1


def test_another_decoding_ends_the_words_of_the_former() -> None:
    talk = Conversation()
    talk.send("start_stream", words=True, batch_size=9)
    talk.load()
    talk.chunk(16_000)
    talk.send("end_utterance")
    talk.wait(1.0)
    talk.decode()
    assert talk.aligns
    talk.send("flush", language="ar")
    assert len(talk.cancelled) == 1
    talk.align()
    talk.decode()
    [reply] = talk.align()
    assert texts(reply["items"][0]["words"]) == TEXTS


def test_start_loads_the_aligner_and_does_not_wait_for_it() -> None:
    talk = Conversation()
    talk.send("start", words=True)
    [ready] = talk.load()
    assert ready["type"] == "ready"
    assert talk.aligner_loads == 1
    talk.send("start")
    assert talk.aligner_loads == 1


def test_the_decoder_of_times_is_that_of_the_process() -> None:
    talk = Conversation(Settings(align_decoder="official"))
    talk.send("transcribe", audio="/a.wav", words=True)
    talk.read("/a.wav", samples=SECOND)
    talk.load()
    talk.decode()
    assert [align.decoder for align in talk.aligns.values()] == ["official"]
    [reply] = talk.align()
    assert reply["aligner"]["decoder"] == "official"


class TestAlign:
    def test_a_known_text_gets_its_words(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One two.", language="en")
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        assert not talk.jobs
        [reply] = talk.align()
        assert (reply["type"], reply["language"], reply["audio_seconds"]) == ("aligned", "English", 1.0)
        assert texts(reply["words"]) == ["One", "two."]
        assert reply["words"][0]["confidence"] is None
        assert (reply["confidence"], reply["warnings"]) == (0.9, [])

    def test_the_file_is_read_whole(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One.", language="en")
        talk.read("/a.wav", samples=np.zeros(int(MAX_ALIGN_SECONDS * 16_000), np.float32))
        talk.load()
        [align] = talk.aligns.values()
        assert len(align.samples) == MAX_ALIGN_SECONDS * 16_000

    def test_audio_that_is_too_long_fails_by_the_limit_of_align(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One.", language="en")
        talk.send("transcribe", audio="/b.wav")
        assert [effect.max_seconds for effect in talk.read_effects] == [MAX_ALIGN_SECONDS, np.inf]
        [job_id] = [job_id for job_id, path in talk.reads.items() if path == "/a.wav"]
        talk.session.audio_failed(AudioFailed(job_id, AudioTooLong("too long", limit_seconds=MAX_ALIGN_SECONDS)))
        [reply] = talk.perform()
        assert reply["code"] == "audio_too_long"
        assert reply["data"] == {"limit": MAX_ALIGN_SECONDS, "limit_seconds": MAX_ALIGN_SECONDS}

    def test_a_failure_is_that_of_the_request(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One.", language="de")
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        [reply] = talk.align(LanguageUnsupported("not known"))
        assert (reply["type"], reply["code"]) == ("error", "language_unsupported")

    def test_a_time_out_is_that_of_the_request(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One.", language="en", timeout_ms=500)
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        [reply] = talk.wait(1.0)
        assert reply["code"] == "timeout"
        assert len(talk.cancelled) == 1
        assert not talk.session.pending

    def test_a_cancel_ends_it(self) -> None:
        talk = Conversation()
        talk.send("align", id=1, audio="/a.wav", text="One.", language="en")
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        lines = talk.send("cancel", id=2, target=1)
        assert {line["type"]: line.get("code", line.get("state")) for line in lines} == {
            "error": "cancelled",
            "cancel_result": "cancelled",
        }

    def test_a_text_without_letters_has_no_words(self) -> None:
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="", language="en")
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        [reply] = talk.align()
        assert (reply["words"], reply["confidence"], reply["warnings"]) == ([], None, [])

    @pytest.mark.parametrize(("confidence", "is_doubtful"), [(MIN_CONFIDENCE - 0.01, True), (MIN_CONFIDENCE, False)])
    def test_a_text_that_hardly_fits_is_doubtful(
        self, monkeypatch: pytest.MonkeyPatch, confidence: float, is_doubtful: bool
    ) -> None:
        monkeypatch.setattr("support.fake_engine.TIME_CONFIDENCE", confidence)
        talk = Conversation()
        talk.send("align", audio="/a.wav", text="One.", language="en")
        talk.read("/a.wav", samples=SECOND)
        talk.load()
        [reply] = talk.align()
        assert bool(reply["warnings"]) == is_doubtful

    @pytest.mark.parametrize(
        ("members", "field"),
        [
            ({"text": "One."}, "language"),
            ({"text": "One.", "language": "auto"}, "language"),
            ({"text": "One.", "language": "Klingon"}, "language"),
            ({"language": "en"}, "text"),
            ({"text": "a" * 16_385, "language": "en"}, "text"),
            ({"text": 7, "language": "en"}, "text"),
        ],
    )
    def test_bad_input_is_refused(self, members: dict, field: str) -> None:
        talk = Conversation()
        [reply] = talk.send("align", audio="/a.wav", **members)
        assert (reply["code"], reply["data"]["field"]) == ("invalid_params", field)
        assert not talk.reads
