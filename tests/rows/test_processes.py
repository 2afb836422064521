"""Rows 49 to 58, 69, 83 and 88: parents, pipes and signals. Real processes all."""

import contextlib
import fcntl
import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e.client import WAIT, Client
from rows.bridge import command, real_model
from support.tiny_checkpoint import write_tiny_checkpoint

SECONDS_TO_END = 2.0  # from a signal to the end of the process
BUSY_MACHINE = 4.0  # times as long where two cores are shared with other work
MAX_OUTPUT_BYTES = 16 * 2**20
TEXT = "8000 samples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model")


@pytest.mark.once
def test_row_49_a_parent_that_reads_nothing_costs_bounded_memory_and_nothing_is_missing() -> None:
    count = 20_000
    with Client(command("speak")) as bridge:
        size = len(str(bridge.ask("capabilities")))
        assert count * size > 1.2 * MAX_OUTPUT_BYTES
        before = psutil.Process(bridge.process.pid).memory_info().rss
        for _ in range(count):
            bridge.send("capabilities")
        bridge.send("status")
        assert bridge.wait() == 0
        assert len(bridge.monitor.replies) == count + 2
        peak = bridge.monitor.replies[-1]["memory"]["rss_peak_bytes"]
        assert peak - before < 2 * MAX_OUTPUT_BYTES + 16 * 2**20


def test_row_49_a_signal_is_seen_while_nobody_reads(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        for _ in range(200):
            bridge.send("capabilities")
        bridge.send("transcribe", audio=speech)
        assert ends_in_time(bridge, signal.SIGTERM) == 143


def test_row_49_one_byte_at_a_time_is_slow_and_whole(speech: str) -> None:
    with Client(command("speak")) as bridge:
        line = b'{"type":"batch_transcribe","audio":["%s","/nowhere"]}' % speech.encode()
        bridge.monitor.sent(line)
        for byte in line + b"\n":
            bridge.process.stdin.write(bytes([byte]))
        assert bridge.read(size=1)["failed"] == 1
        assert bridge.wait() == 0


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe with a name, and its reading end, which nobody reads."""
    path = tmp_path / "stderr"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reading
    with contextlib.suppress(OSError):
        os.close(reading)


def with_stderr(path: Path, argv: list[str]) -> list[str]:
    return ["/bin/sh", "-c", f'exec "$0" "$@" 2>"{path}"', *argv]


def test_row_50_ten_megabytes_on_stderr_that_nobody_reads(speech: str, fifo: tuple[Path, int]) -> None:
    """The noise is a library's and blocks whoever makes it, the engine's thread; nothing else may wait for that."""
    with Client(with_stderr(fifo[0], command("stderr"))) as bridge:
        assert bridge.ask("start")["type"] == "ready"
        bridge.send("transcribe", audio=speech, id="noisy")
        assert bridge.ask("capabilities", id="c")["id"] == "c"
        assert ends_in_time(bridge, signal.SIGTERM) == 143


def test_row_50_the_bridge_s_own_lines_are_dropped_where_stderr_is_full(speech: str, fifo: tuple[Path, int]) -> None:
    with fifo[0].open("wb", buffering=0) as full:
        os.set_blocking(full.fileno(), False)
        while full.write(bytes(4096)):
            pass
        with Client(with_stderr(fifo[0], command("speak", "--no-cache"))) as bridge:
            assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
            assert bridge.ask("transcribe", audio="/nowhere")["type"] == "error"
            assert bridge.wait() == 0


def test_row_50_stderr_whose_reader_has_gone(speech: str, fifo: tuple[Path, int]) -> None:
    with Client(with_stderr(fifo[0], command("speak"))) as bridge:
        assert bridge.ask("capabilities")["type"] == "capabilities"
        os.close(fifo[1])
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert bridge.wait() == 0


@pytest.mark.once
def test_row_51_a_hundred_thousand_lines_are_written_before_anything_is_read(speech: str) -> None:
    count = 10_000
    with Client(command("speak")) as bridge:
        lines = (b'{"type":"ping"}\n' * 9 + b'{"type":"transcribe","audio":"/nowhere"}\n') * count
        for line in lines.splitlines():
            bridge.monitor.sent(line)
        write_all(bridge, lines)
        assert bridge.wait() == 0
        assert [reply["type"] for reply in bridge.monitor.replies] == (["pong"] * 9 + ["error"]) * count


def write_all(bridge: Client, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[bridge.process.stdin.write(view) :]


# Starts the bridge as a grandchild that shares its stdin and stdout, kills what lies between with -9 when it is told
# to, and waits for the orphan. Its own copy of stdin stays open: the orphan never sees the end. Whose child an orphan
# becomes is the system's to say, and with it who learns the exit code, so the orphan says that itself (TELLING).
GRANDPARENT = """
import ctypes, psutil, signal, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
PARENT = '''
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1)
print(child.pid, file=sys.stderr, flush=True)
child.wait()
'''
if sys.platform == "linux":  # where in a container nobody else might wait for it
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
parent = subprocess.Popen([sys.executable, "-I", "-c", PARENT, *sys.argv[1:]], stderr=subprocess.PIPE)
orphan = psutil.Process(int(parent.stderr.readline()))
signal.sigwait([signal.SIGUSR1])
parent.kill()
parent.wait()
orphan.wait()
sys.exit(int(parent.stderr.read().split()[-1]))
"""
TELLING = """
import os
_exit = os._exit
def _telling(code):
    os.write(2, b" %d" % code)
    _exit(code)
os._exit = _telling
"""


@pytest.mark.parametrize(("scenario", "moment"), [("speak", "idle"), ("loading", "loading"), ("hold", "decoding")])
def test_rows_52_54_a_parent_killed_with_9_while_stdin_leaks(speech: str, scenario: str, moment: str) -> None:
    with Client([sys.executable, "-I", "-c", GRANDPARENT, *command(scenario, before=TELLING)]) as bridge:
        assert bridge.ask("capabilities")["type"] == "capabilities"
        if moment == "decoding":
            assert bridge.ask("start")["type"] == "ready"
            bridge.send("transcribe", audio=speech)
        elif moment == "loading":
            bridge.send("start")
        bridge.monitor.signalled()
        killed = time.monotonic()
        bridge.process.send_signal(signal.SIGUSR1)
        assert bridge.wait(close=False) == 5
        assert time.monotonic() - killed < SECONDS_TO_END * BUSY_MACHINE


def test_row_52_a_parent_killed_with_9_in_the_middle_of_real_decodes(model: Path, speech: str) -> None:
    argv = command(None, "--model", str(model), "--local-files-only", before=TELLING)
    with Client([sys.executable, "-I", "-c", GRANDPARENT, *argv]) as bridge:
        assert bridge.ask("transcribe", audio=speech, max_new_tokens=1)["type"] == "transcript"
        bridge.send("batch_transcribe", audio=[speech] * 256, max_new_tokens=4096)
        bridge.monitor.signalled()
        bridge.process.send_signal(signal.SIGUSR1)
        assert bridge.wait(close=False) == 5


def test_row_54_an_orphan_whose_parent_ended_before_python_began_ends_while_others_hold_its_pipes() -> None:
    """The shell becomes the bridge, as a launcher does; this process, which adopted it, keeps the pipes open."""
    adopted = 'export QWEN3_ASR_MLX_LAUNCHED="$$ 999999999"; exec "$0" "$@"'
    with Client(["/bin/sh", "-c", adopted, *command("speak")]) as bridge:
        assert bridge.ask("capabilities")["type"] == "capabilities"
        bridge.monitor.signalled()
        assert bridge.wait(close=False) == 5


def test_row_53_the_end_of_input_finishes_everything_that_was_accepted(speech: str) -> None:
    with Client(command("third")) as bridge:
        for _ in range(100):
            bridge.send("transcribe", audio=speech)
        assert bridge.wait() == 0
        types = [reply["type"] for reply in bridge.monitor.replies]
        assert (types.count("transcript"), types.count("error")) == (67, 33)


def test_row_54_a_child_of_the_bridge_holds_no_end_of_the_wire(speech: str) -> None:
    with Client(command("child")) as bridge:
        assert bridge.ask("transcribe", audio=speech)["type"] == "transcript"
        assert bridge.wait(alone=False) == 0  # after the end of stdout, which the child would keep open


def test_row_55_a_closed_stdout_ends_it(speech: str) -> None:
    with Client(command("hold")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech)
        bridge.process.stdout.close()
        bridge.send("capabilities", id="c")
        assert bridge.process.wait(WAIT) == 5
        assert bridge.stderr().count("Traceback") == 0


def ends_in_time(bridge: Client, number: signal.Signals) -> int:
    """The exit code after a signal, which came within the deadline."""
    sent = time.monotonic()
    bridge.signal(number)
    code = bridge.process.wait(WAIT)
    assert time.monotonic() - sent < SECONDS_TO_END * BUSY_MACHINE
    return code


def codes(reply: dict) -> list[str]:
    """Of an error, or of every item of a batch."""
    return [reply["code"]] if reply["type"] == "error" else [item["error"]["code"] for item in reply["items"]]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("scenario", ["hold", "hang"])
def test_rows_56_57_58_a_signal_in_the_middle_of_a_long_decode(
    speech: str, scenario: str, number: signal.Signals, code: int
) -> None:
    with Client(command(scenario)) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech)
        bridge.send("batch_transcribe", audio=[speech])
        assert ends_in_time(bridge, number) == code
        assert bridge.wait(close=False) == code
        *refused, last = bridge.monitor.replies[1:]
        assert {code for reply in refused for code in codes(reply)} == {"shutting_down"}
        assert last["type"] == "stopped"


def test_row_56_a_signal_in_the_middle_of_real_decodes(model: Path, speech: str) -> None:
    with real_model(model) as bridge:
        assert bridge.ask("transcribe", audio=speech, max_new_tokens=1)["type"] == "transcript"
        bridge.send("batch_transcribe", audio=[speech] * 256, max_new_tokens=4096)
        assert ends_in_time(bridge, signal.SIGTERM) == 143
        bridge.wait(close=False)
        assert bridge.monitor.replies[-1]["type"] == "stopped"


def test_row_56_a_signal_before_the_model_is_loaded() -> None:
    with Client(command("loading")) as bridge:
        bridge.send("start")
        bridge.send("capabilities", id="c")
        bridge.read()
        assert ends_in_time(bridge, signal.SIGTERM) == 143


def test_row_56_a_second_signal_ends_it_at_once(speech: str) -> None:
    with Client(command("hang")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech)
        for _ in range(300):
            bridge.send("capabilities")
        bridge.signal(signal.SIGTERM)
        bridge.signal(signal.SIGTERM)
        assert bridge.process.wait(WAIT) == 143


def test_row_58_a_broken_pipe_is_no_signal() -> None:
    with Client(command("speak")) as bridge:
        assert bridge.ask("capabilities")["type"] == "capabilities"
        bridge.process.send_signal(signal.SIGPIPE)
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


def unread_bytes(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_row_69_half_a_line_is_waited_for() -> None:
    with Client(command("speak")) as bridge:
        bridge.ask("capabilities")
        line = b'{"type":"capabilities"}'
        bridge.monitor.sent(line)
        bridge.process.stdin.write(line[:10])
        while unread_bytes(bridge.process.stdin.fileno()):
            pass
        bridge.process.stdin.write(line[10:] + b"\n")
        assert bridge.read()["type"] == "capabilities"
        assert bridge.wait() == 0


def test_row_83_a_native_abort_is_seen_by_the_parent_as_such(speech: str) -> None:
    """With the engine in this process nothing outlives an abort; the parent sees the signal, and no half line."""
    with Client(command("abort")) as bridge:
        bridge.ask("start")
        bridge.send("transcribe", audio=speech)
        bridge.monitor.signalled()
        assert bridge.wait(close=False) == -signal.SIGABRT
        assert bridge.monitor._partial == b""


def test_the_bridge_leaves_no_process_behind(speech: str) -> None:
    with Client(command("speak")) as bridge:  # a client starts its process in a group of its own
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert os.getpgid(bridge.process.pid) == bridge.process.pid
        assert bridge.wait() == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(bridge.process.pid, 0)
