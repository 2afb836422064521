"""Whether a load finds the weights in the page cache."""

import mmap
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.checkpoint import page_cache
from qwen3_asr_mlx_runtime.checkpoint.page_cache import load_source

SIZE = 3 * mmap.PAGESIZE + 5


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "written"
    file.write_bytes(b"x" * SIZE)
    return file


@pytest.fixture
def hole(tmp_path: Path) -> Path:
    """A file of which no page was ever in memory."""
    file = tmp_path / "hole"
    with file.open("wb") as opened:
        opened.truncate(64 * SIZE)
    return file


def test_what_was_just_written_is_warm(written: Path) -> None:
    assert load_source([written, written]) == "warm"


def test_what_was_never_read_is_cold(written: Path, hole: Path) -> None:
    assert load_source([hole]) == "cold"
    assert load_source([written, hole]) == "cold"


def test_a_file_is_looked_at_in_windows(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_WINDOW_BYTES", 2 * mmap.PAGESIZE)
    assert load_source([written]) == "warm"


def test_where_the_system_does_not_tell_it_is_cold(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no memory to map it")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert load_source([written]) == "cold"
