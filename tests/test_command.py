"""Every command ends in one line where its output cannot be written, and in none where nobody reads it."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conformance.player import engine_command
from conftest import ROOT

from qwen3_asr_mlx_runtime.command import guarded, note
from qwen3_asr_mlx_runtime.errors import InvalidParams

FULL = Path("/dev/full")
SAMPLE = str(ROOT / "examples" / "audio" / "sample.wav")
PACKAGE = ROOT / "src" / "qwen3_asr_mlx_runtime"
NO_COMMANDS = {"run_fuzz", "make_environment", "run_bridge"}  # what a launcher starts with arguments of its own


def programs() -> dict[str, list[str]]:
    """Every program in Python by its name, as a command line."""
    found = {}
    for file in [*PACKAGE.rglob("main.py"), *PACKAGE.glob("*_command.py"), PACKAGE / "__main__.py"]:
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        found[name] = ["-c", f"import sys; from {name} import main; sys.exit(main())"]
    for folder in ("scripts/lib", "scripts/demo", "examples/python", "examples/vad"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if file.stem not in NO_COMMANDS and '__name__ == "__main__"' in text and "argparse" in text:
                place = file.relative_to(ROOT / folder).with_suffix("")
                name = ".".join(place.parts).removesuffix(".__main__")
                found[name] = ["-m", name] if folder == "scripts/lib" else [str(file)]
    return {name: [sys.executable, "-P", *words] for name, words in found.items() if "train" not in name}


PROGRAMS = programs()


def environment() -> dict[str, str]:
    folders = ("src", "tests", "scripts/lib", "scripts/demo", "examples/vad")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**buffered, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in folders)}


def into(sink: int, *command: str) -> tuple[int, list[str]]:
    """(exit code, lines of stderr)"""
    options = {"stdin": subprocess.DEVNULL, "stdout": sink, "stderr": subprocess.PIPE, "env": environment()}
    ran = subprocess.run(command, text=True, check=False, **options)
    return ran.returncode, ran.stderr.splitlines()


def into_nobody(*command: str) -> tuple[int, list[str]]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return into(writer, *command)
    finally:
        os.close(writer)


def into_a_full_disk(*command: str) -> tuple[int, list[str]]:
    with FULL.open("wb", buffering=0) as full:
        return into(full.fileno(), *command)


needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
WORDS = {"qwen3_asr_mlx_runtime.__main__": ["--print-schema"]}


def test_every_program_is_found() -> None:
    assert len(PROGRAMS) > 20
    assert {"qwen3_asr_mlx_runtime.tools.score.main", "benchmark", "soak", "transcribe", "evaluate"} <= PROGRAMS.keys()


@pytest.mark.once
@pytest.mark.parametrize("name", PROGRAMS)
def test_output_that_nobody_reads_ends_a_command_without_a_word(name: str) -> None:
    assert into_nobody(*PROGRAMS[name], *WORDS.get(name, ["--help"])) == (1, [])


@pytest.mark.once
@needs_full
@pytest.mark.parametrize("name", PROGRAMS)
def test_output_that_does_not_fit_ends_a_command_with_one_line(name: str) -> None:
    code, lines = into_a_full_disk(*PROGRAMS[name], *WORDS.get(name, ["--help"]))
    assert (code, len(lines)) == (1, 1)
    assert lines[0].endswith(": No space left on device")


@pytest.mark.parametrize("option", ["--help", "--version", "--print-capabilities", "--print-schema"])
@pytest.mark.parametrize("sink", [into_nobody, pytest.param(into_a_full_disk, marks=needs_full)])
def test_what_the_bridge_prints_about_itself_has_no_traceback(sink: Callable, option: str) -> None:
    code, lines = sink(*PROGRAMS["qwen3_asr_mlx_runtime.__main__"], option)
    assert (code, len(lines)) == (1, int(sink is into_a_full_disk))


@pytest.mark.parametrize("name", ["transcribe", "live", "live_async"])
def test_an_example_that_nobody_reads_ends_without_a_word(name: str) -> None:
    command = [sys.executable, "-u", str(ROOT / "examples" / "python" / f"{name}.py"), SAMPLE]
    assert into_nobody(*command, "--bridge", shlex.join(engine_command("speak"))) == (1, [])


def test_an_example_in_node_that_nobody_reads_ends_without_a_word(no_preload: None, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node on PATH")
    bridge = tmp_path / "bridge"
    bridge.write_text(f"#!/bin/sh\nexec {shlex.join(engine_command('speak'))}\n", encoding="utf-8")
    bridge.chmod(0o700)
    program = str(ROOT / "examples" / "node" / "transcribe.mjs")
    assert into_nobody("node", program, "--bridge", str(bridge), SAMPLE) == (1, [])


class TestGuard:
    def ran(self, capsys: pytest.CaptureFixture, failure: BaseException) -> tuple[int, str]:
        @guarded("program")
        def main() -> None:
            raise failure

        code = main()
        captured = capsys.readouterr()
        assert captured.out == ""
        return code, captured.err

    def test_what_a_user_can_mend_is_one_line(self, capsys: pytest.CaptureFixture) -> None:
        assert self.ran(capsys, InvalidParams("no\nsuch\x1b")) == (1, "program: no such \n")

    def test_a_file_that_is_at_fault_is_named(self, capsys: pytest.CaptureFixture) -> None:
        assert self.ran(capsys, FileNotFoundError(2, "No such file", "x.wav")) == (1, "program: No such file: x.wav\n")

    def test_an_interrupt_and_a_reader_that_has_gone_are_none(self, capsys: pytest.CaptureFixture) -> None:
        assert self.ran(capsys, KeyboardInterrupt()) == (130, "")
        assert self.ran(capsys, BrokenPipeError()) == (1, "")

    def test_a_bug_is_not_hidden(self, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(ZeroDivisionError):
            self.ran(capsys, ZeroDivisionError())

    def test_an_exit_code_is_passed_on_and_none_is_success(self) -> None:
        assert guarded("program")(lambda: 3)() == 3
        assert guarded("program")(lambda: None)() == 0

    def test_a_line_is_lost_where_stderr_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", None)
        note("lost")
