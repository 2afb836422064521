"""Several threads and one client: who is killed while it opens, who is stopped twice, and what is left of it."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from client.test_bridge import ECHO, WAIT, eventually
from processes import is_gone
from support.client_children import child, named_pipe, release, setup

from qwen3_asr_mlx_runtime.client import (
    Bridge,
    BridgeClosed,
    BridgeExited,
    BridgeLost,
    BridgeStartFailed,
    Exit,
    RequestFailed,
    RequestTimeout,
    Setup,
    Stream,
    Unknown,
    session,
)
from qwen3_asr_mlx_runtime.client.answers import result_in_time
from qwen3_asr_mlx_runtime.client.connection import Connection

SLOW_STOP = """
greet()
m = read()
say({"type": "stopping", "event": True})
hold()
say(STOPPED, id=m["id"])
"""
NO_END = """
greet()
hold()
"""


@pytest.mark.parametrize("command", ["scripts/bridge --model demo", []], ids=str)
def test_what_is_no_list_of_words_is_no_command_line(command: str | list[str]) -> None:
    with pytest.raises(ValueError, match="each of its arguments"):
        Setup(command=command)


def test_whoever_stops_it_too_waits_for_its_end_as_well(tmp_path: Path) -> None:
    pipe = named_pipe(tmp_path)
    bridge = Bridge(setup(child(SLOW_STOP, str(pipe))))
    bridge.open()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bridge.stop)
        assert isinstance(bridge.next_event(WAIT), Unknown)
        second = threads.submit(bridge.stop)
        with pytest.raises(BridgeClosed):
            bridge.ping()
        assert (bridge.state, second.done(), bridge.exit) == ("stopping", False, None)
        release(pipe)
        stopped = first.result(WAIT)
        assert (bridge.exit, bridge.stderr, stopped is None) == (Exit(code=0), (), False)
        assert second.result(WAIT) is None
    assert bridge.state == "stopped"


def test_a_kill_is_not_put_off_by_a_stop(tmp_path: Path) -> None:
    bridge = Bridge(setup(child(NO_END, str(named_pipe(tmp_path)))))
    bridge.open()
    connection = bridge._session.connected()
    connection._life.kill_now()
    connection.finish(3600.0)
    assert connection.join(WAIT)
    assert bridge.exit == Exit(signal=SIGKILL)


def test_one_that_is_lost_while_it_is_stopped_may_be_opened_again() -> None:
    bridge = Bridge(setup(child(ECHO)))
    bridge.open()
    connection = bridge._session.connected()
    os.kill(bridge.pid or 0, SIGKILL)
    assert connection.join(WAIT)
    bridge._session.state = "running"  # as a thread sees it that stops it just now
    assert bridge.stop() is None
    assert bridge.state == "stopped"
    assert bridge.open().protocol
    bridge.kill()


def test_one_that_has_ended_before_it_is_greeted_is_reported_by_its_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*arguments: Any) -> Connection:
        connection = Connection(*arguments)
        assert connection.join(WAIT)
        return connection

    monkeypatch.setattr(session, "Connection", ended)
    bridge = Bridge(setup(child("os._exit(3)")))
    with pytest.raises(BridgeExited) as caught:
        bridge.open()
    assert (caught.value.exit, bridge.state) == (Exit(code=3), "lost")


def test_where_no_thread_is_left_no_process_is_either(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    bridge = Bridge(setup(child(ECHO)))
    with pytest.raises(BridgeStartFailed):
        bridge.open()
    assert (started[0].returncode, bridge.state) == (-SIGKILL, "failed")
    assert started[0].stdin is not None
    assert started[0].stdin.closed


def test_a_request_that_is_given_up_late_cancels_none_of_the_next_process() -> None:
    program = """
greet()
m = read()
if m["type"] == "start": os._exit(1)
while True:
    say({"type": "received", "event": True, "message": m})
    m = read()
"""
    bridge = Bridge(setup(child(program)))
    lost = bridge._session.connected()
    with pytest.raises(BridgeExited):
        bridge.start()
    bridge.open()
    assert isinstance(bridge.next_event(WAIT), BridgeLost)
    with pytest.raises(RequestTimeout):
        result_in_time(lost.abandon, "c2", Future(), 0.0)
    with pytest.raises(RequestTimeout):
        bridge.ping(timeout=0.01)
    received = bridge.next_event(WAIT)
    assert isinstance(received, Unknown)
    assert received.message["message"]["type"] == "ping"
    bridge.kill()


def test_only_streams_of_the_process_that_is_lost_are_reported() -> None:
    program = """
greet()
while True:
    m = read()
    if m["type"] == "start": os._exit(1)
    stopped = {"type": "stream_stopped", "dropped_samples": 0, "queued": 0, "cancelled_utterances": []}
    say(READY if m["type"] == "start_stream" else stopped, id=m["id"], stream_id=m["stream_id"])
"""
    bridge = Bridge(setup(child(program)))
    reported = []
    for name in ("first", "second"):
        stream: Stream = bridge.start_stream(name)
        bridge.start_stream("ended")
        bridge.request({"type": "stop_stream", "stream_id": "ended"})
        with pytest.raises(BridgeExited):
            bridge.start()
        lost = bridge.next_event(WAIT)
        assert isinstance(lost, BridgeLost)
        reported.append(lost.streams)
        with pytest.raises(BridgeExited):
            stream.append(bytes(2))
    assert reported == [("first",), ("second",)]
    bridge.kill()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "ping", "x": float("nan")}, ValueError),
        ({"type": "ping", "x": object()}, TypeError),
        ({"type": "ping", "id": [1]}, ValueError),
        ({"type": "ping", "id": 1.5}, ValueError),
        ({"type": "ping", "id": True}, ValueError),
        ({"type": "ping", "id": ""}, ValueError),
        ({"type": "ping", "id": "a\x00"}, ValueError),
        ({"type": "ping", "id": 2**53 + 1}, ValueError),
        ({"type": "ping", "x": 2**53 + 1}, ValueError),
        ({"type": "ping", "x": functools.reduce(lambda inner, _: [inner], range(600), [])}, ValueError),
        ({"type": "ping", "id": "mine", "x": "é" * 2_000_000}, RequestFailed),
    ],
    ids=["nan", "object", "list", "float", "bool", "empty", "control", "large", "large-member", "deep", "long"],
)
def test_what_the_bridge_could_not_answer_is_refused_here(message: dict[str, object], error: type[Exception]) -> None:
    with Bridge(setup(child(ECHO))) as bridge:
        bridge.open()
        with pytest.raises(error):
            bridge.request(message, timeout=WAIT)
        assert len(bridge._session.connected()._requests) == 0
        assert bridge.ping(timeout=WAIT).state == "ready"


def test_an_id_of_the_apps_own_stands_in_the_way_of_none_of_ours() -> None:
    with Bridge(setup(child("greet(); m = [read(), read()]; [say(PONG, id=n['id']) for n in m]" + ECHO[8:]))) as bridge:
        connection = bridge._session.connected()
        _, own = connection.ask({"type": "ping", "id": "c2"})
        assert bridge.ping(timeout=WAIT).state == "ready"
        assert own.done()


NONSENSE = {
    "nested": b'{"type":"x","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "encoding": b'{"type":"x","y":"\xff"}\n',
    "number": b'{"type":"x","y":1e999}\n',
    "nan": b'{"type":"pong","uptime_s":NaN}\n',
}


@pytest.mark.parametrize("name", NONSENSE)
def test_lines_that_no_decoder_takes_are_the_bridges_fault(name: str, tmp_path: Path) -> None:
    (tmp_path / "line").write_bytes(NONSENSE[name])
    program = (
        'greet(); read(); data = open(sys.argv[1], "rb").read()\nwhile data: data = data[os.write(1, data):]\nread()'
    )
    bridge = Bridge(setup(child(program, str(tmp_path / "line"))))
    with pytest.raises(Exception, match=r"\(a line is no (JSON|message)\)") as caught:
        bridge.ping(timeout=WAIT)
    assert getattr(caught.value, "code", None) == "protocol_error"
    bridge.kill()


def test_last_words_without_a_newline_are_a_line_too() -> None:
    lines: list[str] = []
    program = 'greet(); read(); os.write(2, b"first\\nlast"); os._exit(1)'
    bridge = Bridge(replace(setup(child(program)), on_stderr=lines.append))
    with pytest.raises(BridgeExited) as caught:
        bridge.ping()
    assert (lines, caught.value.stderr) == (["first", "last"], ("first", "last"))


def in_a_fork(call: Callable[[], object]) -> str:
    """The class of what `call` raised in a child of this process."""
    reads, writes = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            call()
            name = "nothing"
        except BaseException as error:  # noqa: BLE001
            name = type(error).__name__
        os.write(writes, name.encode())
        os._exit(0)
    os.close(writes)
    reported = os.read(reads, 100).decode()
    os.close(reads)
    os.waitpid(pid, 0)
    return reported


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_it_is_of_the_process_that_started_it_alone() -> None:
    with Bridge(setup(child(ECHO))) as bridge:
        assert in_a_fork(lambda: bridge.ping(timeout=5.0)) == "BridgeClosed"
        assert in_a_fork(bridge.kill) == "nothing"
        assert in_a_fork(bridge._session.connected().drop) == "nothing"
        assert bridge.ping(timeout=WAIT).state == "ready"


LEAVES = """
import sys
sys.path[:0] = [sys.argv[1] + "/src", sys.argv[1] + "/tests"]
from support.client_children import child, named_pipe, release, setup
from qwen3_asr_mlx_runtime.client import Bridge
bridge = Bridge(setup(child("greet(); read()")))
bridge.open()
print(bridge.pid)
"""


def test_an_app_that_ends_without_stopping_it_takes_it_along(repository: Path) -> None:
    argv = [sys.executable, "-I", "-c", LEAVES, str(repository)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    eventually(lambda: is_gone(int(ran.stdout)))
