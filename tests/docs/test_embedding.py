"""docs/embedding.md says what the code does: exit codes, the command's options, the files of the folder."""

import re
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit
from qwen3_asr_mlx_runtime.settings import parse_command_line
from qwen3_asr_mlx_runtime.tools.install.command import parse
from qwen3_asr_mlx_runtime.tools.install.folder import LAUNCHER, NATIVE, RECORD


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "docs" / "embedding.md").read_text(encoding="utf-8")


def exit_codes(text: str) -> list[str]:
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \|$", text.partition("## Exit codes")[2], re.MULTILINE)
    return [code for code, means, what_to_do in rows[1:] if means and what_to_do]


def test_every_exit_code_has_what_it_means_and_what_to_do(document: str) -> None:
    documented = [int(code) for code in exit_codes(document) if code.isdigit()]
    assert documented == sorted(Exit)


def test_a_row_that_says_nothing_is_found(document: str) -> None:
    row = next(line for line in document.splitlines() if line.startswith("| 4 |"))
    assert "4" not in exit_codes(document.replace(row, "| 4 |  | start again |"))


def test_every_option_of_the_installation_is_reported_and_no_other(document: str) -> None:
    options = {f"--{name.replace('_', '-')}" for name in vars(parse(["--prefix", "x"]))}
    section = document.partition("## The folder")[2].partition("## Signing")[0]
    assert {option for option in options if option not in section} == set()
    assert set(re.findall(r"^\| `(--[a-z-]+) ", section, re.MULTILINE)) == options


def test_the_files_of_the_folder_are_reported(document: str) -> None:
    assert [
        name for name in (str(LAUNCHER), NATIVE, RECORD, "python/", "runtime/") if f"`{name}`" not in document
    ] == []


def test_the_options_of_the_bridge_that_it_names_exist(document: str) -> None:
    running = document.partition("## Running it")[2]
    named = set(re.findall(r"`(--[a-z-]+)", running)) - {"--model", "--verify"}
    flags = {"--local-files-only", "--no-install"}
    for option in named - flags:
        parse_command_line([option, "1"], {})
    parse_command_line(["--model", "demo", "--verify", "once", *flags], {})
    assert flags < named


def test_links_to_other_pages_lead_somewhere(document: str, repository: Path) -> None:
    pages = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", document) if "://" not in link}
    assert [page for page in pages if not (repository / "docs" / page).exists()] == []
