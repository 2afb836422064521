"""docs/faults.md lists every row of the fault list, and names tests that exist."""

import re
from pathlib import Path

import pytest

ROW = re.compile(r"^\| (\d+) \|.*\| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"def (test_rows?_\d\w*)\(")
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CHECKLIST = "[checklist](mac-checklist.md#rows-of-the-fault-list)"


def rows_of(name: str) -> set[int]:
    """The rows that a test names: `test_row_04_…`, `test_rows_52_54_…`, `test_row_81_and_82_…`."""
    numbers = re.match(r"test_rows?((?:_and|_\d+)+)_", name)
    return {int(number) for number in re.findall(r"\d+", numbers[1])} if numbers else set()


@pytest.fixture(scope="module")
def rows(repository: Path) -> list[tuple[int, str]]:
    """The number of each row, and its last cell."""
    document = (repository / "docs" / "faults.md").read_text(encoding="utf-8")
    return [(int(number), cell) for number, cell in ROW.findall(document)]


def test_every_row_that_a_test_names_is_listed_once_and_in_order(repository: Path, rows: list[tuple[int, str]]) -> None:
    files = (repository / "tests").rglob("test_*.py")
    named = {row for file in files for name in TEST.findall(file.read_text("utf-8")) for row in rows_of(name)}
    numbers = [number for number, _ in rows]
    assert numbers == sorted({*numbers})
    assert len(named) > 90
    assert named - {*numbers} == set()


def test_every_row_names_a_test_of_its_own_that_exists_or_the_checklist(
    repository: Path, rows: list[tuple[int, str]]
) -> None:
    def names_its_test(number: int, cell: str) -> bool:
        cited = CITED.fullmatch(cell)
        file = repository / cited[1] if cited else repository
        return cited is not None and number in rows_of(cited[2]) and f"def {cited[2]}(" in file.read_text("utf-8")

    assert [row for row in rows if row[1] != CHECKLIST and not names_its_test(*row)] == []


def test_a_row_is_read_from_the_name_of_a_test() -> None:
    assert rows_of("test_rows_52_54_the_parent_is_killed") == {52, 54}
    assert rows_of("test_row_81_and_82_what_runs_out") == {81, 82}
    assert rows_of("test_row_09_a_line_of_1_gibibyte") == {9}
