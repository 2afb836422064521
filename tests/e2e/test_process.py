"""The real process, over real pipes; an engine that plays a scenario stands in for the model."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.client import WAIT, Client, command
from e2e.fake_bridge import CANARY
from support.wave_file import write_silence


@pytest.fixture
def speech(tmp_path: Path) -> str:
    return write_silence(tmp_path / "speech.wav", 8_000)


def test_a_session_of_start_transcribe_and_stop(speech: str) -> None:
    with Client(command("speak", "--model", "demo")) as bridge:
        assert bridge.ask("start")["type"] == "ready"
        assert bridge.ask("transcribe", audio=speech, max_new_tokens=0)["text"] == "Seven three one."
        assert bridge.ask("stop")["type"] == "stopped"
        assert bridge.wait(close=False) == 0


def test_a_batch_with_one_bad_file(speech: str) -> None:
    with Client(command("speak")) as bridge:
        reply = bridge.ask("batch_transcribe", audio=[speech, "/nowhere/at/all.wav", speech])
        assert (reply["count"], reply["failed"]) == (3, 1)
        assert [item["text"] for item in reply["items"]] == ["Seven three one.", None, "Seven three one."]
        assert reply["items"][1]["error"]["code"] == "audio_not_found"
        assert bridge.wait() == 0


def test_rows_89_90_native_child_and_python_writes_stay_off_the_wire(speech: str) -> None:
    with Client(command("noise")) as bridge:
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0
        assert {"descriptor noise", "native noise", "child noise", "python noise"} <= set(bridge.stderr().splitlines())


BAD_LINES = {
    b"{": "invalid_json",
    b"[]": "invalid_request",
    b'{"type":"hello","type":"stop"}': "invalid_json",
    b'{"type":"hello","x":NaN}': "invalid_json",
    b'{"type":"hello","x":1e999}': "invalid_json",
    b"[" * 100_000: "invalid_json",
    b'{"type":"\xff"}': "invalid_utf8",
    b'{"type":"hello"}\r{"type":"hello"}': "invalid_json",
    b'{"type":"\x00"}': "invalid_json",
    b'{"type":"\\ud800"}': "unknown_type",
    b"{}": "invalid_request",
    b'{"type":"transcribe","audio":"\\ud800"}': "invalid_params",
    b'{"type":"transcribe","audio":"-"}': "path_not_allowed",
    b'{"type":"transcribe","audio":"/dev/fd/0"}': "audio_not_regular_file",
    b'{"type":"transcribe","audio":"/dev/stdin"}': "audio_not_regular_file",
    b'{"type":"transcribe","audio":"/"}': "audio_not_regular_file",
}


def test_bad_lines_get_their_code_and_nothing_else_is_lost() -> None:
    with Client(command("speak")) as bridge:
        for line, code in BAD_LINES.items():
            bridge.write(line)
            assert bridge.read()["code"] == code, line[:80]
            assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)],
    ids=lambda value: str(value),
)
def test_rows_56_57_a_signal_in_the_middle_of_a_decode(speech: str, number: signal.Signals, code: int) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech)
        bridge.send("batch_transcribe", audio=[speech])
        bridge.signal(number)
        replies = []
        while not replies or replies[-1]["type"] != "stopped":
            replies.append(bridge.read())
        assert bridge.wait(close=False) == code
        assert {reply.get("code") for reply in replies[:-1] if reply["type"] == "error"} <= {"shutting_down"}


def test_row_56_a_signal_is_obeyed_although_nobody_reads(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        for _ in range(100):
            bridge.send("capabilities")
        bridge.send("transcribe", audio=speech)
        bridge.process.send_signal(signal.SIGTERM)
        assert bridge.process.wait(WAIT) == 143


def test_row_56_a_second_signal_ends_it_at_once(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        for _ in range(100):
            bridge.send("capabilities")
        bridge.process.send_signal(signal.SIGTERM)
        bridge.process.send_signal(signal.SIGINT)
        assert bridge.process.wait(WAIT) in (130, 143)


def test_row_53_the_end_of_input_finishes_what_was_accepted_and_adds_no_line(speech: str) -> None:
    with Client(command("speak")) as bridge:
        bridge.send("transcribe", audio=speech)
        bridge.send("batch_transcribe", audio=[speech] * 9)
        assert bridge.wait() == 0
        assert [reply["type"] for reply in bridge.monitor.replies] == ["transcript", "batch_transcript"]


def test_stdin_that_is_at_its_end_from_the_start_ends_it_in_silence() -> None:
    with Client(command("speak")) as bridge:
        assert bridge.wait() == 0
        assert bridge.monitor.replies == []


def test_row_51_everything_is_written_before_anything_is_read(speech: str) -> None:
    count = 3_000
    with Client(command("speak")) as bridge:
        for _ in range(count):
            bridge.send("capabilities")
            bridge.send("transcribe", audio="/nowhere.wav")
        assert bridge.wait() == 0
        types = [reply["type"] for reply in bridge.monitor.replies]
        assert types == ["capabilities", "error"] * count


@pytest.mark.parametrize(
    ("closed", "code", "expected_types"),
    [((0,), 2, ["fatal"]), ((1,), 5, []), ((2,), 0, ["capabilities"]), ((0, 1, 2), 5, []), ((0, 2), 2, ["fatal"])],
    ids=str,
)
def test_row_93_descriptors_that_are_closed_at_the_start(
    closed: tuple[int, ...], code: int, expected_types: list[str]
) -> None:
    with Client(command("speak"), closed=closed) as bridge:
        if 0 not in closed and 1 not in closed:
            bridge.send("capabilities")
        assert bridge.wait() == code
        assert [reply["type"] for reply in bridge.monitor.replies] == expected_types


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LANG": "C", "LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
    ],
    ids=str,
)
def test_rows_91_94_the_environment_makes_no_difference(speech: str, env: dict[str, str], tmp_path: Path) -> None:
    arabic = tmp_path / "سبعة.wav"
    arabic.write_bytes(Path(speech).read_bytes())
    with Client(command("speak"), env=env) as bridge:
        reply = bridge.ask("transcribe", audio=str(arabic))
        assert (reply["type"], reply["audio"]) == ("transcript", str(arabic))
        assert bridge.wait() == 0


def test_row_55_a_parent_that_closes_its_reading_end(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        bridge.process.stdout.close()
        bridge.send("capabilities")
        assert bridge.process.wait(WAIT) == 5


PARENT = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1)
os.write(2, b"%d\\n" % child.pid)
child.wait()
"""


@pytest.mark.parametrize("moment", ["idle", "decoding"])
def test_rows_52_54_the_parent_is_killed_while_the_pipes_stay_open(speech: str, moment: str) -> None:
    with Client([sys.executable, "-I", "-c", PARENT, *command("hold")]) as parent:
        assert parent.ask("start")["type"] == "ready"
        if moment == "decoding":
            parent.send("transcribe", audio=speech)
        parent.process.kill()
        parent.monitor.signalled()
        assert parent.wait(close=False) == -signal.SIGKILL  # after the end of output: the orphan has gone


def test_row_52_another_process_may_be_the_one_to_live_with(speech: str) -> None:
    other = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE)
    with Client(command("hold", "--parent-pid", str(other.pid))) as bridge:
        assert bridge.ask("start")["type"] == "ready"
        other.communicate(b"\n", timeout=WAIT)
        assert bridge.wait(close=False) == 5


def test_row_104_a_missing_package_is_a_fatal_line() -> None:
    with Client(command("speak", before="sys.modules['soundfile'] = None")) as bridge:
        assert bridge.wait() == 2
        assert bridge.monitor.replies == [
            {
                "type": "fatal",
                "code": "environment_missing",
                "message": "soundfile is not installed: pip install 'qwen3-asr-mlx-runtime'",
                "retryable": False,
            }
        ]


def test_an_internal_error_is_a_fatal_line_without_its_message(speech: str) -> None:
    with Client(command("broken")) as bridge:
        bridge.send("transcribe", audio=speech)
        fatal = bridge.read()
        assert (fatal["type"], fatal["code"]) == ("fatal", "internal_error")
        assert bridge.wait(close=False) == 1
        assert CANARY not in fatal["message"] + bridge.stderr()


def test_transcripts_and_names_is_never_on_stderr(tmp_path: Path, speech: str) -> None:
    recording = tmp_path / f"{CANARY}.wav"
    recording.write_bytes(Path(speech).read_bytes())
    with Client(command("canary", "--context", CANARY, "--model", CANARY)) as bridge:
        assert bridge.ask("transcribe", audio=str(recording), id=CANARY, context=CANARY)["text"] == CANARY
        for members in ({"audio": str(recording)}, {"audio": f"/{CANARY}"}, {CANARY: CANARY}, {"language": CANARY}):
            assert bridge.ask("transcribe", **members)["type"] == "error"
        bridge.write(CANARY.encode())
        assert bridge.read()["code"] == "invalid_json"
        assert bridge.wait() == 0
        assert CANARY not in bridge.stderr()


def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(None, *arguments), stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False
    )


def test_a_bad_option_is_an_error_on_stderr_and_nothing_on_stdout() -> None:
    ran = run("--dtype", "int8")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert b"--dtype" in ran.stderr


def test_help_and_notices_keep_to_their_streams() -> None:
    assert run("--help").returncode == 0
    ran = run("--no-cache", "--no-trust-remote-code", "--print-capabilities")
    assert (ran.returncode, ran.stdout.count(b"\n")) == (0, 1)
    assert len(ran.stderr.splitlines()) == 2
