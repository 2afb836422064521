"""The worker as a real process: how it starts, how it ends, and that it never outlives its bridge."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from reference.random_checkpoint import write_random_checkpoint
from support.engine_requests import align, transcribe
from support.in_worker import planted

from qwen3_asr_mlx_runtime.engines import worker as module
from qwen3_asr_mlx_runtime.engines.api import (
    Aligned,
    EngineEnded,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Unloaded,
)
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.engines.worker import WorkerEngine
from qwen3_asr_mlx_runtime.settings import Settings

WAIT = 60
SPEECH = Utterance((np.random.default_rng(0).standard_normal(32_000) * 0.02).astype(np.float32), max_new_tokens=4)


class Worker:
    """An engine, and what it has posted."""

    def __init__(self, **settings: object) -> None:
        self.outcomes: queue.SimpleQueue = queue.SimpleQueue()
        self.engine = WorkerEngine(Settings(model="demo", dtype="float32", **settings), self.outcomes.put)

    def next(self) -> object:
        """The next outcome but for progress."""
        while isinstance(outcome := self.outcomes.get(timeout=WAIT), Progress):
            pass
        return outcome

    def load(self) -> object:
        self.engine.send(Load())
        return self.next()

    def decode(self, job_id: int = 1) -> None:
        for request in transcribe(job_id, SPEECH):
            self.engine.send(request)

    def signal(self, number: int) -> None:
        os.kill(self.engine.pid, number)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.engine.close()
    assert worker.engine.join(WAIT)


def plant(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Code that the worker runs before it begins."""
    monkeypatch.setattr(module, "_PROGRAM", planted(module._PROGRAM, code))


def wait_until_gone(pid: int) -> None:
    give_up_at = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up_at, "the worker outlives its bridge"
        time.sleep(0.005)


def test_it_loads_and_transcribes_and_tells_its_memory(worker: Worker) -> None:
    assert isinstance(worker.load(), Loaded)
    worker.decode()
    finished = worker.next()
    assert isinstance(finished, Finished)
    assert worker.engine.memory.mlx_active_bytes > 0
    assert worker.engine.memory.rss_bytes > 0
    assert finished.transcript.profile.memory.rss_bytes != psutil.Process().memory_info().rss


def test_it_aligns_with_an_aligner_of_its_own(tmp_path: Path, demo_checkpoint: Path) -> None:
    folder = write_random_checkpoint(tmp_path, size="tiny-aligner", tokenizer=demo_checkpoint)
    worker = Worker(aligner=str(folder))
    assert isinstance(worker.load(), Loaded)
    for id, text in enumerate(["Seven, three.", "\ud800"]):
        for request in align(id, SPEECH.samples, text):
            worker.engine.send(request)
    found = {outcome.job_id: outcome for outcome in (worker.next(), worker.next())}
    worker.engine.close()
    assert worker.engine.join(WAIT)
    assert isinstance(found[0], Aligned)
    assert [(word.char_start, word.char_end) for word in found[0].words] == [(0, 7), (7, 13)]
    assert found[1].error.code == "decode_failed"


def test_a_bridge_that_uses_a_worker_imports_no_mlx() -> None:
    code = "import sys, qwen3_asr_mlx_runtime.engines.worker; print([m for m in sys.modules if m.startswith('mlx')])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_an_end_while_idle_is_reported_and_the_next_load_starts_another(worker: Worker, number: signal.Signals) -> None:
    assert isinstance(worker.load(), Loaded)
    before = worker.engine.pid
    worker.signal(number)
    assert worker.next() == EngineEnded(number.name)
    assert (worker.engine.pid, worker.engine.memory) == (None, None)
    assert isinstance(worker.load(), Loaded)
    assert worker.engine.pid not in (None, before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_an_end_in_a_load_is_reported(worker: Worker, number: signal.Signals) -> None:
    worker.engine.send(Load())
    worker.signal(number)
    assert worker.next() == EngineEnded(number.name)


def test_an_end_in_a_decode_is_reported_and_no_outcome_follows(worker: Worker) -> None:
    assert isinstance(worker.load(), Loaded)
    worker.signal(signal.SIGSTOP)
    worker.decode()
    worker.signal(signal.SIGKILL)
    assert worker.next() == EngineEnded("SIGKILL")
    worker.decode(2)  # lost, as everything is until the next load
    assert isinstance(worker.load(), Loaded)
    worker.decode(3)
    assert worker.next().job_id == 3


def test_row_88_one_that_is_stopped_is_killed_with_the_reason_of_the_watchdog(worker: Worker) -> None:
    assert isinstance(worker.load(), Loaded)
    worker.signal(signal.SIGSTOP)
    worker.engine.kill("stalled")
    assert worker.next() == EngineEnded("stalled")


def test_to_unload_ends_the_process_and_the_next_load_starts_another(worker: Worker) -> None:
    assert isinstance(worker.load(), Loaded)
    before = worker.engine.pid
    size = psutil.Process(before).memory_info().rss
    worker.engine.unload()
    unloaded = worker.next()
    assert isinstance(unloaded, Unloaded)
    assert unloaded.freed_bytes > size / 2
    assert (worker.engine.pid, worker.engine.memory) == (None, None)
    assert not psutil.pid_exists(before)
    assert isinstance(worker.load(), Loaded)


@pytest.mark.parametrize("stopped", [False, True])
def test_to_unload_ends_a_decode(worker: Worker, stopped: bool) -> None:
    assert isinstance(worker.load(), Loaded)
    if stopped:
        worker.signal(signal.SIGSTOP)
    worker.decode()
    worker.engine.unload()
    outcomes = [worker.next()]
    if isinstance(outcomes[0], Finished):  # it was faster
        outcomes.append(worker.next())
    assert isinstance(outcomes[-1], Unloaded)


def test_to_unload_is_answered_also_where_no_process_runs(worker: Worker) -> None:
    worker.engine.unload()
    assert worker.next() == Unloaded(0)
    worker.engine.start()
    worker.signal(signal.SIGKILL)
    assert worker.next() == EngineEnded("SIGKILL")
    worker.engine.unload()
    assert worker.next() == Unloaded(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_of_the_process_group_are_the_bridges(worker: Worker, number: signal.Signals) -> None:
    assert isinstance(worker.load(), Loaded)
    worker.signal(number)
    worker.decode()
    assert isinstance(worker.next(), Finished)


def test_a_corrupt_frame_ends_it(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(
        monkeypatch,
        "from qwen3_asr_mlx_runtime.engine import loop\n"
        "from qwen3_asr_mlx_runtime.engines import channel\n"
        "import qwen3_asr_mlx_runtime.engine.worker as w\n"
        "w.encode = lambda message: b'\\xff' * 8\n",
    )
    worker.engine.send(Load())
    assert worker.next() == EngineEnded("corrupt_frame")


def test_an_exception_that_nothing_catches_ends_it_and_is_not_quoted(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    plant(
        monkeypatch,
        "from qwen3_asr_mlx_runtime.engine import loop\n"
        "def fail(*_):\n    raise ZeroDivisionError('zaqwsxcde')\n"
        "loop.EngineLoop._take = fail\n",
    )
    worker.engine.send(Load())
    assert worker.next() == EngineEnded("exit_1")
    written = capfd.readouterr().err
    assert "worker: ZeroDivisionError in fail" in written
    assert "zaqwsxcde" not in written


def test_what_it_writes_is_marked_line_by_line(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    plant(monkeypatch, "import os; os.write(1, b'to stdout\\nhalf a '); os.write(2, b'line\\nno end')")
    assert isinstance(worker.load(), Loaded)
    worker.signal(signal.SIGKILL)
    worker.next()
    lines = capfd.readouterr().err.splitlines()
    assert [f"qwen3-asr-mlx: worker: {text}" for text in ("to stdout", "half a line", "no end")] == lines


def test_a_model_that_is_not_there_fails_the_load_and_the_worker_stays(worker: Worker) -> None:
    worker.engine.close()
    other = Worker(local_files_only=True, cache_dir=Path("/nonexistent"))
    other.engine._settings = Settings(model="owner/name", local_files_only=True)
    failed = other.load()
    assert isinstance(failed, LoadFailed)
    assert failed.error.code == "model_not_found"
    pid = other.engine.pid
    assert other.load().error.code == "model_not_found"
    assert other.engine.pid == pid
    other.engine.close()
    assert other.engine.join(WAIT)


def test_no_descriptor_is_left_of_workers_that_have_ended() -> None:
    def count() -> int:
        return len([*Path("/dev/fd").iterdir()])

    before = count()
    for _ in range(5):
        worker = Worker()
        worker.engine.start()
        worker.signal(signal.SIGKILL)
        assert worker.next() == EngineEnded("SIGKILL")
        assert worker.engine.join(WAIT)
    for _ in range(5):
        worker = Worker()
        worker.engine.start()
        worker.engine.close()
        assert worker.engine.join(WAIT)
        assert worker.outcomes.empty()
    assert count() == before


BRIDGE = """
import sys, time
sys.path[:0] = {path!r}
from qwen3_asr_mlx_runtime.engines import worker
from qwen3_asr_mlx_runtime.engines.api import Load
from qwen3_asr_mlx_runtime.settings import Settings
{before}
engine = worker.WorkerEngine(Settings(model="demo"), lambda outcome: None)
engine.start()
engine.send(Load())
print(engine.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("moment", "stopped"), [(0.0, False), (0.1, False), (0.6, False), (0.6, True)])
def test_rows_52_54_it_ends_with_its_bridge(moment: float, stopped: bool) -> None:
    if stopped and sys.platform != "linux":
        pytest.skip("only Linux ends a stopped process with its parent")
    program = BRIDGE.format(path=sys.path, before="")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as bridge:
        pid = int(bridge.stdout.readline())
        time.sleep(moment)
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        bridge.kill()
        bridge.wait()
        wait_until_gone(pid)


NATIVE = """
import ctypes
ctypes.CDLL(None).prctl(1, 0)
from qwen3_asr_mlx_runtime.engine import loop
loop.EngineLoop._take = lambda self, request: ctypes.CDLL(None).sleep(600)
"""


def test_rows_52_54_it_ends_with_its_bridge_also_in_a_native_call_and_without_the_kernels_help() -> None:
    before = f"from support.in_worker import planted; worker._PROGRAM = planted(worker._PROGRAM, {NATIVE!r})"
    program = BRIDGE.format(path=sys.path, before=before)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as bridge:
        pid = int(bridge.stdout.readline())
        time.sleep(1.0)
        bridge.kill()
        bridge.wait()
        wait_until_gone(pid)


def test_a_request_that_cannot_be_passed_on_fails_alone(worker: Worker) -> None:
    assert isinstance(worker.load(), Loaded)
    for request in transcribe(1, Utterance(SPEECH.samples, context="half a pair \ud800")):
        worker.engine.send(request)
    failed = worker.next()
    assert (failed.job_id, failed.error.code) == (1, "decode_failed")
    worker.decode(2)
    assert isinstance(worker.next(), Finished)


@pytest.mark.parametrize("missing", ["process", "thread"])
def test_what_keeps_a_process_from_starting_is_an_end_and_leaves_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def none(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "planted") if missing == "process" else RuntimeError("can't start new thread")

    before, children = len([*Path("/dev/fd").iterdir()]), psutil.Process().children()
    with monkeypatch.context() as patched:
        if missing == "process":
            patched.setattr(module.subprocess, "Popen", none)
        else:
            patched.setattr(module.threading.Thread, "start", none)
        worker.engine.send(Load())
    assert worker.next() == EngineEnded("start_failed")
    assert len([*Path("/dev/fd").iterdir()]) == before
    assert psutil.Process().children() == children
    assert isinstance(worker.load(), Loaded)


def test_a_flood_on_stderr_holds_up_no_message(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(
        monkeypatch,
        "import os, threading\n"
        "def flood():\n"
        "    while True:\n        os.write(2, b'noise ' * 100 + b'\\n')\n"
        "threading.Thread(target=flood, daemon=True).start()\n",
    )
    monkeypatch.setattr(module, "diagnose", lambda _: None)
    assert isinstance(worker.load(), Loaded)
    worker.engine.kill("stalled")
    assert worker.next() == EngineEnded("stalled")
