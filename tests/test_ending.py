from conversation import Conversation


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
