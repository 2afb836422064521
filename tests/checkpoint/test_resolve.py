import shutil
from pathlib import Path

import pytest
from support.tiny_checkpoint import WEIGHTS, write_tiny_checkpoint

from qwen3_asr_mlx_runtime.checkpoint import download as download_module
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER, resolve
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelNotFound

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def hub(tmp_path, checkpoint) -> Hub:
    """A cache that holds owner/name, as the library lays it out, and no way to any hub."""
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    shutil.copytree(checkpoint, repository / "snapshots" / REVISION)
    return Hub(cache=tmp_path)


@pytest.fixture
def snapshot(hub) -> Path:
    return hub.cache / "models--owner--name" / "snapshots" / REVISION


@pytest.fixture
def downloads(monkeypatch) -> list:
    """The repositories whose download was asked for; none is made."""
    asked: list = []

    def download(repo: str, *_: object) -> Path:
        asked.append(repo)
        raise ModelNotFound("no download here")

    monkeypatch.setattr(download_module, "download", download)
    return asked


def test_demo_is_the_embedded_checkpoint():
    assert resolve("demo") == DEMO_FOLDER


def test_a_folder_is_taken_as_it_is(checkpoint):
    assert resolve(str(checkpoint)) == checkpoint


def test_a_folder_that_is_not_whole_names_what_is_missing(tmp_path):
    with pytest.raises(ModelIncomplete) as caught:
        resolve(str(tmp_path))
    assert "config.json" in caught.value.data["missing"]


@pytest.mark.parametrize(
    "name", ["", "no-such-model", "a/b/c", "/no/such/folder", "owner/na me", "~no-such-user/model", "x" * 5000, "a\0b"]
)
def test_what_is_neither_folder_nor_repository_is_not_found(name):
    with pytest.raises(ModelNotFound):
        resolve(name, local_files_only=True)


@pytest.mark.parametrize("name", ["../..", "owner/..", "owner/-name", "owner/na--me"])
def test_a_name_that_the_hub_cannot_have_is_not_found(name, tmp_path):
    with pytest.raises((ModelNotFound, ModelIncomplete)):
        resolve(name, Hub(cache=tmp_path), local_files_only=True)


@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_whole_snapshot_in_the_cache_asks_no_network(hub, snapshot, downloads, local_files_only):
    assert resolve("owner/name", hub, local_files_only=local_files_only) == snapshot
    assert downloads == []


def test_nothing_in_the_cache_and_downloads_off_is_not_found(tmp_path, downloads):
    with pytest.raises(ModelNotFound) as caught:
        resolve("owner/name", Hub(cache=tmp_path), local_files_only=True)
    assert caught.value.data == {"model": "owner/name", "offline": True, "cache_dir": str(tmp_path)}
    assert downloads == []


def test_a_snapshot_that_is_not_whole_is_incomplete_offline(hub, snapshot, downloads):
    (snapshot / WEIGHTS).unlink()
    with pytest.raises(ModelIncomplete) as caught:
        resolve("owner/name", hub, local_files_only=True)
    assert caught.value.data["missing"] == [WEIGHTS]
    assert downloads == []


def test_a_snapshot_that_is_not_whole_is_completed(hub, snapshot, downloads):
    (snapshot / WEIGHTS).unlink()
    with pytest.raises(ModelNotFound):
        resolve("owner/name", hub)
    assert downloads == ["owner/name"]


def test_a_corrupt_snapshot_is_reported_and_not_fetched_again(hub, snapshot, downloads):
    (snapshot / WEIGHTS).write_bytes(b"<html>")
    with pytest.raises(ModelCorrupt):
        resolve("owner/name", hub)
    assert downloads == []


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_files_that_cannot_be_read_are_not_found(hub, monkeypatch, error):
    def refuse(*_: object, **__: object) -> None:
        raise error("planted")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelNotFound) as caught:
        resolve("owner/name", hub)
    assert caught.value.data["reason"] == error.__name__


def test_a_cache_that_cannot_be_read_is_not_found(tmp_path, downloads):
    (tmp_path / "models--owner--name" / "refs" / "main").mkdir(parents=True)
    with pytest.raises(ModelNotFound) as caught:
        resolve("owner/name", Hub(cache=tmp_path))
    assert caught.value.data["reason"] == "IsADirectoryError"
