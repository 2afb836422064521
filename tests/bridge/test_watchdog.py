"""An engine that is stuck, one that is slow, and a process that slept."""

import os
import subprocess
import sys

import pytest

from qwen3_asr_mlx_runtime.bridge.watchdog import Watchdog, log_outcome
from qwen3_asr_mlx_runtime.engines.api import Loaded


class StillEngine:
    heartbeats = 0
    load_stage: str | None = None


class Watch:
    def __init__(self) -> None:
        self.now = 0.0
        self.engine = StillEngine()
        self.dog = Watchdog(self.engine, lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Time passes, and is looked at every second, as the loop does."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.dog.check()

    def is_stuck(self, busy_since: float | None = 0.0, audio_seconds: float = 10.0) -> bool:
        return self.dog.is_stuck(busy_since, audio_seconds)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_row_88_thirty_seconds_and_the_audio_without_a_step_is_a_stall(watch: Watch) -> None:
    watch.wait(40)
    assert not watch.is_stuck()
    watch.wait(1)
    assert watch.is_stuck()


def test_an_engine_that_moves_is_not_stuck_and_an_idle_one_neither(watch: Watch) -> None:
    for _ in range(10):
        watch.engine.heartbeats += 1
        watch.wait(30)
    assert not watch.is_stuck()
    watch.wait(100)
    assert not watch.is_stuck(None)
    assert not watch.is_stuck(busy_since=380.0)


@pytest.mark.parametrize(("stage", "seconds"), [("start", 900), ("verify", 120), ("load", 120), ("warmup", 900)])
def test_a_load_may_take_longer_between_signs_of_life(watch: Watch, stage: str, seconds: int) -> None:
    watch.wait(100)  # idle
    watch.engine.load_stage = stage
    for _ in range(3):
        watch.wait(seconds)
        assert not watch.is_stuck()
        watch.engine.heartbeats += 1
    watch.wait(seconds + 1)
    assert not watch.is_stuck()
    watch.wait(1)
    assert watch.is_stuck()


def test_the_time_of_a_load_does_not_count_afterwards(watch: Watch) -> None:
    watch.engine.load_stage = "load"
    watch.wait(200)
    watch.engine.load_stage = None
    watch.wait(41)
    assert not watch.is_stuck()
    watch.wait(1)
    assert watch.is_stuck()


def test_row_88_tests_may_lower_the_limit(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN3_ASR_MLX_TEST_STALL_SECONDS", "2")
    watch.wait(13)
    assert watch.is_stuck()


def test_row_96_time_that_the_process_slept_through_does_not_count(watch: Watch) -> None:
    watch.wait(20)
    watch.now += 3600.0
    watch.wait(20)
    assert not watch.is_stuck()
    watch.wait(2)
    assert watch.is_stuck()


STACKS = """
import threading
from qwen3_asr_mlx_runtime.bridge import watchdog
from qwen3_asr_mlx_runtime.engines.api import Loaded

def speaking():
    words = "zaqwsxcde"
    watchdog.log_stacks()
    return words

watchdog.diagnose = print
threading.Thread(target=threading.Event().wait, daemon=True).start()
speaking()
print("threads", threading.active_count())
"""


def test_stacks_are_logged_without_folders_and_without_values() -> None:
    """In a process of its own: the threads that other tests leave behind would fill the dump."""
    command = [sys.executable, "-c", STACKS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any("in speaking" in line for line in lines)
    assert not any(os.sep in line for line in lines)
    assert not any("zaqwsxcde" in line for line in lines)
    headings = sum(line.startswith(("Thread", "Current thread")) for line in lines)
    assert lines[-1] == f"threads {headings}"


@pytest.mark.parametrize(
    ("device", "quantization", "lines"), [("cpu", {"bits": 8}, 2), ("gpu", {"bits": 8}, 1), ("cpu", None, 1)]
)
def test_quantised_weights_on_a_cpu_give_a_warning(
    capfd: pytest.CaptureFixture, device: str, quantization: dict | None, lines: int
) -> None:
    log_outcome(Loaded("demo", "folder", 0.5, {"device": device, "quantization": quantization}))
    written = capfd.readouterr().err.splitlines()
    assert len(written) == lines
    assert ("ten times slower" in written[-1]) == (lines == 2)
