import pytest
from support.conversation import Conversation

from qwen3_asr_mlx_runtime.errors import EngineUnavailable


def test_speech_without_a_model_is_named_at_the_end_of_input() -> None:
    talk = Conversation()
    talk.speak("u1")
    talk.end_of_input()
    talk.fail_load()
    assert talk.session.pending == 0
    [last] = talk.finish()
    assert [(item["utterance_id"], item["error"]["code"]) for item in last["items"]] == [("u1", "model_not_found")]


def test_speech_without_a_model_is_named_by_stopped() -> None:
    talk = Conversation()
    talk.speak("u1")
    talk.send("stop")
    talk.fail_load()
    assert talk.session.pending == 0
    [last] = talk.finish()
    assert last["type"] == "stopped"
    assert [(item["utterance_id"], item["error"]["code"]) for item in last["items"]] == [("u1", "model_not_found")]


@pytest.mark.parametrize(
    "end",
    [
        lambda talk: talk.terminate(),
        lambda talk: talk.send("stop", mode="abort"),
        lambda talk: talk.session.engine_lost(EngineUnavailable("planted")),
    ],
    ids=["signal", "abort", "engine_lost"],
)
def test_an_end_that_cancels_what_is_left_loads_no_model(end) -> None:
    talk = Conversation()
    talk.speak("u1")
    end(talk)
    talk.perform()
    assert talk.loads == 0
    assert talk.session.pending == 0


@pytest.mark.parametrize("request_type", ["start", "transcribe"])
@pytest.mark.parametrize("end", [{"mode": "abort"}, {}])
def test_a_load_that_was_not_begun_is_withdrawn_when_its_request_ends_with_the_process(request_type, end) -> None:
    talk = Conversation()
    lines = [
        {"type": request_type, "id": "a", **({"audio": "/a.wav"} if request_type == "transcribe" else {})},
        {"type": "cancel", "id": "b", "target": "a"},
        {"type": "stop", "id": "c", **end},
    ]
    talk.receive_together(lines)
    talk.perform()
    assert talk.loads == 0


def test_an_end_that_finishes_what_is_left_loads_the_model_once() -> None:
    talk = Conversation()
    talk.speak("u1")
    talk.send("stop")
    talk.perform()
    assert talk.loads == 1


def test_a_start_is_answered_although_the_input_has_ended() -> None:
    talk = Conversation()
    talk.receive_together([{"type": "start", "id": "a"}])
    talk.end_of_input()
    assert talk.loads == 1
    assert [line["type"] for line in talk.load()] == ["ready"]


def test_at_the_end_no_result_comes_before_the_reply_to_its_boundary() -> None:
    talk = Conversation()
    talk.send("hello", id="h", want=["events"])
    for stream in "xy":
        talk.send("start_stream", id=stream, stream_id=stream)
    talk.load()
    talk.send("end_utterance", id="b1", stream_id="x", utterance_id="a", audio="/a.wav")
    talk.speak("b", "y", id="b2")
    lines = talk.end_of_input() + talk.decode() + talk.read("/a.wav") + talk.decode()
    assert [line.get("id") or [item["utterance_id"] for item in line["items"]] for line in lines] == [
        "b1",
        "b2",
        ["b"],
        ["a"],
    ]
    talk.monitor.finish()


def test_an_abort_in_an_unload_names_every_utterance_of_the_batches_behind_it() -> None:
    """The reply of the second batch follows that of the first, which follows that of the unload."""
    talk = Conversation()
    talk.send("start")
    talk.load()
    talk.send("start_stream", batch_size=2)
    talk.send("unload")
    for name in ("u1", "u2", "u3", "u4"):
        talk.speak(name)
    lines = talk.terminate()
    named = [item["utterance_id"] for line in lines for item in line.get("items", ())]
    assert named == ["u1", "u2", "u3", "u4"]
    talk.finish()
    talk.monitor.finish()


def test_an_abort_decodes_nothing_again() -> None:
    """The boundary that is answered then fills its batch, with options that the transcript of another has not."""
    talk = Conversation()
    for stream in "xy":
        talk.send("start_stream", id=stream, stream_id=stream, batch_size=2, max_batch_delay_ms=1)
    talk.load()
    talk.send("end_utterance", id="b0", stream_id="y", utterance_id="f", audio="/f.wav")
    talk.speak("u1", "x", id="b1")
    talk.wait(0.01)
    talk.decode()  # ahead
    talk.speak("u2", "x", id="b2", max_new_tokens=9)
    lines = talk.terminate()
    assert (talk.jobs, talk.session.pending) == ({}, 0)
    [batch] = [line for line in lines if line["type"] == "realtime_batch_final"]
    assert [item.get("text") or item["error"]["code"] for item in batch["items"]] == [
        "Seven three one.",
        "shutting_down",
    ]


def test_one_event_of_a_group_says_how_long_its_load_took() -> None:
    talk = Conversation()
    talk.send("hello", id="h", want=["events"])
    for stream in "xy":
        talk.send("start_stream", id=stream, stream_id=stream, auto_flush=True, batch_size=8, max_batch_delay_ms=50)
    talk.speak("u1", "x", id=1)
    talk.speak("u2", "y", id=2)
    talk.fail_load()
    talk.wait(0.1)
    events = talk.load() + talk.decode() + talk.decode()
    assert [event["load_seconds"] for event in events] == [1.5, 0.0]


def test_audio_of_a_stream_that_is_opened_again_with_another_rate_is_counted() -> None:
    """The reply to the last chunk overtakes those to `start_stream` and `stop_stream`."""
    talk = Conversation()
    talk.chunk(1, "a")
    talk.send("start_stream", stream_id="a", sample_rate=8000)
    talk.send("stop_stream", stream_id="a")
    talk.chunk(2, "a")
    talk.chunk(3, "a", id=1)
    talk.end_of_input()
    talk.load()
    [last] = talk.finish()
    assert last["dropped_samples"] == 5
    talk.monitor.finish()
