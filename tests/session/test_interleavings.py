"""Cancel, timer, flush, completion and stop in every order in which they can meet: one outcome each, nothing lost."""

from collections.abc import Callable
from itertools import permutations

import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.errors import Cancelled

Action = Callable[[Conversation], object]


def complete(talk: Conversation) -> None:
    """The oldest job ends: with its text, though it was told to end, so that the race is won by the result."""
    if talk.jobs:
        talk.decode(transcript("Done."))


def give_in(talk: Conversation) -> None:
    """The oldest job ends: as cancelled, if it was told to."""
    if talk.jobs:
        talk.decode(Cancelled("at the next step") if min(talk.jobs) in talk.cancelled else transcript("Done."))


def cancel_by_name(talk: Conversation) -> None:
    talk.send("cancel", stream_id="s", utterance_id="u1", id="by name")


def cancel_by_id(talk: Conversation) -> None:
    talk.send("cancel", target="flush", id="by id")


def time_out(talk: Conversation) -> None:
    talk.wait(0.1)


def flush(talk: Conversation) -> None:
    talk.send("flush", id="flush")


def stop(talk: Conversation) -> None:
    talk.send("stop", id="stop")


def abort(talk: Conversation) -> None:
    talk.send("stop", id="stop", mode="abort")


def end_of_input(talk: Conversation) -> None:
    talk.end_of_input()


def begin(auto_flush: bool) -> Conversation:
    talk = Conversation()
    talk.send("hello", want=["events"])
    talk.send("start_stream", stream_id="s", auto_flush=auto_flush, batch_size=9, max_batch_delay_ms=100)
    talk.load()
    talk.speak("u1", "s", id="b1")
    talk.speak("u2", "s", id="b2")
    return talk


def end(talk: Conversation) -> dict[str, str]:
    """Let the rest be done; what became of each utterance."""
    talk.end_of_input()
    while talk.session.pending:
        assert talk.jobs, "something waits, and nothing is left to do"
        complete(talk)
    talk.finish()
    talk.monitor.finish()
    items = [item for reply in talk.monitor.replies for item in reply.get("items", ())]
    return {item["utterance_id"]: item["text"] or item["error"]["code"] for item in items}


@pytest.mark.parametrize("auto_flush", [True, False], ids=["events", "lock step"])
@pytest.mark.parametrize("completion", [complete, give_in])
@pytest.mark.parametrize("cancel", [cancel_by_name, cancel_by_id])
@pytest.mark.parametrize("ending", [stop, abort, end_of_input])
def test_every_order(auto_flush: bool, completion: Action, cancel: Action, ending: Action) -> None:
    actions = [cancel, time_out, flush, completion, completion, ending]
    for order in set(permutations(actions)):
        talk = begin(auto_flush)
        for action in order:
            action(talk)
        outcomes = end(talk)
        assert set(outcomes) == {"u1", "u2"}
        assert set(outcomes.values()) <= {"Done.", "cancelled", "shutting_down"}
        if ending is not abort and cancel is cancel_by_name:
            assert outcomes["u2"] == "Done."


@pytest.mark.parametrize("completion", [complete, give_in])
@pytest.mark.parametrize("position", range(4))
def test_a_file_is_cancelled_before_during_and_after(completion: Action, position: int) -> None:
    """Cancelled while its file is read, before it is decoded, while it is decoded, and afterwards."""
    talk = Conversation()
    talk.send("start")
    talk.load()
    steps: list[Action] = [lambda talk: talk.reads and talk.read("a"), lambda _: None, completion]
    steps.insert(position, lambda talk: talk.send("cancel", target="t", id="c"))
    talk.send("transcribe", id="t", audio="a")
    for step in steps:
        step(talk)
    if talk.reads:
        talk.read("a")
    talk.monitor.finish()
    replies = {reply["id"]: reply for reply in talk.monitor.replies if "id" in reply}
    state = replies["c"]["state"]
    expected = {"cancelled": {"cancelled"}, "cancelling": {"cancelled", "transcript"}, "already_done": {"transcript"}}
    assert replies["t"].get("code", replies["t"]["type"]) in expected[state]
