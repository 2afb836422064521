"""CONTRIBUTING.md shows code and names files that are there."""

import re
from pathlib import Path

import pytest
from conftest import ONCE


@pytest.fixture(scope="module")
def document(repository: Path) -> str:
    return (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_code_that_it_shows_is_in_the_package(document: str, repository: Path) -> None:
    shown = [
        line.strip() for block in re.findall(r"```python\n(.*?)```", document, re.DOTALL) for line in block.splitlines()
    ]
    folder = repository / "src" / "qwen3_asr_mlx_runtime"
    files = [*(folder / "session").glob("*.py"), *(folder / "protocol").glob("*.py")]
    source = {line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    assert len(shown) > 5
    assert [line for line in shown if line and line not in source] == []


def test_the_names_of_the_code_that_it_reports_exist(document: str, repository: Path) -> None:
    documented = {name for name in re.findall(r"`(_?[A-Z][A-Z_]{4,})`", document) if name != "QWEN3_ASR_MLX_PYTHON"}
    folder = repository / "src" / "qwen3_asr_mlx_runtime"
    tests = ("conftest.py", "test_architecture.py", "support/protocol_monitor.py")
    files = [*folder.rglob("*.py"), *(repository / "tests" / name for name in tests)]
    source = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert {"_AT_ONCE", "_CONTROL"} < documented
    assert [name for name in sorted(documented) if not re.search(rf"\b{name}\b", source)] == []


def test_the_files_that_it_names_exist(document: str, repository: Path) -> None:
    package = "src/qwen3_asr_mlx_runtime"
    links = set(re.findall(r"\]\(([^):#]+)\)", document))
    named = set(re.findall(r"`((?:scripts|tests|docs|examples|\.ci)/[\w./-]+)", document))
    named |= set(re.findall(r"^((?:scripts|\.ci)/[\w-]+)", document, re.MULTILINE))
    recipes = document.partition("## Recipes")[2].partition("## Measuring")[0]
    named |= {f"{package}/{name}" for name in re.findall(r"`((?:\w+/)?\w+\.py)`", recipes) if "test" not in name}
    named -= {f"{package}/{name}" for name in ("streams.py", "transcripts.py")}  # beside the file named before them
    assert f"{package}/session/partials.py" in named
    assert [name for name in sorted(links | named) if not (repository / name).exists()] == []


def test_the_folders_of_the_layout_exist(document: str, repository: Path) -> None:
    layout = document.partition("## Layout")[2].partition("##")[0]
    folders = re.findall(r"`(src/…/)?(\w+)/`", layout)
    package = repository / "src" / "qwen3_asr_mlx_runtime"
    missing = [name for _, name in folders if not (package / name).is_dir() and not (repository / name).is_dir()]
    assert len(folders) > 5
    assert missing == []


def test_the_files_that_are_tested_on_one_python_exist(repository: Path) -> None:
    assert {name for name in ONCE if not (repository / "tests" / f"{name}.py").exists()} == set()
