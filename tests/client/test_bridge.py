"""The client and children that misbehave in every way a child can."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from processes import is_gone
from support.client_children import child, named_pipe, release, setup

from qwen3_asr_mlx_runtime.client import (
    Bridge,
    BridgeClosed,
    BridgeExited,
    BridgeFatal,
    BridgeHung,
    BridgeLost,
    BridgeNotExecutable,
    BridgeNotFound,
    BridgePipeClosed,
    BridgeStartFailed,
    ClientError,
    Exit,
    ProtocolError,
    ProtocolUnsupported,
    RequestFailed,
    RequestTimeout,
    RestartLimit,
    Setup,
    Unknown,
)
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk
from qwen3_asr_mlx_runtime.protocol.replies import Pong
from qwen3_asr_mlx_runtime.protocol.transcripts import Stopped

WAIT = 60
CANARY = "zaqwsxcde"
ECHO = """
greet()
while True:
    message = read()
    say(STOPPED if message["type"] == "stop" else PONG, id=message["id"])
    if message["type"] == "stop":
        break
"""


def eventually(condition: Callable[[], bool]) -> None:
    """For events without a descriptor: the end of a process that is not our child."""
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def failure(bridge: Bridge) -> ClientError:
    """What the next request fails with; the bridge is killed afterwards."""
    with pytest.raises(ClientError) as caught:
        bridge.ping(timeout=WAIT)
    bridge.kill()
    return caught.value


class TestStarting:
    @pytest.mark.parametrize("program", ["/nowhere/at/all", "no-such-command-anywhere"])
    def test_a_wrong_path_is_named(self, program: str) -> None:
        bridge = Bridge([program])
        with pytest.raises(BridgeNotFound, match=program) as caught:
            bridge.open()
        assert (caught.value.code, bridge.state, caught.value.retryable) == ("bridge_not_found", "failed", False)
        with pytest.raises(BridgeNotFound):
            bridge.ping()

    @pytest.mark.parametrize("content", [None, "text", "#!/nowhere/python\n", ""], ids=str)
    def test_what_is_no_program_cannot_be_executed(self, content: str | None, tmp_path: Path) -> None:
        program = tmp_path / "bridge"
        if content is None:
            program.mkdir()
        else:
            program.write_text(content)
            program.chmod(0o644 if content == "text" else 0o755)
        with pytest.raises(BridgeNotExecutable, match="bridge"):
            Bridge([str(program)]).open()

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BridgeStartFailed, match="elsewhere"):
            Bridge(Setup(command=child("pass"), cwd=tmp_path / "elsewhere")).open()

    def test_a_system_that_has_no_more_processes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(BridgeStartFailed, match="Resource temporarily unavailable"):
            Bridge(child("pass")).open()

    def test_it_leads_a_session_of_its_own_and_lives_with_this_process(self) -> None:
        with Bridge(
            setup(child('m = read(); say(CAPABILITIES, id=m["id"], session=str(m["parent_pid"])); read()'))
        ) as it:
            assert os.getsid(it.pid or 0) == it.pid
            assert it.open().session == str(os.getpid())
            it.kill()

    @pytest.mark.parametrize("own", [[], ["--parent-pid", "7"], ["--parent-pid=7"]], ids=str)
    def test_its_command_line_names_this_process_unless_the_app_names_one(self, own: list[str]) -> None:
        program = 'm = read(); say(CAPABILITIES, id=m["id"], session=" ".join(sys.argv[1:])); read()'
        bridge = Bridge(setup(child(program, "--model", "x", *own)))
        words = bridge.open().session
        bridge.kill()
        assert words == " ".join(["--model", "x", *(own or ["--parent-pid", str(os.getpid())])])

    def test_one_that_is_killed_while_it_opens_is_gone(self) -> None:
        bridge = Bridge(setup(child("read(); signal.pause()")))
        with ThreadPoolExecutor(1) as threads:
            opened = threads.submit(bridge.open)
            eventually(lambda: bridge.pid is not None)
            bridge.kill()
            assert isinstance(opened.exception(), BridgeClosed)
        assert (bridge.state, bridge.exit) == ("stopped", Exit(signal=signal.SIGKILL))

    def test_requests_of_several_threads_start_one_process(self) -> None:
        bridge = Bridge(setup(child(ECHO)))
        with ThreadPoolExecutor(8) as threads:
            pongs = [*threads.map(lambda _: bridge.ping(timeout=WAIT), range(32))]
        assert all(isinstance(pong, Pong) for pong in pongs)
        assert bridge.restarts == 0
        bridge.stop()

    def test_a_protocol_that_is_not_ours_ends_it(self) -> None:
        bridge = Bridge(setup(child('greet(protocols=["qwen3-asr-mlx-jsonl-v9"]); read(); read()')))
        with pytest.raises(ProtocolUnsupported) as caught:
            bridge.open()
        assert (bridge.state, caught.value.exit) == ("failed", Exit(signal=signal.SIGKILL))

    def test_an_answer_that_is_no_greeting_ends_it(self) -> None:
        bridge = Bridge(setup(child('say(PONG, id=read()["id"]); read()')))
        with pytest.raises(ProtocolError):
            bridge.open()
        assert bridge.state == "lost"


class TestLosing:
    @pytest.mark.parametrize(
        ("code", "name", "state"),
        [
            (0, "done", "failed"),
            (1, "internal_error", "lost"),
            (2, "environment", "failed"),
            (3, "unknown", "lost"),
            (4, "engine_lost", "lost"),
            (127, "not_found", "failed"),
            (143, "terminated", "failed"),
        ],
    )
    def test_one_that_ends_at_once_is_reported_by_its_exit_and_its_last_words(
        self, code: int, name: str, state: str
    ) -> None:
        bridge = Bridge(setup(child(f'os.write(2, b"first\\nlast words\\n"); os._exit({code})')))
        with pytest.raises(BridgeExited) as caught:
            bridge.open()
        assert (caught.value.exit, caught.value.stderr) == (Exit(code=code), ("first", "last words"))
        assert (bridge.exit.name, bridge.state, caught.value.retryable) == (name, state, state == "lost")

    def test_one_that_dies_in_the_middle_fails_what_was_asked_and_nothing_is_sent_again(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        program = 'greet(); m = read(); open(sys.argv[1], "a").write(m["type"] + "\\n"); os.kill(os.getpid(), 9)'
        bridge = Bridge(setup(child(program, str(log))))
        with pytest.raises(BridgeExited, match="SIGKILL") as caught:
            bridge.transcribe(f"/{CANARY}.wav")
        assert (caught.value.exit, caught.value.retryable, bridge.state) == (Exit(signal=9), True, "lost")
        assert CANARY not in str(caught.value)
        with pytest.raises(BridgeExited):
            bridge.start()
        assert log.read_text() == "transcribe\nstart\n"
        assert bridge.restarts == 1

    def test_every_request_in_flight_fails(self) -> None:
        bridge = Bridge(setup(child("greet(); [read() for _ in range(4)]; os.abort()")))
        bridge.open()
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(bridge.ping, timeout=WAIT) for _ in range(4)]
        errors = [each.exception() for each in asked]
        assert all(isinstance(error, BridgeExited) for error in errors)
        assert len({id(error) for error in errors}) == 4

    def test_the_app_is_reported_with_the_streams_that_are_gone(self) -> None:
        ready = 'greet(); m = read(); say(READY, id=m["id"], stream_id=m["stream_id"]); read(); os._exit(1)'
        bridge = Bridge(setup(child(ready)))
        stream = bridge.start_stream("mic")
        with pytest.raises(BridgeExited):
            stream.end_utterance(bytes(2))
        lost = bridge.next_event(WAIT)
        assert isinstance(lost, BridgeLost)
        assert (lost.error.code, lost.streams, lost.will_restart) == ("bridge_exited", ("mic",), True)
        with pytest.raises(BridgeExited):
            stream.append(bytes(2))
        bridge.kill()

    def test_output_before_the_end_is_read(self) -> None:
        with Bridge(setup(child('greet(); m = read(); say(PONG, id=m["id"]); os._exit(1)'))) as bridge:
            assert bridge.ping(timeout=WAIT).state == "ready"

    def test_a_fatal_line_is_the_reason(self) -> None:
        fatal = (
            '{"type": "fatal", "code": "environment_missing", "message": "a package is missing", "retryable": False}'
        )
        bridge = Bridge(setup(child(f"say({fatal}); sys.exit(2)")))
        with pytest.raises(BridgeFatal, match="a package is missing") as caught:
            bridge.open()
        assert (caught.value.fatal_code, caught.value.exit, bridge.state) == ("environment_missing", Exit(2), "failed")
        assert failure(bridge).code == "bridge_fatal"

    def test_it_is_not_started_for_ever_and_the_app_may_start_again(self) -> None:
        bridge = Bridge(setup(child("greet(); read(); os._exit(1)"), restarts=2))
        for _ in range(3):
            with pytest.raises(BridgeExited):
                bridge.ping()
        with pytest.raises(RestartLimit) as caught:
            bridge.ping()
        assert isinstance(caught.value.__cause__, BridgeExited)
        assert (bridge.state, bridge.restarts) == ("failed", 2)
        assert bridge.open().protocol
        bridge.kill()

    def test_losses_of_long_ago_do_not_count(self) -> None:
        bridge = Bridge(setup(child("greet(); read(); os._exit(1)"), restarts=0, restart_seconds=-1.0))
        for _ in range(3):
            with pytest.raises(BridgeExited):
                bridge.ping()
        bridge.kill()


class TestNonsense:
    @pytest.mark.parametrize(
        "line",
        [
            f"{CANARY}\\n",
            f'["{CANARY}"]\\n',
            f'{{"text": "{CANARY}"}}\\n',
            '{"type": 7}\\n',
            "\\xff\\n",
            f'{{"{CANARY}',
        ],
    )
    def test_a_line_that_is_no_message_ends_it_and_is_not_quoted(self, line: str) -> None:
        write = f"os.write(1, {line!r}.encode('latin-1').decode('unicode_escape').encode('latin-1'))"
        bridge = Bridge(
            setup(child(f"greet(); read(); {write}; " + ("" if line.endswith("n") else "sys.exit(0); ") + "read()"))
        )
        error = failure(bridge)
        assert (error.code, error.retryable) == ("protocol_error", True)
        assert CANARY not in f"{error} {error.stderr}"

    def test_a_line_without_an_end_ends_it(self) -> None:
        endless = 'greet(); read()\nwhile True: os.write(1, b"x" * 65536)'
        assert failure(Bridge(setup(child(endless), line_bytes=1 << 20))).code == "protocol_error"

    def test_a_reply_of_another_type_ends_it(self) -> None:
        assert (
            failure(Bridge(setup(child('greet(); m = read(); say(STOPPED, id=m["id"]); read()')))).code
            == "protocol_error"
        )

    def test_what_a_later_version_says_is_kept_and_handed_on(self) -> None:
        written = 'greet(x=1); say({"type": "weather", "event": True, "n": 1}); say({"type": "progress", "n": "x"})'
        with Bridge(
            setup(child(f'{written}; say(PONG, id=read()["id"], mood="good"); say(STOPPED, id=read()["id"])'))
        ) as bridge:
            assert bridge.ping(timeout=WAIT).state == "ready"
            weather, progress = bridge.next_event(WAIT), bridge.next_event(WAIT)
            assert isinstance(weather, Unknown)
            assert (weather.type, weather.event, weather.message["n"]) == ("weather", True, 1)
            assert isinstance(progress, Unknown)

    def test_any_message_may_be_sent_and_have_any_answer(self) -> None:
        program = 'greet(); m = read(); say({"type": "forecast", "id": m["id"]}); say(STOPPED, id=read()["id"])'
        with Bridge(setup(child(program))) as bridge:
            reply = bridge.request({"type": "weather", "id": "mine"}, timeout=WAIT)
            assert isinstance(reply, Unknown)
            assert (reply.type, reply.id) == ("forecast", "mine")


class TestHanging:
    def test_one_that_never_greets(self) -> None:
        bridge = Bridge(setup(child("signal.pause()"), open_seconds=0.2))
        with pytest.raises(BridgeHung) as caught:
            bridge.open()
        assert (caught.value.exit, bridge.state) == (Exit(signal=signal.SIGKILL), "lost")

    def test_one_that_says_nothing_any_more(self) -> None:
        error = failure(Bridge(setup(child("greet(); signal.pause()"), hang_seconds=0.2)))
        assert (error.code, error.exit) == ("bridge_hung", Exit(signal=signal.SIGKILL))

    def test_one_that_works_for_long_answers_pings_and_is_left_alone(self) -> None:
        program = 'greet(); first = read()["id"]; say(PONG, id=read()["id"]); say(PONG, id=first); read()'
        bridge = Bridge(setup(child(program), hang_seconds=4.0))
        assert bridge.ping(timeout=WAIT).state == "ready"
        bridge.kill()

    def test_one_that_takes_no_audio_any_more(self) -> None:
        bridge = Bridge(setup(child("greet(); signal.pause()"), hang_seconds=0.5))
        bridge.open()
        connection = bridge._session.connected()
        connection.send(AudioChunk(pcm16="A" * (4 << 20)))
        with pytest.raises(BridgeHung, match="audio"):
            connection.room().result(WAIT)
        bridge.kill()

    @pytest.mark.parametrize("closed", [1, 0])
    def test_one_that_closes_a_pipe_and_goes_on(self, closed: int) -> None:
        program = f"greet(); read(); os.close({closed}); signal.pause()"
        bridge = Bridge(setup(child(program), grace_seconds=0.2))
        bridge.open()
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(bridge.ping, timeout=WAIT)
            if closed == 0:
                while not first.done():  # until a write fails
                    with pytest.raises(ClientError):
                        bridge.ping(timeout=0.05)
            assert isinstance(first.exception(), BridgePipeClosed)
        bridge.kill()

    @pytest.mark.parametrize("outputs", ["", ", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"], ids=str)
    def test_a_child_of_its_own_ends_with_it_also_where_it_ended_by_itself(self, outputs: str) -> None:
        held = f'held = subprocess.Popen(["sleep", "600"]{outputs})'
        program = f'greet(); read(); {held}; os.write(2, b"%d\\n" % held.pid); os._exit(1)'
        error = failure(Bridge(setup(child(program))))
        assert error.code == "bridge_exited"
        eventually(lambda: is_gone(int(error.stderr[-1])))

    def test_what_holds_its_output_and_is_not_of_its_group_keeps_nobody_waiting(self) -> None:
        held = 'held = subprocess.Popen(["sleep", "600"], start_new_session=True)'
        program = f'greet(); read(); {held}; os.write(2, b"%d\\n" % held.pid); os._exit(1)'
        error = failure(Bridge(setup(child(program))))
        assert error.code == "bridge_exited"
        os.kill(int(error.stderr[-1]), signal.SIGKILL)

    def test_a_flood_on_stderr_holds_up_nothing_and_its_end_is_kept(self) -> None:
        flood = 'for _ in range(80): os.write(2, b"noise" * 13107 + b"\\n")'
        program = f'greet(); m = read()\n{flood}\nos.write(2, b"last\\n"); say(PONG, id=m["id"]); read()'
        lines: list[str] = []
        bridge = Bridge(replace(setup(child(program)), on_stderr=lines.append))
        bridge.ping(timeout=WAIT)
        bridge.kill()
        assert bridge.stderr[-1] == "last"
        assert sum(map(len, bridge.stderr)) <= 64 * 1024
        assert (len(lines), lines[-1]) == (81, "last")


class TestAsking:
    def test_replies_find_their_requests_in_any_order(self) -> None:
        answer = 'say(PONG, id=m["id"], uptime_s=float(m["n"]))'
        program = f"greet(); two = [read(), read()]\nfor m in reversed(two): {answer}\nread()"
        bridge = Bridge(setup(child(program)))
        bridge.open()
        with ThreadPoolExecutor(2) as threads:
            asked = {n: threads.submit(bridge.request, {"type": "ping", "n": n}, timeout=WAIT) for n in (1, 2)}
            assert {n: each.result().uptime_s for n, each in asked.items()} == {1: 1.0, 2: 2.0}
        bridge.kill()

    def test_an_error_reply_is_raised_and_the_bridge_goes_on(self) -> None:
        written = '"code": "audio_not_found", "message": "no such file", "retryable": False, "data": {"errno": 2}'
        error = f'{{"type": "error", {written}}}'
        with Bridge(setup(child(f'greet(); say({error}, id=read()["id"]);' + ECHO.replace("greet()", "")))) as bridge:
            with pytest.raises(RequestFailed, match="no such file") as caught:
                bridge.transcribe("/nowhere.wav")
            assert (caught.value.wire_code, caught.value.data, caught.value.code) == (
                "audio_not_found",
                {"errno": 2},
                "request_failed",
            )
            assert bridge.ping().state == "ready"

    def test_what_takes_too_long_is_cancelled(self) -> None:
        program = 'greet(); m = read(); say({**read(), "type": "received", "id": None, "first": m["id"]}); read()'
        bridge = Bridge(setup(child(program)))
        bridge.open()
        with pytest.raises(RequestTimeout, match=r"0\.01 seconds"):
            bridge.transcribe("/a.wav", timeout=0.01)
        received = bridge.next_event(WAIT)
        assert isinstance(received, Unknown)
        assert received.message["target"] == received.message["first"]
        bridge.kill()

    def test_an_id_in_flight_is_refused_here(self) -> None:
        bridge = Bridge(setup(child("greet(); read(); signal.pause()")))
        connection = bridge._session.connected()
        connection.ask({"type": "ping", "id": "mine"})
        with pytest.raises(ValueError, match="in flight"):
            connection.ask({"type": "ping", "id": "mine"})
        bridge.kill()

    def test_audio_waits_until_there_is_room_and_all_of_it_arrives_in_order(self, tmp_path: Path) -> None:
        program = """
greet()
m = read()
say(READY, id=m["id"], sample_rate=8000)
hold()
chunks = []
while (m := read())["type"] == "audio_chunk":
    chunks.append(m)
say({"type": "told", "id": m["id"], "sizes": [len(c["pcm16"]) for c in chunks], "seqs": [c["seq"] for c in chunks]})
read()
"""
        pipe = named_pipe(tmp_path)
        bridge = Bridge(setup(child(program, str(pipe)), unwritten_bytes=64 * 1024))
        stream = bridge.start_stream("s", sample_rate=8000)
        appended = 0
        with contextlib.suppress(RequestTimeout):  # nothing is read, so there is no room at last
            while appended < 4 << 20:
                stream.append(bytes(1600), timeout=0.2)
                appended += 1600
        assert 64 * 1024 < appended < 1 << 20
        release(pipe)
        stream.append(bytes(2000), timeout=WAIT)
        reported = bridge.request({"type": "tell"}, timeout=WAIT)
        assert isinstance(reported, Unknown)
        encoded = [2136] * (appended // 1600 + 1) + [536]
        assert reported.message["sizes"] == encoded
        assert reported.message["seqs"] == [*range(len(encoded))]
        with pytest.raises(ValueError, match="odd"):
            stream.append(bytes(3))
        bridge.kill()


class TestStopping:
    def test_a_stop_is_answered_and_the_process_ends(self) -> None:
        bridge = Bridge(setup(child(ECHO)))
        bridge.ping()
        stopped = bridge.stop()
        assert isinstance(stopped, Stopped)
        assert (bridge.state, bridge.exit) == ("stopped", Exit(code=0))
        assert [*bridge.events] == []
        with pytest.raises(BridgeClosed):
            bridge.ping()
        assert bridge.stop() is None
        bridge.open()
        assert bridge.ping().state == "ready"
        bridge.kill()

    def test_what_was_asked_before_still_gets_its_reply(self) -> None:
        program = 'greet(); first, stop = read(), read(); say(PONG, id=first["id"]); say(STOPPED, id=stop["id"])'
        bridge = Bridge(setup(child(program)))
        bridge.open()
        connection = bridge._session.connected()
        _, reply = connection.ask({"type": "ping"})
        assert bridge.stop() is not None
        assert isinstance(reply.result(0), Pong)

    def test_one_that_ignores_stop_and_the_end_of_input_is_terminated(self) -> None:
        bridge = Bridge(setup(child("greet(); signal.pause()"), grace_seconds=0.1))
        bridge.open()
        assert bridge.stop(deadline_ms=0) is None
        assert (bridge.exit, bridge.exit.name) == (Exit(signal=signal.SIGTERM), "SIGTERM")

    def test_one_that_ignores_sigterm_too_is_killed_with_all_it_started(self) -> None:
        program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = subprocess.Popen(["sleep", "60"])
greet(session=str(held.pid))
while True: signal.pause()
"""
        bridge = Bridge(setup(child(program), grace_seconds=0.1))
        held = int(bridge.open().session or 0)
        connection = bridge._session.connected()
        _, reply = connection.ask({"type": "ping"})
        assert bridge.stop(deadline_ms=0) is None
        assert bridge.exit == Exit(signal=signal.SIGKILL)
        assert isinstance(reply.exception(), BridgeClosed)
        eventually(lambda: is_gone(held))

    def test_an_error_in_the_block_kills_it(self) -> None:
        bridge = Bridge(setup(child(ECHO)))
        with pytest.raises(ZeroDivisionError), bridge:
            raise ZeroDivisionError
        assert (bridge.state, bridge.exit) == ("stopped", Exit(signal=signal.SIGKILL))

    def test_a_reader_that_waits_for_events_gets_the_end(self) -> None:
        bridge = Bridge(setup(child(ECHO)))
        bridge.open()
        with ThreadPoolExecutor(1) as threads:
            read = threads.submit(lambda: [*bridge.events])
            bridge.stop()
            assert read.result(WAIT) == []

    def test_no_thread_and_no_descriptor_is_left(self) -> None:
        before = psutil.Process().num_fds()
        for _ in range(3):
            bridge = Bridge(setup(child(ECHO)))
            bridge.ping()
            bridge.stop()
        assert psutil.Process().num_fds() == before
        assert [thread.name for thread in threading.enumerate() if thread.name == "qwen3-asr-bridge"] == []


APP = """
import signal, sys
sys.path[:0] = [sys.argv[1] + "/src", sys.argv[1] + "/tests"]
from support.client_children import child, setup
from qwen3_asr_mlx_runtime.client import Bridge, BridgePipeClosed
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
bridge = Bridge(setup(child("greet(); os.close(0); say({'type': 'closed'}); signal.pause()"), grace_seconds=0.2))
bridge.open()
bridge.next_event()
try:
    bridge.ping()
except BridgePipeClosed as error:
    print(error.code)
bridge.kill()
"""


def test_a_broken_pipe_ends_no_app_that_lets_sigpipe_end_it(repository: Path) -> None:
    argv = [sys.executable, "-I", "-c", APP, str(repository)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "bridge_pipe_closed\n", "")


def test_it_loads_no_numerics(repository: Path) -> None:
    start = f"import sys; sys.path.insert(0, {str(repository / 'src')!r}); import qwen3_asr_mlx_runtime.client; "
    show = "print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-I", "-c", start + show], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & {"mlx", "numpy", "soundfile", "soxr", "transformers", "psutil"} == set()
