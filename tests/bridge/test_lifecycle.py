import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit, ParentWatch, process_exists

WAIT = 60


def test_the_parent_has_gone_when_another_process_has_taken_its_place() -> None:
    parents = iter([500, 500, 1])
    watch = ParentWatch(None, getppid=lambda: next(parents))
    assert [watch.is_gone(), watch.is_gone()] == [False, True]


def test_a_parent_that_had_ended_before_python_began_has_gone() -> None:
    assert ParentWatch(None, started_by=500, getppid=lambda: 1).is_gone()
    assert not ParentWatch(None, started_by=500, getppid=lambda: 500).is_gone()


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
import os, queue, signal, threading
from qwen3_asr_mlx_runtime.bridge.lifecycle import install_signal_handlers
told = queue.SimpleQueue()
install_signal_handlers(told.put)
read_end, write_end = os.pipe()
os.close(read_end)
try:
    os.write(write_end, b"x")
except BrokenPipeError:
    print("EPIPE")
"""


def run_python(repository: Path, code: str) -> subprocess.CompletedProcess[bytes]:
    program = f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n{HANDLERS}{code}"
    command = [sys.executable, "-I", "-c", program]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False)


@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", Exit.TERMINATED), ("SIGHUP", Exit.TERMINATED), ("SIGINT", Exit.INTERRUPTED)]
)
def test_the_first_signal_is_reported_and_the_second_ends_the_process(repository: Path, name: str, code: Exit) -> None:
    kill = f"os.kill(os.getpid(), signal.{name})\n"
    ran = run_python(repository, f"{kill}print(repr(told.get()))\n")
    assert ran.stdout.decode() == f"EPIPE\n<Exit.{code.name}: {int(code)}>\n"
    ran = run_python(repository, f"{kill}{kill}threading.Event().wait()\n")
    assert (ran.returncode, ran.stdout) == (code, b"")


def test_a_signal_is_reported_at_once_also_where_it_does_not_interrupt_the_wait_for_it(repository: Path) -> None:
    """Another thread gets it, as one that comes just before the wait: a handler in Python would wait for its end."""
    code = """
kill = threading.Event()
def send():
    kill.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=send, daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
kill.set()
print(told.get(timeout=5).name)
"""
    assert run_python(repository, code).stdout == b"EPIPE\nTERMINATED\n"
