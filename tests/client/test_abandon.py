"""What becomes of a stream that is ready when nobody waits for it any more."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from client.test_bridge import WAIT
from e2e.client import command
from support.client_children import child, setup

from qwen3_asr_mlx_runtime.client import AsyncBridge, Bridge, RequestTimeout, Setup, Unknown
from qwen3_asr_mlx_runtime.client.answers import result_in_time
from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.protocol.commands import Id, Ping, StartStream, Status, StopStream
from qwen3_asr_mlx_runtime.protocol.replies import Line

HOLDS = """
greet()
held = []
while True:
    m = read()
    say({"type": "received", "event": True, "message": m})
    if m["type"] == "start_stream":
        held.append({**READY, "id": m["id"], "stream_id": m.get("stream_id", "default")})
    if m["type"] == "ping":
        for ready in held: say(ready)
        held = []
        say(PONG, id=m["id"])
"""  # `start_stream` is answered before the next ping is, and nothing else
DISCARD = {"type": "stop_stream", "mode": "discard"}


def interrupted(connection: Connection, id: Id, reply: "Future[Line]") -> None:
    """In the middle of its wait."""
    wait = reply.result

    def interrupt(_: float | None) -> Line:
        reply.result = wait  # type: ignore[method-assign]
        raise KeyboardInterrupt

    reply.result = interrupt  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        result_in_time(connection.abandon, id, reply, None)


def timed_out(connection: Connection, id: Id, reply: "Future[Line]") -> None:
    with pytest.raises(RequestTimeout):
        result_in_time(connection.abandon, id, reply, 0.0)


def messages(bridge: Bridge | AsyncBridge, pings: int) -> Iterator[dict[str, object]]:
    """What the child heard, but for the ids, until so many pings were among it."""
    while pings:
        event = bridge._session.events.wait(WAIT)
        assert isinstance(event, Unknown)
        received: dict[str, object] = event.message["message"]
        pings -= received["type"] == "ping"
        del received["id"]
        yield received


def kinds(bridge: Bridge | AsyncBridge, pings: int) -> list[object]:
    return [received["type"] for received in messages(bridge, pings)]


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(setup(child(HOLDS)))
    bridge.open()
    yield bridge
    bridge.kill()


@pytest.mark.parametrize("give_up", [interrupted, timed_out])
@pytest.mark.parametrize(
    ("message", "name"),
    [
        (StartStream(stream_id="mic"), "mic"),
        (StartStream(), "default"),
        ({"type": "start_stream"}, "default"),
        ({"type": "start_stream", "stream_id": "mic", "id": "own"}, "mic"),
    ],
)
def test_one_that_becomes_ready_behind_its_cancel_is_stopped(
    bridge: Bridge, message: StartStream, name: str, give_up: Callable[[Connection, Id, "Future[Line]"], None]
) -> None:
    connection = bridge._session.connected()
    give_up(connection, *connection.ask(message))
    bridge.ping(timeout=WAIT)
    bridge.ping(timeout=WAIT)
    received = list(messages(bridge, 2))
    assert [one["type"] for one in received] == ["start_stream", "cancel", "ping", "stop_stream", "ping"]
    assert received[3] == {**DISCARD, "stream_id": name}


def test_one_that_was_ready_before_it_was_given_up_is_stopped(bridge: Bridge) -> None:
    connection = bridge._session.connected()
    id, reply = connection.ask(StartStream(stream_id="mic"))
    bridge.ping(timeout=WAIT)
    assert reply.done()
    interrupted(connection, id, reply)
    bridge.ping(timeout=WAIT)
    received = list(messages(bridge, 2))
    assert [one["type"] for one in received] == ["start_stream", "ping", "cancel", "stop_stream", "ping"]
    assert received[3] == {**DISCARD, "stream_id": "mic"}


def test_one_that_was_restarted_meanwhile_is_left_alone(bridge: Bridge) -> None:
    connection = bridge._session.connected()
    first = connection.ask(StartStream(stream_id="mic"))
    timed_out(connection, *first)
    second, _ = connection.ask(StartStream(stream_id="mic", restart=True)), connection.ask(StartStream())
    bridge.ping(timeout=WAIT)
    interrupted(connection, *first)
    bridge.ping(timeout=WAIT)
    assert second[1].done()
    assert kinds(bridge, 2) == ["start_stream", "cancel", "start_stream", "start_stream", "ping", "cancel", "ping"]


def test_one_that_was_asked_for_again_and_not_restarted_is_stopped(bridge: Bridge) -> None:
    connection = bridge._session.connected()
    first = connection.ask(StartStream(stream_id="mic"))
    timed_out(connection, *first)
    connection.ask(StartStream(stream_id="mic"))  # which the bridge refuses while the first is there
    bridge.ping(timeout=WAIT)
    bridge.ping(timeout=WAIT)
    assert kinds(bridge, 2) == ["start_stream", "cancel", "start_stream", "ping", "stop_stream", "ping"]


def test_of_an_answered_start_nothing_is_remembered(bridge: Bridge) -> None:
    connection = bridge._session.connected()
    reply = connection.ask(StartStream(stream_id="mic"))[1]
    assert list(connection._requests._starts["mic"]) == [reply]
    bridge.ping(timeout=WAIT)
    del reply
    bridge.ping(timeout=WAIT)
    assert list(connection._requests._starts["mic"]) == []
    connection.ask(StartStream(stream_id="other"))
    assert list(connection._requests._starts) == ["other"]


@pytest.mark.parametrize("message", [Status(), StopStream()])
def test_of_other_requests_only_the_cancel_is_sent(bridge: Bridge, message: Status | StopStream) -> None:
    connection = bridge._session.connected()
    id, reply = connection.ask(message)
    interrupted(connection, id, reply)
    bridge.ping(timeout=WAIT)
    connection.abandon(id, reply)
    bridge.ping(timeout=WAIT)
    assert kinds(bridge, 2)[1:] == ["cancel", "ping", "cancel", "ping"]


def test_one_that_nobody_waits_for_may_be_started_again_in_the_bridge_itself() -> None:
    with Bridge(Setup(command=command(None, "--model", "demo"))) as bridge:
        connection = bridge._session.connected()
        id, reply = connection.ask(StartStream(stream_id="mic"))
        reply.result(WAIT)
        connection.abandon(id, reply)
        assert bridge.start_stream("mic", timeout=WAIT).ready.dropped_samples == 0


class TestTasks:
    """As a task of asyncio is cancelled, or out of time."""

    @staticmethod
    def talk(conversation: Callable[[AsyncBridge], object]) -> None:
        async def talk() -> None:
            bridge = AsyncBridge(setup(child(HOLDS)))
            await bridge.open()
            await conversation(bridge)  # type: ignore[misc]
            await bridge.kill()

        asyncio.run(talk())

    def test_a_stream_that_becomes_ready_behind_its_cancel_is_stopped(self) -> None:
        async def conversation(bridge: AsyncBridge) -> None:
            task = asyncio.create_task(bridge.start_stream("mic"))
            await bridge.ping()  # behind it
            task = asyncio.create_task(bridge.start_stream("other"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(RequestTimeout):
                await bridge.start_stream("late", timeout=0.0)
            await bridge.ping()
            await bridge.ping()
            received = list(messages(bridge, 3))
            assert [one["stream_id"] for one in received if one["type"] == "stop_stream"] == ["other", "late"]
            assert received[-2] == {**DISCARD, "stream_id": "late"}

        self.talk(conversation)

    @pytest.mark.parametrize("turns", [0, 1])
    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_stream_that_was_ready_before_its_task_saw_it_is_stopped_unless_it_was_restarted(
        self, turns: int, *, restarted: bool
    ) -> None:
        async def conversation(bridge: AsyncBridge) -> None:
            task = asyncio.create_task(bridge.start_stream("mic"))
            await asyncio.sleep(0)
            connection = bridge._session.connection
            assert connection is not None
            connection.ask(Ping())[1].result(WAIT)  # the loop stands still: the task sees nothing of it
            for _ in range(turns):
                await asyncio.sleep(0)
            if restarted:
                connection.ask(StartStream(stream_id="mic", restart=True))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await bridge.ping()
            last = ["start_stream", "cancel"] if restarted else ["cancel", "stop_stream"]
            assert kinds(bridge, 2) == ["start_stream", "ping", *last, "ping"]

        self.talk(conversation)

    def test_of_other_requests_only_the_cancel_is_sent(self) -> None:
        async def conversation(bridge: AsyncBridge) -> None:
            task = asyncio.create_task(bridge.status())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await bridge.ping()
            await bridge.ping()
            assert kinds(bridge, 2) == ["status", "cancel", "ping", "ping"]

        self.talk(conversation)
