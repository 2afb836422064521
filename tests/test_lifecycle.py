import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.lifecycle import Exit, ParentWatch, process_exists

WAIT = 60


def test_the_parent_has_gone_when_another_process_has_taken_its_place() -> None:
    parents = iter([500, 500, 1])
    watch = ParentWatch(None, getppid=lambda: next(parents))
    assert [watch.is_gone(), watch.is_gone()] == [False, True]


def test_the_named_parent_may_be_another_than_the_one_that_started_this_process() -> None:
    alive = {700}
    watch = ParentWatch(700, getppid=lambda: 500, exists=alive.__contains__)
    assert not watch.is_gone()
    alive.clear()
    assert watch.is_gone()


def test_a_parent_that_was_init_from_the_start_has_not_gone() -> None:
    assert not ParentWatch(None, getppid=lambda: 1).is_gone()


def test_processes_are_found_by_their_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE)
    assert process_exists(child.pid)
    child.communicate(b"\n", timeout=WAIT)
    assert not process_exists(child.pid)

    def denied(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert process_exists(1)


HANDLERS = """
import os, signal, time
from qwen3_asr_mlx_runtime.lifecycle import install_signal_handlers
told = []
install_signal_handlers(told.append)
read_end, write_end = os.pipe()
os.close(read_end)
try:
    os.write(write_end, b"x")
except BrokenPipeError:
    told.append("EPIPE")
"""


def run_python(repository: Path, code: str) -> subprocess.CompletedProcess[bytes]:
    program = f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n{HANDLERS}{code}"
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False)


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", Exit.TERMINATED), ("SIGHUP", Exit.TERMINATED), ("SIGINT", Exit.INTERRUPTED)]
)
def test_the_first_signal_is_told_and_the_second_ends_the_process(repository: Path, name: str, code: Exit) -> None:
    kill = f"os.kill(os.getpid(), signal.{name})\n"
    ran = run_python(repository, f"{kill}print(told)\n")
    assert ran.stdout.decode() == f"['EPIPE', <Exit.{code.name}: {int(code)}>]\n"
    ran = run_python(repository, f"{kill}{kill}print('still here')\n")
    assert (ran.returncode, ran.stdout) == (code, b"")
