"""The README keeps what it promises: its session, its paths, its example in Swift."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from e2e.client import command

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "examples")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_session_answers_as_it_is_shown(repository: Path) -> None:
    asked, shown = blocks((repository / "README.md").read_text(encoding="utf-8"), "json")[:2]
    ran = subprocess.run(
        command(None, "--model", "demo"), input=asked, capture_output=True, text=True, check=True, cwd=repository
    )
    replies = [json.loads(line) for line in ran.stdout.splitlines()]
    expected = [json.loads(line.replace(", …}", "}")) for line in shown.splitlines()]
    assert len(replies) == len(expected)
    for reply, members in zip(replies, expected, strict=True):
        members.pop("load_seconds", None)  # of another machine
        assert {name: reply[name] for name in members} == members


def test_its_example_in_swift_is_that_of_the_package(repository: Path) -> None:
    examples = [
        blocks((repository / place).read_text(encoding="utf-8"), "swift")[-1]
        for place in ("README.md", "examples/swift/README.md")
    ]
    assert "bridge.startStream" in examples[0]
    assert examples[0] == examples[1]


def test_every_command_it_names_is_there(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"scripts/[a-z0-9-]+", text))
    assert "scripts/qwen3-asr-mlx-bridge" in named
    assert sorted(name for name in named if not (repository / name).exists()) == []


@pytest.mark.parametrize("place", DOCUMENTS)
def test_every_link_leads_somewhere(repository: Path, place: str) -> None:
    links = [
        (document, link)
        for document in documents(repository / place)
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    ]
    assert links or place == "CHANGELOG.md"
    assert [(str(document), link) for document, link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("place", DOCUMENTS)
def test_every_link_to_a_section_names_one_that_is_there(repository: Path, place: str) -> None:
    wrong = []
    for document in documents(repository / place):
        for link, section in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
            target = document if not link else (document.parent / link).resolve()
            if section not in sections(target):
                wrong.append(f"{document}: {link}#{section}")
    assert wrong == []


def documents(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*.md") if "node_modules" not in path.parts)


def sections(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
