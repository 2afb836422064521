"""The name of a model → the folder that holds its files."""

import re
from pathlib import Path

from qwen3_asr_mlx_runtime.errors import DownloadFailed, ModelIncomplete, ModelNotFound
from qwen3_asr_mlx_runtime.model.checkpoint import check_files

DEMO_FOLDER = Path(__file__).parent.parent / "demo"
_PATTERNS = ["*.json", "*.txt", "*.safetensors"]
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def resolve(model: str, cache_dir: Path | None = None, local_files_only: bool = False) -> Path:
    """`demo`, a folder, or `owner/name` on the Hugging Face hub → a folder with every file the model needs.

    A snapshot that is whole in the cache is used as it is, without asking the network; otherwise it is downloaded
    unless `local_files_only`. Raises ModelNotFound, ModelIncomplete or DownloadFailed.
    """
    if model == "demo":
        return DEMO_FOLDER
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        check_files(folder)
        return folder
    if not _REPOSITORY.fullmatch(model):
        raise ModelNotFound("the model is neither `demo`, nor a folder, nor owner/name on the hub", model=model)
    return _snapshot(model, cache_dir, local_files_only)


def _snapshot(repo: str, cache_dir: Path | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    def fetch(offline: bool) -> Path:
        folder = Path(snapshot_download(repo, cache_dir=cache_dir, allow_patterns=_PATTERNS, local_files_only=offline))
        check_files(folder)
        return folder

    try:
        return fetch(offline=True)
    except (LocalEntryNotFoundError, ModelIncomplete) as error:
        if local_files_only:
            if isinstance(error, ModelIncomplete):
                raise
            raise ModelNotFound(
                "the model is not in the cache and downloads are off", model=repo, offline=True
            ) from error
    try:
        return fetch(offline=False)
    except RepositoryNotFoundError as error:
        raise ModelNotFound("the hub has no such model, or keeps it private", model=repo) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        raise DownloadFailed("the hub refused the download", model=repo, http_status=status) from error
    except OSError as error:
        raise DownloadFailed("the model could not be downloaded", model=repo, reason=type(error).__name__) from error
