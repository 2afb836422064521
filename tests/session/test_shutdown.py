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
