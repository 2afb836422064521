from support.conversation import Conversation


def test_replies_that_wait_for_their_turn_report_what_held_when_their_requests_came() -> None:
    talk = Conversation()
    talk.send("start")  # the replies to all that follow wait behind its own
    talk.send("status")
    talk.send("hello", want=["events"])
    talk.send("hello", want=[])
    talk.send("nonsense")
    _, status, first, second, _ = talk.load()
    assert (status["counters"]["requests"], status["counters"]["errors"]) == (2, {})
    assert (first["want"], second["want"]) == (["events"], [])
