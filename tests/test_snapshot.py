import shutil
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from qwen3_asr_mlx_runtime.errors import DownloadFailed, ModelIncomplete, ModelNotFound
from qwen3_asr_mlx_runtime.model.snapshot import DEMO_FOLDER, resolve

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, demo_checkpoint) -> Path:
    """A hub cache that holds owner/name, as the library lays it out."""
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    shutil.copytree(demo_checkpoint, repository / "snapshots" / REVISION)
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """Replaces the download by a script: an exception to raise, or a folder to return. Records what was asked."""

    class Hub:
        def __init__(self) -> None:
            self.answers: list = []
            self.asked: list = []

        def __call__(self, repo: str, **options: object) -> str:
            self.asked.append(options["local_files_only"])
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return hub


def http_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://hub.invalid/")
    return kind("refused", response=httpx2.Response(status, request=request))


def test_demo_is_the_embedded_checkpoint():
    assert resolve("demo") == DEMO_FOLDER


def test_a_folder_is_taken_as_it_is(demo_checkpoint):
    assert resolve(str(demo_checkpoint)) == demo_checkpoint


def test_a_folder_that_is_not_whole_names_what_is_missing(tmp_path):
    with pytest.raises(ModelIncomplete) as caught:
        resolve(str(tmp_path))
    assert "config.json" in caught.value.data["missing"]


@pytest.mark.parametrize("name", ["", "no-such-model", "a/b/c", "/no/such/folder", "owner/na me"])
def test_what_is_neither_folder_nor_repository_is_not_found(name):
    with pytest.raises(ModelNotFound):
        resolve(name, local_files_only=True)


def test_a_whole_snapshot_in_the_cache_is_used_offline(cache):
    folder = resolve("owner/name", cache, local_files_only=True)
    assert folder == cache / "models--owner--name" / "snapshots" / REVISION


def test_a_whole_snapshot_in_the_cache_asks_no_network(hub, demo_checkpoint):
    hub.answers = [demo_checkpoint]
    assert resolve("owner/name") == demo_checkpoint
    assert hub.asked == [True]


def test_nothing_in_the_cache_and_downloads_off_is_not_found(tmp_path):
    with pytest.raises(ModelNotFound) as caught:
        resolve("owner/name", tmp_path, local_files_only=True)
    assert caught.value.data["offline"] is True


def test_a_snapshot_that_is_not_whole_is_incomplete_offline(cache):
    (cache / "models--owner--name" / "snapshots" / REVISION / "model.safetensors").unlink()
    with pytest.raises((ModelIncomplete, ModelNotFound)):
        resolve("owner/name", cache, local_files_only=True)


def test_a_snapshot_that_is_not_whole_is_completed(hub, tmp_path, demo_checkpoint):
    hub.answers = [tmp_path, demo_checkpoint]
    assert resolve("owner/name") == demo_checkpoint
    assert hub.asked == [True, False]


def test_an_unknown_repository_is_not_found(hub):
    hub.answers = [LocalEntryNotFoundError("not cached"), http_error(RepositoryNotFoundError, 404)]
    with pytest.raises(ModelNotFound):
        resolve("owner/name")


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_refused_download_tells_its_status(hub, status):
    hub.answers = [LocalEntryNotFoundError("not cached"), http_error(HfHubHTTPError, status)]
    with pytest.raises(DownloadFailed) as caught:
        resolve("owner/name")
    assert caught.value.data["http_status"] == status
    assert caught.value.retryable


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), LocalEntryNotFoundError("no network")])
def test_a_download_that_breaks_off_is_retryable(hub, error):
    hub.answers = [LocalEntryNotFoundError("not cached"), error]
    with pytest.raises(DownloadFailed) as caught:
        resolve("owner/name")
    assert caught.value.retryable
