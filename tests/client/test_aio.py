"""The client for asyncio: what differs from the plain one."""

import asyncio
import signal
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
from client.test_bridge import ECHO, WAIT
from support.client_children import child, named_pipe, release, setup

from qwen3_asr_mlx_runtime.client import (
    AsyncBridge,
    BridgeClosed,
    BridgeExited,
    BridgeLost,
    BridgeNotFound,
    Exit,
    ProtocolError,
    RequestTimeout,
    Unknown,
)
from qwen3_asr_mlx_runtime.protocol.replies import Line

HEARD = 'say({**read(), "type": "received", "id": None, "first": m["id"]})'


def test_many_requests_at_once_and_a_clean_end() -> None:
    async def talk() -> None:
        async with AsyncBridge(setup(child(ECHO))) as bridge:
            pongs = await asyncio.gather(*(bridge.ping() for _ in range(50)))
            assert {pong.state for pong in pongs} == {"ready"}
            assert bridge.state == "running"
        assert (bridge.state, bridge.exit) == ("stopped", Exit(code=0))

    asyncio.run(talk())


def test_a_cancelled_task_cancels_its_request_and_nothing_else() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child(f"greet(); m = read(); say(m, type='taken', id=None); {HEARD}\n" + ECHO)))
        task = asyncio.create_task(bridge.transcribe("/a.wav"))
        events = bridge.events
        await anext(events)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        received = await anext(events)
        assert isinstance(received, Unknown)
        assert received.message["target"] == received.message["first"]
        await bridge.kill()
        assert [event async for event in events] == []

    asyncio.run(talk())


def test_what_takes_too_long_is_cancelled() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child(f"greet(); m = read(); {HEARD}; read()")))
        await bridge.open()
        with pytest.raises(RequestTimeout):
            await bridge.transcribe("/a.wav", timeout=0.01)
        received = await anext(bridge.events)
        assert isinstance(received, Unknown)
        assert received.message["target"] == received.message["first"]
        await bridge.kill()

    asyncio.run(talk())


def test_a_loss_fails_what_waits_is_reported_and_may_be_followed_by_another_process() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child("greet(); read(); read(); os.kill(os.getpid(), 11)")))
        failed = await asyncio.gather(bridge.ping(), bridge.start(), return_exceptions=True)
        assert [type(error) for error in failed] == [BridgeExited, BridgeExited]
        lost = await anext(bridge.events)
        assert isinstance(lost, BridgeLost)
        assert lost.error.exit == Exit(signal=signal.SIGSEGV)
        assert (await bridge.open()).protocol
        assert bridge.restarts == 1
        await bridge.kill()

    asyncio.run(talk())


def test_errors_are_those_of_the_plain_client() -> None:
    async def talk() -> None:
        with pytest.raises(BridgeNotFound):
            await AsyncBridge(["/nowhere"]).ping()
        bridge = AsyncBridge(setup(child('greet(); say(STOPPED, id=read()["id"]); read()')))
        with pytest.raises(ProtocolError):
            await bridge.ping()
        await bridge.kill()

    asyncio.run(talk())


def test_audio_that_has_no_room_lets_other_tasks_run(tmp_path: Path) -> None:
    ready = """
greet()
say(READY, id=read()["id"])
hold()
count = 0
while read()["type"] == "audio_chunk": count += 1
say({"type": "told", "count": count})
read()
"""
    pipe = named_pipe(tmp_path)

    async def talk() -> None:
        bridge = AsyncBridge(setup(child(ready, str(pipe)), unwritten_bytes=64 * 1024))
        stream = await bridge.start_stream("s")
        task = asyncio.create_task(stream.append(bytes(3200 * 400)))
        _, pending = await asyncio.wait([task], timeout=0.2)
        assert pending == {task}
        release(pipe)
        await asyncio.wait_for(task, WAIT)
        waiting = asyncio.create_task(bridge.request({"type": "end"}))
        reported = await anext(bridge.events)
        assert isinstance(reported, Unknown)
        assert reported.message["count"] == 400
        await bridge.kill()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(talk())


def test_a_task_that_is_cancelled_while_it_opens_one_leaves_none_behind() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child("read(); signal.pause()")))

        async def use() -> None:
            async with bridge:
                raise AssertionError

        task = asyncio.create_task(use())
        while bridge.pid is None:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (bridge.state, bridge.exit) == ("stopped", Exit(signal=signal.SIGKILL))

    asyncio.run(talk())


def test_tasks_that_wait_for_its_start_leave_room_to_kill_it() -> None:
    async def talk() -> None:
        bridge = AsyncBridge(setup(child("read(); signal.pause()"), open_seconds=WAIT))
        tasks = [asyncio.create_task(bridge.ping()) for _ in range(64)]
        while bridge.pid is None:
            await asyncio.sleep(0.01)
        assert sum(thread.name == "qwen3-asr-bridge-wait" for thread in threading.enumerate()) == 1
        await bridge.kill()
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in failed} == {BridgeClosed}
        assert len({id(error) for error in failed}) == 64

    asyncio.run(talk())


def test_a_loop_that_ends_does_not_wait_for_a_start_that_was_given_up() -> None:
    bridge = AsyncBridge(setup(child("read(); signal.pause()"), open_seconds=WAIT))

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bridge.open(), 0.01)

    asyncio.run(give_up())
    assert bridge.state == "opening"
    asyncio.run(bridge.kill())
    assert bridge.state == "stopped"


def test_a_block_that_is_given_up_before_its_process_is_there_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bridge = AsyncBridge(setup(child(ECHO)))
    given_up, begun = threading.Event(), threading.Event()
    start = bridge._session.open

    def late() -> object:
        begun.set()
        given_up.wait(WAIT)
        return start()

    monkeypatch.setattr(bridge._session, "open", late)

    async def talk() -> None:
        task = asyncio.create_task(bridge.__aenter__())
        await asyncio.sleep(0)
        begun.wait(WAIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        given_up.set()
        while bridge._session.connection is None or not bridge._session.connection.join(0):
            await asyncio.sleep(0.01)
        assert (bridge.state, bridge.exit) == ("stopped", Exit(signal=signal.SIGKILL))

    asyncio.run(talk())


def test_a_request_of_a_lost_process_that_is_cancelled_late_cancels_none_of_the_next() -> None:
    program = """
greet()
m = read()
if m["type"] == "start": os._exit(1)
while True:
    say({"type": "received", "event": True, "message": m})
    m = read()
"""

    async def talk() -> None:
        bridge = AsyncBridge(setup(child(program)))
        task = asyncio.create_task(bridge.start())
        lost = await bridge.next_event()
        assert isinstance(lost, BridgeLost)
        await asyncio.gather(task, return_exceptions=True)
        old = bridge._session.connection
        await bridge.open()
        assert old is not None
        reply: Future[Line] = Future()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(old, "ask", lambda _: ("c2", reply))
            with pytest.raises(RequestTimeout):
                await bridge.ask({"type": "ping"}, connection=old, timeout=0.0)
        with pytest.raises(RequestTimeout):
            await bridge.ping(timeout=0.01)
        received = await bridge.next_event()
        assert isinstance(received, Unknown)
        assert received.message["message"]["type"] == "ping"
        await bridge.kill()

    asyncio.run(talk())


def test_events_may_be_waited_for_and_given_up_any_number_of_times() -> None:
    program = 'greet(); m = read(); say({"type": "weather", "event": True}); say(PONG, id=m["id"])\n' + ECHO[8:]

    async def talk() -> None:
        async with AsyncBridge(setup(child(program))) as bridge:
            for _ in range(100):
                assert await bridge.next_event(0.0) is None
                waiting = asyncio.create_task(bridge.next_event())
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            assert bridge._session.events._wakers == []
            await bridge.ping()
            assert isinstance(await bridge.next_event(), Unknown)
        assert await bridge.next_event() is None

    asyncio.run(talk())
