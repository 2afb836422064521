"""The types of the messages in other languages are those of the schema."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from generate_types import __main__ as command
from generate_types import tables
from generate_types.shapes import Unreadable, protocol

from qwen3_asr_mlx_runtime.limits import LIMITS

SCHEMA = json.loads((command.ROOT / command.SCHEMA).read_text(encoding="utf-8"))
FILES = sorted(command.LANGUAGES)


def test_the_files_are_what_the_schema_says() -> None:
    """`scripts/generate-types` updates them."""
    assert command.stale() == []


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_was_changed_or_is_missing_is_stale(tmp_path: Path, path: str) -> None:
    command.write(tmp_path)
    assert command.stale(tmp_path) == []
    (tmp_path / path).write_text((tmp_path / path).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert command.stale(tmp_path) == [path]
    (tmp_path / path).unlink()
    assert command.stale(tmp_path) == [path]


def test_a_table_follows_the_schema_and_keeps_its_meanings() -> None:
    text = (command.ROOT / command.REFERENCE).read_text(encoding="utf-8")
    row = "| `uptime_s` | number | since the process started |"
    assert row in text
    for changed in (
        text.replace(row, "| `uptime_s` | string | since the process started |"),
        text.replace(row, f"{row}\n| `gone` | number | nothing |"),
    ):
        assert tables.reference(changed, SCHEMA) == text
    for gone in (row, "| `timer_lag_ms` |"):  # the first of its table, and one within
        line = next(line for line in text.splitlines() if line.startswith(gone))
        without = f"{line.rpartition('|')[0].rpartition('|')[0]}| |"
        assert tables.reference(text.replace(line + "\n", "", 1), SCHEMA) == text.replace(line, without, 1)
    with pytest.raises(ValueError, match="Reply `pang`"):
        tables.reference(text.replace("### Reply `pong`", "### Reply `pang`"), SCHEMA)


def test_the_table_of_limits_is_that_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (command.ROOT / command.CONCEPTS).read_text(encoding="utf-8")
    monkeypatch.setitem(LIMITS, "max_streams", LIMITS["max_streams"]._replace(default=65))
    assert tables.concepts(text) == text.replace("| `max_streams` | `64` |", "| `max_streams` | `65` |") != text


def test_every_definition_and_every_member_of_the_schema_is_read() -> None:
    made = protocol(SCHEMA)
    names = [each.name for each in (*made.aliases, *made.structs, *made.unions)]
    assert sorted(names) == sorted(SCHEMA["$defs"])
    for struct in made.structs:
        members = [each.name for each in struct.members]
        assert [*(["type"] if struct.tag else []), *members] == list(SCHEMA["$defs"][struct.name]["properties"])


def test_a_form_that_no_language_is_written_from_is_refused() -> None:
    schema = {"title": "", "description": "", "$defs": {"A": {"type": "object", "properties": {"b": {"type": "null"}}}}}
    with pytest.raises(Unreadable, match=r"A\.b"):
        protocol(schema)


@pytest.mark.parametrize("path", FILES)
def test_no_line_of_a_generated_file_is_longer_than_others_may_be(path: str) -> None:
    lines = (command.ROOT / path).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 or line != line.rstrip()] == []


def test_the_command_says_whether_they_are_stale_without_any_package() -> None:
    script = command.ROOT / "scripts" / "generate-types"
    ran = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A repository without generated types."""
    for path in ("docs/protocol.schema.json", "scripts/generate-types"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(command.ROOT / path, tmp_path / path)
    shutil.copytree(command.ROOT / "scripts/lib/generate_types", tmp_path / "scripts/lib/generate_types")
    shutil.copytree(command.ROOT / "docs/protocol", tmp_path / "docs/protocol")
    (tmp_path / "src").symlink_to(command.ROOT / "src")
    return tmp_path


def test_the_command_fails_where_they_are_stale(copied: Path) -> None:
    script = copied / "scripts" / "generate-types"
    ran = subprocess.run([script, "--check"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert all(path in ran.stderr for path in FILES)
    assert subprocess.run([script], capture_output=True, text=True, check=False).returncode == 0
    assert [(copied / path).read_text() for path in FILES] == [(command.ROOT / path).read_text() for path in FILES]


def test_the_command_writes_the_schema_too_where_that_is_asked_for(copied: Path) -> None:
    (copied / command.SCHEMA).write_text("{}")
    environ = {"PYTHONPATH": f"{copied}/scripts/lib:{copied}/src", "PYTHONSAFEPATH": "1"}
    ran = [sys.executable, "-m", "generate_types", "--schema"]
    assert subprocess.run(ran, env=environ, capture_output=True, check=False).returncode == 0
    for path in (command.SCHEMA, *FILES):
        assert (copied / path).read_text() == (command.ROOT / path).read_text()
