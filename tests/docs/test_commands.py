"""Every command of README, documents, docstrings and help texts runs as it stands, in a clean clone.

Those that the Markdown marks with a reason, as `<!-- not run: network -->` before their block, are not run: of them the
options exist. Nothing is installed: launchers take the environment of the tests.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from support.documented import REASONS, Block, calls, commands, head, in_help, in_markdown, in_source, inline

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("no_preload")]

DOCUMENTS = in_markdown(ROOT)
LAUNCHERS = sorted(file.name for file in (ROOT / "scripts").glob("qwen3-asr-mlx-*"))
# They have no --help, or pass it on to another program: the comment at their head lists their options.
BY_COMMENT = {
    *("scripts/fuzz", "scripts/python", "scripts/reference", "scripts/test", "scripts/test-swift", "scripts/test-vllm"),
    ".ci/run",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user gets, whose environments are there already."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git, or no repository, to clone")
    folder = tmp_path_factory.mktemp("clean") / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT.as_uri(), str(folder)], check=True)
    with (folder / "scripts" / "lib" / "environment.sh").open("a", encoding="utf-8") as file:
        file.write(f"ensure_environment() {{ platform=$(uname -sm); choose_home; environment='{sys.prefix}'; }}\n")
    return folder


@pytest.fixture(scope="module")
def shell(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Runs lines in the clone as a user without models, variables and network does; what they write to stdout."""
    home = tmp_path_factory.mktemp("home")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "QWEN3_", "HF_", "LD_PRELOAD"))
    }
    environ = {**kept, "HOME": str(home), "HF_HUB_OFFLINE": "1", "QWEN3_ASR_MLX_HOME": str(home / "kept")}

    @cache
    def run(text: str) -> str:
        ran = subprocess.run(
            ["sh", "-euc", text], cwd=clone, env=environ, stdin=subprocess.DEVNULL, text=True, capture_output=True,
            check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{text}\n{ran.stdout[-2000:]}\n{ran.stderr[-3000:]}"
        return ran.stdout

    return run


def missing(shell: Callable[[str], str], root: Path, text: str) -> list[str]:
    """Options that a command is given and its program has not."""
    wrong = []
    for call in calls(root, text):
        known = _known(shell, root / call.program, call.program)
        wrong += [f"{call.program} {option}" for option in call.options if not re.search(rf"{option}\b", known)]
    return wrong


def _known(shell: Callable[[str], str], file: Path, program: str) -> str:
    """Text that names all options of a program."""
    if file.suffix == ".mjs":
        return file.read_text(encoding="utf-8") + (file.parents[1] / "node" / "command_line.mjs").read_text("utf-8")
    if file.suffix == ".py":
        return file.read_text(encoding="utf-8")
    return head(file) if program in BY_COMMENT or program.startswith("examples/") else shell(f"{program} --help")


def checked(shell: Callable[[str], str], root: Path, blocks: list[Block]) -> list[Block]:
    """Run what is to be run; the others, whose options were seen to exist."""
    for block in blocks:
        for command in commands(block) if block.reason is None else ():
            shell(command)
    left = [block for block in blocks if block.reason is not None]
    assert [(block.place, wrong) for block in left for wrong in missing(shell, root, block.text)] == []
    return left


def note(record_property: Callable[[str, object], None], place: str, left: list[Block]) -> None:
    """For the end of the run, where conftest.py prints it."""
    if left:
        count = sum(len(commands(block)) for block in left)
        reasons = ", ".join(sorted({str(block.reason) for block in left}))
        record_property("note", f"{place}: {count} commands were not run ({reasons}); their options exist")


@pytest.mark.parametrize("name", [name for name, blocks in DOCUMENTS.items() if blocks])
def test_the_commands_of_a_document_run(
    name: str, clone: Path, shell: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    blocks = in_markdown(clone)[name]
    assert {block.reason for block in blocks} - {None, *REASONS} == set()
    note(record_property, name, checked(shell, clone, blocks))


def test_the_commands_of_docstrings_and_comments_run(
    clone: Path, shell: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    blocks = in_source(clone)
    assert "examples/python/transcribe.py" in {block.place for block in blocks if block.reason is None}
    note(record_property, "docstrings", checked(shell, clone, blocks))


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_examples_of_a_help_text_run(
    launcher: str, clone: Path, shell: Callable[[str], str], record_property: Callable[[str, object], None]
) -> None:
    blocks = in_help(launcher, shell(f"scripts/{launcher} --help"))
    assert blocks
    note(record_property, f"{launcher} --help", checked(shell, clone, blocks))


def test_the_options_of_commands_within_sentences_exist(clone: Path, shell: Callable[[str], str]) -> None:
    named = inline(clone)
    assert len(named) > 25
    assert [(place, wrong) for place, text in named for wrong in missing(shell, clone, text)] == []


def test_every_option_that_is_named_is_one_of_a_program(clone: Path, shell: Callable[[str], str]) -> None:
    launchers = [file for file in (clone / "scripts").iterdir() if file.is_file()]
    known = "".join(_known(shell, file, f"scripts/{file.name}") for file in launchers)
    text = "".join((clone / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md"))
    named = re.findall(r"`(--[a-z][a-z-]+)", text)
    assert len(named) > 5
    assert [option for option in named if not re.search(rf"{option}\b", known)] == []
