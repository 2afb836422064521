"""Ctrl-C from the first moment of a command on: one line and exit code 130, whatever it stands in."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime import entry

WAIT = 60
INTERRUPT = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"
PUTS_AWAY = """
import os, signal
from qwen3_asr_mlx_runtime.entry import interruptible
from qwen3_asr_mlx_runtime.entry import report_interrupt

def main():
    try:
        with interruptible():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                while True: pass
            finally:
                print("put away")
    except KeyboardInterrupt:
        return report_interrupt()
"""
COMMANDS = [getattr(entry, name) for name in entry.COMMANDS]


@pytest.fixture
def started(repository: Path, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """A command whose module says what is given, as a launcher starts it."""
    start = repository / "src" / "qwen3_asr_mlx_runtime" / "start.py"

    def run(module: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "command.py").write_text(module)
        command = [sys.executable, "-I", "-S", str(start), str(tmp_path), "command", "a word"]
        return subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)

    return run


def test_a_command_gets_its_words_and_its_exit_code_is_what_main_returns(started: Callable) -> None:
    ran = started("import sys, msgspec\ndef main():\n    print(sys.argv[1:])\n    return 7\n")
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "['a word']\n", "")


@pytest.mark.parametrize(
    "module", [INTERRUPT, f"def main():\n    exec({INTERRUPT!r})\n"], ids=["in an import", "in the command"]
)
def test_ctrl_c_is_one_line_and_exit_code_130(started: Callable, module: str) -> None:
    ran = started(module)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted\n")


def test_a_command_with_something_to_put_away_does_so_when_it_is_interrupted(started: Callable) -> None:
    ran = started(PUTS_AWAY)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "put away\n", "interrupted\n")


def test_a_command_that_was_started_with_ctrl_c_ignored_goes_on_ignoring_it(started: Callable, tmp_path: Path) -> None:
    module = "import os, signal\ndef main():\n    os.kill(os.getpid(), signal.SIGINT)\n    return 7\n"
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nimport os, sys\nos.execv(sys.executable, "
    (tmp_path / "command.py").write_text(module)
    argv = [sys.executable, "-I", "-S", inspect.getsourcefile(entry).replace("entry.py", "start.py")]
    program = f"{ignoring}{[*argv, str(tmp_path), 'command']!r})"
    assert subprocess.run([sys.executable, "-I", "-c", program], timeout=WAIT, check=False).returncode == 7


def test_the_parent_is_the_one_that_the_launcher_of_this_process_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN3_ASR_MLX_LAUNCHED", f"{os.getpid()} 77")
    assert entry.parent_at_launch() == 77
    for other in ("1 77", "", "nonsense", f"{os.getpid()} "):  # of a process that this one was started by
        monkeypatch.setenv("QWEN3_ASR_MLX_LAUNCHED", other)
        assert entry.parent_at_launch() == os.getppid()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_has_a_main(command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(entry, "begin", begun.append)
    command()
    assert callable(import_module(begun[0]).main)


def test_every_launcher_answers_ctrl_c_before_the_first_import(repository: Path) -> None:
    launchers = sorted((repository / "scripts").glob("qwen3-asr-mlx-*"))
    assert [
        path.name for path in launchers if " -I -S " not in path.read_text() or "start.py" not in path.read_text()
    ] == []
    assert len(launchers) >= 9
