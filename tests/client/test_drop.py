"""What becomes of a bridge that the app does not stop: its client is dropped, or the app exits."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from client.test_bridge import ECHO, WAIT, eventually, is_gone
from support.client_children import child, setup

from qwen3_asr_mlx_runtime.client import AsyncBridge, Bridge, BridgeExited, Exit
from qwen3_asr_mlx_runtime.client.connection import Connection

KILLED = Exit(signal=signal.SIGKILL)
DEAF = "greet(); signal.pause()"  # to a stop, and to the end of its input


def opened(kind: type[Bridge] | type[AsyncBridge], program: str = DEAF) -> Bridge | AsyncBridge:
    bridge = kind(setup(child(program)))
    bridge._session.open()
    return bridge


def connection_of(bridge: Bridge | AsyncBridge) -> Connection:
    connection = bridge._session.connection
    assert connection is not None
    return connection


@pytest.mark.parametrize("kind", [Bridge, AsyncBridge])
def test_a_client_that_is_dropped_takes_its_process_its_thread_and_its_descriptors_along(
    kind: type[Bridge] | type[AsyncBridge],
) -> None:
    folder = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    before = len([*folder.iterdir()])
    bridges = [opened(kind) for _ in range(3)]
    connections = [connection_of(bridge) for bridge in bridges]
    with pytest.warns(ResourceWarning, match="was not stopped") as caught:
        bridges.clear()
    assert len(caught) == 3
    assert all(connection.join(WAIT) for connection in connections)
    assert [connection.exit for connection in connections] == [KILLED] * 3
    assert len([*folder.iterdir()]) == before


def test_a_stream_holds_its_bridge() -> None:
    program = 'greet(); m = read(); say(READY, id=m["id"]); say(PONG, id=read()["id"]); read()'
    stream = Bridge(setup(child(program))).start_stream("mic")
    gc.collect()
    assert stream._bridge.ping(timeout=WAIT).state == "ready"
    stream._bridge.kill()


def test_a_task_that_is_cancelled_before_its_process_is_there_leaves_none_behind() -> None:
    bridges = [AsyncBridge(setup(child(DEAF)))]
    session = bridges[0]._session

    async def cancelled() -> None:
        task = asyncio.create_task(bridges.pop().open())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def drop() -> None:
        with session._opening:  # its thread waits for that
            asyncio.run(cancelled())
            threads = [thread for thread in threading.enumerate() if thread.name == "qwen3-asr-bridge-wait"]
        for thread in threads:
            thread.join(WAIT)
        gc.collect()
        eventually(lambda: session.exit == KILLED)

    with pytest.warns(ResourceWarning, match="was not stopped"):
        drop()


def silent(end: Callable[[Bridge], object], program: str = ECHO) -> list[str]:
    """What is warned of a bridge that was ended by `end`, and dropped then."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bridge = Bridge(setup(child(program)))
        end(bridge)
        del bridge
        gc.collect()
    return [str(warning.message) for warning in caught]


def lost(bridge: Bridge) -> None:
    with pytest.raises(BridgeExited):
        bridge.ping()


def test_no_warning_is_given_where_no_process_is_left() -> None:
    assert silent(lambda _: None) == []
    assert silent(lambda bridge: (bridge.open(), bridge.stop())) == []
    assert silent(lambda bridge: (bridge.open(), bridge.kill())) == []
    assert silent(lost, "greet(); read(); os._exit(1)") == []


def test_a_collector_that_comes_within_any_call_of_its_thread_does_not_stand_still() -> None:
    bridge = opened(Bridge)
    connection, session = connection_of(bridge), bridge._session
    with connection._lock, session._opening, session._changing, session.events._changed, connection._outgoing._lock:
        assert connection.drop()
    assert connection.join(WAIT)


LEAVES = """
import sys
sys.path[:0] = [sys.argv[1] + "/src", sys.argv[1] + "/tests"]
from support.client_children import child, setup
from qwen3_asr_mlx_runtime.client import Bridge
program = '''
held = subprocess.Popen(["sleep", "600"])
greet(session=str(held.pid))
signal.pause()
'''
bridge = Bridge(setup(child(program)))
print(bridge.open().session, bridge.pid)
"""


def test_an_app_that_exits_takes_it_along_with_all_it_started(repository: Path) -> None:
    argv = [sys.executable, "-I", "-W", "always", "-c", LEAVES, str(repository)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (ran.returncode, "ResourceWarning: the speech bridge" in ran.stderr) == (0, True)
    for pid in map(int, ran.stdout.split()):
        eventually(lambda pid=pid: is_gone(pid))
