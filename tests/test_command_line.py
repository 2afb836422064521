"""What every command of entry.py answers in the same way: `--version`, `--help`, `--print-completion`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shtab
from support.marks import rest_once

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.command_line import SHELLS
from qwen3_asr_mlx_runtime.entry import COMMANDS

Ran = subprocess.CompletedProcess[str]
HEAVY = {"argparse", "av", "jiwer", "mlx", "msgspec", "numpy", "rich", "shtab", "soundfile", "tokenizers"}
COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
"$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\).*/\\1/')" "$1" "${@: -1}" "${@: -2:1}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def run(repository: Path, command: str, *arguments: str, options: tuple[str, ...] = (), before: str = "") -> Ran:
    start = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r}); {before}\n"
        f"from qwen3_asr_mlx_runtime.entry import {command}; {command}()"
    )
    words = [sys.executable, "-I", *options, "-c", start, *arguments]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_version_is_name_and_version_and_imports_nothing_that_takes_long(repository: Path, command: str) -> None:
    ran = run(repository, command, "--version", options=("-X", "importtime"))
    assert (ran.returncode, ran.stdout) == (0, f"qwen3-asr-mlx-{command} {__version__}\n")
    assert {line.rpartition("|")[2].strip().split(".")[0] for line in ran.stderr.splitlines()} & HEAVY == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_ends_with_an_example_of_the_command(repository: Path, command: str) -> None:
    ran = run(repository, command, "--help")
    assert (ran.returncode, ran.stderr) == (0, "")
    options, _, example = ran.stdout.rpartition("\n\nexample")
    assert f" qwen3-asr-mlx-{command}" in example
    for option in ("--help", "--version", "--print-completion"):
        assert f"{option} " in options


@pytest.mark.parametrize("command", rest_once(COMMANDS))
def test_another_word_behind_the_version_is_of_the_command(repository: Path, command: str) -> None:
    ran = run(repository, command, "--version", "--help")
    assert (ran.returncode, ran.stdout) == (0, f"qwen3-asr-mlx-{command} {__version__}\n")


# Completion


@pytest.fixture(scope="module")
def completion(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """The file that a command prints for a shell."""
    folder = tmp_path_factory.mktemp("completion")

    def printed(command: str, shell: str) -> Path:
        file = folder / f"_qwen3-asr-mlx-{command}.{shell}"
        if not file.exists():
            ran = run(repository, command, "--print-completion", shell)
            assert (ran.returncode, ran.stderr) == (0, "")
            file.write_text(ran.stdout, encoding="utf-8")
        return file

    return printed


@pytest.fixture
def complete(completion: Callable[[str, str], Path], tmp_path: Path) -> Callable[..., list[str]]:
    """What a real bash offers for the last word, in a folder that holds `talk.wav` and `talks/`."""
    (tmp_path / "talk.wav").touch()
    (tmp_path / "talks").mkdir()

    def offered(command: str, *words: str) -> list[str]:
        line = ["bash", "--norc", "-c", COMPLETE, "bash", completion(command, "bash"), f"qwen3-asr-mlx-{command}"]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        ran = subprocess.run([*line, *words], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert ran.stderr == ""
        return ran.stdout.split()

    return offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on PATH")
class TestBash:
    @pytest.mark.parametrize("command", rest_once(COMMANDS))
    def test_it_completes_the_options_of_every_command(self, complete: Callable[..., list[str]], command: str) -> None:
        assert complete(command, "--versi") == ["--version"]
        assert complete(command, "--print-completion", "z") == ["zsh"]

    def test_it_completes_choices(self, complete: Callable[..., list[str]]) -> None:
        assert complete("bridge", "--quantize", "") == ["8bit", "mixed"]

    def test_it_completes_files_and_folders(self, complete: Callable[..., list[str]]) -> None:
        assert sorted(complete("live", "--model", "demo", "ta")) == ["talk.wav", "talks"]
        assert sorted(complete("score", "--expected", "ta")) == ["talk.wav", "talks"]
        assert complete("bridge", "--cache-dir", "ta") == ["talks"]
        assert complete("evaluate", "--save-audio", "ta") == ["talks"]


@pytest.mark.parametrize("command", rest_once(COMMANDS))
def test_zsh_loads_it(completion: Callable[[str, str], Path], command: str) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh on PATH")
    script = 'autoload -Uz compinit; compinit -D -u; eval "$(<$1)"; print -r -- "${_comps[$2]}"'
    program = f"qwen3-asr-mlx-{command}"
    words = ["zsh", "-fc", script, "zsh", str(completion(command, "zsh")), program]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (f"_shtab_{program.replace('-', '_')}\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_printed_for_every_shell_that_is_named(completion: Callable[[str, str], Path], shell: str) -> None:
    assert shell in shtab.SUPPORTED_SHELLS
    assert "local-files-only" in completion("bridge", shell).read_text(encoding="utf-8")


def test_without_shtab_one_line_names_the_extra(repository: Path) -> None:
    ran = run(repository, "bridge", "--print-completion", "bash", before="sys.modules['shtab'] = None")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "qwen3-asr-mlx-bridge: shtab is not installed: pip install 'qwen3-asr-mlx-runtime[completion]'\n"
    )
