"""Every row of the fault list is a test of this repository, or stands in docs/mac-checklist.md."""

import re
from pathlib import Path

import pytest

ROWS = range(1, 133)
NAMED = re.compile(r"def test_rows?((?:_\d+)+)_")
LISTED = re.compile(r"^\| (\d+(?:, \d+)*) \|", re.MULTILINE)


def rows_of_tests(folder: Path) -> set[int]:
    names = [match[1] for path in folder.rglob("test_*.py") for match in NAMED.finditer(path.read_text("utf-8"))]
    return {int(number) for name in names for number in name.strip("_").split("_")}


def rows_of_checklist(path: Path) -> set[int]:
    return {int(number) for match in LISTED.finditer(path.read_text("utf-8")) for number in match[1].split(", ")}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_a_test_or_stands_in_the_checklist(repository: Path, row: int) -> None:
    tested = rows_of_tests(repository / "tests")
    assert row in tested | rows_of_checklist(repository / "docs" / "mac-checklist.md")


def test_rows_that_a_test_names_exist(repository: Path) -> None:
    assert rows_of_tests(repository / "tests") <= set(ROWS)
