"""Rows 86 and 89 to 104: what the process may find around it."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from e2e.client import TESTS, WAIT, Client
from rows.bridge import command, real_model
from support.no_metal import NO_METAL
from support.tiny_checkpoint import write_tiny_checkpoint

SOURCE = TESTS.parent / "src" / "qwen3_asr_mlx_runtime"
TEXT = "8000 samples"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "model")


NO_MLX = "sys.modules['mlx'] = sys.modules['mlx.core'] = None"


def test_row_86_no_mlx_leaves_the_bridge_up_and_unloaded(model: Path) -> None:
    with real_model(model, before=NO_MLX) as bridge:
        assert bridge.ask("start")["code"] == "engine_unavailable"
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.ask("transcribe", audio="/dev/null")["type"] == "error"
        assert bridge.wait() == 0


def test_row_86_no_metal_device_leaves_the_bridge_up_and_says_why(model: Path, speech: str) -> None:
    with real_model(model, before=NO_METAL) as bridge:
        reply = bridge.ask("start")
        assert (reply["code"], reply["retryable"]) == ("device_unavailable", False)
        assert "No Metal device available" in reply["message"]
        assert bridge.ask("batch_transcribe", audio=[speech, speech])["code"] == "device_unavailable"
        assert bridge.ask("status")["memory"]["mlx_active_bytes"] is None
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


NOISE = """
import ctypes, os, subprocess
def noise(number):
    os.write(1, b"descriptor noise\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"native noise")
    libc.fflush(None)
    subprocess.run(["/bin/sh", "-c", "echo child noise; cat"], close_fds=False)
    print("python noise", flush=True)
"""
# The noise is made where libraries make it: while they are imported, loaded, and in the middle of a decode.
NOISE_ON_IMPORT = (
    NOISE
    + """
import builtins
_import = builtins.__import__
def _noisy(name, *arguments, **options):
    if name in ("soundfile", "mlx.core", "tokenizers"):
        noise(name)
    return _import(name, *arguments, **options)
builtins.__import__ = _noisy
"""
)
NOISE_IN_DECODE = (
    NOISE
    + """
from qwen3_asr_mlx_runtime.model import qwen3_asr
_logits = qwen3_asr.Qwen3ASR.logits
def _noisy(self, *arguments, **options):
    noise(1)
    return _logits(self, *arguments, **options)
qwen3_asr.Qwen3ASR.logits = _noisy
"""
)
EVERY_NOISE = {"descriptor noise", "native noise", "child noise", "python noise"}


def test_row_89_writes_to_descriptor_1_during_a_decode_stay_off_the_wire(model: Path, speech: str) -> None:
    with real_model(model, before=NOISE_IN_DECODE) as bridge:
        assert bridge.ask("transcribe", audio=speech, max_new_tokens=3)["type"] == "transcript"
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0
        assert {f"qwen3-asr-mlx: worker: {noise}" for noise in EVERY_NOISE} <= set(bridge.stderr().splitlines())


def test_row_90_writes_to_descriptor_1_during_imports_and_the_load_stay_off_the_wire(model: Path) -> None:
    with real_model(model, before=NOISE_ON_IMPORT) as bridge:
        assert bridge.ask("start")["type"] == "ready"
        assert bridge.wait() == 0
        assert {f"qwen3-asr-mlx: worker: {noise}" for noise in EVERY_NOISE} <= set(bridge.stderr().splitlines())


ENVIRONMENTS = {
    "nothing": {},
    "C": {"LANG": "C"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "utf-8": {"LANG": "en_US.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
    "unknown": {"LANG": "xx_YY.KOI8-R", "LC_ALL": "nonsense"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_row_91_the_locale_makes_no_difference(environment: dict[str, str], speech: str, tmp_path: Path) -> None:
    path = tmp_path / "سبعة 七.wav"
    shutil.copy(speech, path)
    with Client(command("speak"), env=environment) as bridge:
        assert bridge.ask("transcribe", audio=str(path))["audio"] == str(path)
        bridge.write(b'{"type":"\xff"}')
        assert bridge.read()["code"] == "invalid_utf8"
        bridge.write(rb'{"type":"\ud800"}')
        assert bridge.read()["code"] == "unknown_type"
        assert bridge.wait() == 0


def test_row_92_python_s_own_variables_shadow_nothing(tmp_path: Path, speech: str) -> None:
    for name in ("json", "queue", "numpy", "soundfile", "msgspec", "sitecustomize", "qwen3_asr_mlx_runtime"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    environment = {
        **dict.fromkeys(("PYTHONPATH", "PYTHONHOME"), str(tmp_path)),
        **dict.fromkeys(("PYTHONUNBUFFERED", "PYTHONDEVMODE", "PYTHONINSPECT"), "1"),
        "PYTHONSTARTUP": str(tmp_path / "json.py"),
        "PYTHONWARNINGS": "error",
    }
    with Client(command("speak"), env=environment) as bridge:
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert bridge.wait() == 0


SUBSETS = [subset for count in (1, 2, 3) for subset in itertools.combinations(range(3), count)]


@pytest.mark.parametrize("closed", SUBSETS, ids=str)
def test_row_93_descriptors_that_are_closed_at_the_start(closed: tuple[int, ...], speech: str) -> None:
    """Without 0 a usage error, without 1 nobody to talk to; without 2 nothing is amiss."""
    with Client(command("speak"), closed=closed) as bridge:
        if 0 in closed or 1 in closed:
            assert bridge.wait() == (5 if 1 in closed else 2)
            types = [reply["type"] for reply in bridge.monitor.replies]
            assert types == ([] if 1 in closed else ["fatal"])
        else:
            assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
            assert bridge.wait() == 0


@pytest.mark.once
def test_row_94_without_home_the_state_is_kept_nowhere(model: Path, speech: str) -> None:
    argv = command(None, "--model", str(model), "--local-files-only")
    for environment in ({}, {"HOME": "/nonexistent"}, {"HOME": "/proc"}, {"HOME": "/sys"}):
        with Client(argv, env=environment) as bridge:
            assert bridge.ask("transcribe", audio=speech, max_new_tokens=2)["type"] == "transcript"
            assert bridge.wait() == 0


@pytest.mark.once
def test_row_94_a_cache_that_cannot_be_read_is_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "models--owner--name").write_text("no folder")
    for cache in (tmp_path, "/nonexistent", "/dev/null"):
        with Client(command(None, "--local-files-only", "--cache-dir", str(cache), "owner/name")) as bridge:
            assert bridge.ask("start")["code"] == "model_not_found"
            assert bridge.wait() == 0
            assert "Traceback" not in bridge.stderr()


WATCH_FILES = """
import os
def _hook(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        os.write(2, b"WROTE " + os.fsencode(arguments[0]) + b"\\n")
    if event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir"):
        os.write(2, b"MADE " + repr(arguments[0]).encode() + b"\\n")
sys.addaudithook(_hook)
"""


def test_row_95_no_file_is_written_while_requests_are_answered(speech: str) -> None:
    with Client(command("speak", before=WATCH_FILES), env={"TMPDIR": "/nonexistent"}) as bridge:
        bridge.ask("start")
        bridge.ask("transcribe", audio=speech)
        bridge.ask("batch_transcribe", audio=[speech, "/a"])
        assert bridge.wait() == 0
        assert [line for line in bridge.stderr().splitlines() if line.startswith(("WROTE", "MADE"))] == []


def files_with(pattern: re.Pattern[str]) -> set[str]:
    files = SOURCE.rglob("*.py")
    return {str(path.relative_to(SOURCE)) for path in files if pattern.search(path.read_text(encoding="utf-8"))}


CLOCKS = re.compile(r"\btime\.(time|time_ns|localtime|gmtime)\(|\bdatetime\b")


DATED = {
    "tools/evaluate/main.py",
    "tools/monitor/session.py",
    "tools/serve/server.py",
}  # they say for people when they were made


def test_row_96_the_wall_clock_is_not_asked() -> None:
    """Setting the clock of this machine would be everybody's clock, so the source is read."""
    assert files_with(CLOCKS) == DATED
    assert CLOCKS.search("deadline = time.time() + 1")


def test_row_96_a_stopped_process_goes_on_where_it_was(speech: str) -> None:
    with Client(command("speak")) as bridge:
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        bridge.process.send_signal(signal.SIGSTOP)
        os.waitpid(bridge.process.pid, os.WUNTRACED)  # the signal is sent, not yet taken
        bridge.send("transcribe", audio=speech)
        assert psutil.Process(bridge.process.pid).status() == psutil.STATUS_STOPPED
        bridge.process.send_signal(signal.SIGCONT)
        assert bridge.read()["text"] == TEXT
        assert bridge.wait() == 0


FORKS = re.compile(r"os\.fork|forkpty|multiprocessing|preexec_fn|os\.popen|os\.system")
SPAWNING = {"tools/evaluate/measurement.py"}  # which runs each configuration in a process that is spawned


def test_row_97_nothing_forks() -> None:
    assert files_with(FORKS) == SPAWNING
    contexts = [re.findall(r"get_context\(.*?\)", (SOURCE / name).read_text(encoding="utf-8")) for name in SPAWNING]
    assert contexts == [['get_context("spawn")']]


def test_row_97_the_bridge_has_one_child_its_worker_which_ends_with_it(model: Path, speech: str) -> None:
    with real_model(model) as bridge:
        assert bridge.ask("transcribe", audio=speech, max_new_tokens=2)["type"] == "transcript"
        [worker] = psutil.Process(bridge.process.pid).children(recursive=True)
        assert bridge.wait() == 0
        assert not worker.is_running()


def limited(argv: Sequence[str], descriptors: int) -> list[str]:
    return ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"', *argv]


def test_row_100_few_descriptors_are_enough(model: Path, speech: str) -> None:
    argv = command(None, "--model", str(model), "--local-files-only")
    with Client(limited(argv, 64)) as bridge:
        assert bridge.ask("batch_transcribe", audio=[speech] * 64, max_new_tokens=1)["failed"] == 0
        assert psutil.Process(bridge.process.pid).num_fds() < 64
        assert bridge.wait() == 0


# Only Linux lets another process set its limits, so it does that itself, while it reads one file.
NO_DESCRIPTOR_LEFT = """
import resource
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
_read_segments = audio_reader.read_segments
def _limited(path, *limits, **options):
    if "crowded" not in path:
        yield from _read_segments(path, *limits, **options)
        return
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield from _read_segments(path, *limits, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
audio_reader.read_segments = _limited
"""


def test_row_100_no_descriptor_left_is_an_error_of_the_file(speech: str, tmp_path: Path) -> None:
    crowded = shutil.copy(speech, tmp_path / "crowded.wav")
    with Client(command("speak", before=NO_DESCRIPTOR_LEFT)) as bridge:
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        reply = bridge.ask("transcribe", audio=str(crowded))
        assert (reply["code"], reply["data"]["errno"]) == ("audio_unreadable", "EMFILE")
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert bridge.wait() == 0


@pytest.mark.parametrize("count", [5, 6])
def test_row_100_too_few_descriptors_to_begin_are_named_in_a_fatal_line(count: int) -> None:
    with Client(limited(command(None, "--model", "demo"), count)) as bridge:
        assert bridge.wait() == 2
        [fatal] = bridge.monitor.replies
        assert (fatal["type"], fatal["code"], fatal["retryable"]) == ("fatal", "resource_exhausted", True)
        assert "Traceback" not in bridge.stderr()


NO_THREAD = """
import threading
left, start = {left}, threading.Thread.start
def refuse(thread):
    global left
    left -= 1
    if left < 0:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = refuse
"""


@pytest.mark.parametrize("left", range(4))
def test_row_100_no_thread_to_begin_with_is_a_fatal_line(left: int) -> None:
    with Client(command("speak", before=NO_THREAD.format(left=left))) as bridge:
        assert bridge.wait() == 2
        [fatal] = bridge.monitor.replies
        assert (fatal["type"], fatal["code"], fatal["retryable"]) == ("fatal", "resource_exhausted", True)
        assert "Traceback" not in bridge.stderr()


@pytest.mark.parametrize("scenario", ["speak", "hold"])
def test_row_101_stop_ends_it_cleanly_while_stdin_stays_open(scenario: str) -> None:
    with Client(command(scenario)) as bridge:
        assert bridge.ask("stop")["type"] == "stopped"
        assert bridge.wait(close=False) == 0
        assert "Fatal Python error" not in bridge.stderr()


def test_row_102_behind_a_shell_the_process_that_was_started_is_the_bridge(speech: str) -> None:
    """scripts/qwen3-asr-mlx-bridge ends in an exec too: tests/scripts/test_launcher.py holds it to that."""
    with Client(["/bin/sh", "-c", 'exec "$0" "$@"', *command("speak")]) as bridge:
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        bridge.signal(signal.SIGTERM)
        assert bridge.wait(close=False) == 143


def test_row_102_behind_a_wrapper_the_named_parent_counts(speech: str) -> None:
    app = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE)
    wrapper = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    argv = [sys.executable, "-I", "-c", wrapper, *command("speak", "--parent-pid", str(app.pid))]
    with Client(argv) as bridge:
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        app.kill()
        app.communicate(timeout=WAIT)
        assert bridge.wait(close=False) == 5


def test_row_102_the_launcher_never_installs_when_forbidden(repository: Path, tmp_path: Path) -> None:
    launcher = repository / "scripts" / "qwen3-asr-mlx-bridge"
    environment = {"PATH": os.environ["PATH"], "QWEN3_ASR_MLX_HOME": str(tmp_path)}
    ran = subprocess.run(
        [str(launcher), "--no-install"], stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=WAIT
    )
    fatal = json.loads(ran.stdout)
    assert (ran.returncode, fatal["type"], fatal["code"]) == (2, "fatal", "environment_missing")
    assert list(tmp_path.iterdir()) == []


def test_row_103_several_bridges_share_one_model_and_one_state(model: Path, speech: str) -> None:
    with real_model(model) as first, real_model(model) as second:
        for bridge in (first, second):
            bridge.send("transcribe", audio=speech, max_new_tokens=4)
        assert first.read()["text"] == second.read()["text"]
        assert [first.wait(), second.wait()] == [0, 0]


@pytest.mark.parametrize("package", ["soundfile", "numpy", "msgspec", "soxr", "psutil"])
def test_row_104_a_package_that_is_missing(package: str) -> None:
    with Client(command(None, before=f"sys.modules[{package!r}] = None")) as bridge:
        assert bridge.wait() == 2
        assert [reply["type"] for reply in bridge.monitor.replies] == ["fatal"]
        assert bridge.monitor.replies[0]["code"] == "environment_missing"


BROKEN = "import os; os.write(1, b'noise of a broken package\\n'); raise OSError('wrong architecture')"


def test_row_104_a_package_that_breaks_when_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "soxr.py").write_text(BROKEN)
    with Client(command(None, before=f"sys.path.insert(0, {str(tmp_path)!r})")) as bridge:
        assert bridge.wait() == 2
        assert [reply["code"] for reply in bridge.monitor.replies] == ["environment_missing"]
