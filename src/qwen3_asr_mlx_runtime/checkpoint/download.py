"""Download a model from the hub into its cache, on a separate thread, watched by the growth of its files.

The watcher only looks at file sizes, so a stall anywhere in the library or the network is detected the same way, and
the thread is abandoned.
"""

import errno
import math
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from qwen3_asr_mlx_runtime.checkpoint.files import required_names
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.progress import INTERVAL_SECONDS, Reporter
from qwen3_asr_mlx_runtime.checkpoint.transfer import SHA256, Patience, Source, Stage, bytes_in, bytes_on_disk, fetch
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    DiskFull,
    DownloadFailed,
    DownloadRefused,
    ModelIncomplete,
    ModelNotFound,
)

PATTERNS = ("*.json", "*.txt", "*.safetensors")
SUBFOLDERS = ("*/*",)
_FREE_SPACE = 1.1  # factor on the bytes still to fetch
_BLOB_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class _RemoteFile(NamedTuple):
    """A file of the repository; `blob` is the name of its content in the cache, a SHA-256 for Git LFS files."""

    name: str
    size: int
    blob: str


def download(repo: str, hub: Hub, report: Reporter, clock: Callable[[], float] = time.monotonic) -> Path:
    """Complete the snapshot of `repo` in the cache; return its folder.

    Raises ModelNotFound, ModelIncomplete, DiskFull or DownloadFailed. The next attempt resumes partial files.
    """
    running = _Download(repo, hub)
    running.start()
    last_size, grown_at = -1, clock()
    while not running.ended.wait(min(INTERVAL_SECONDS, hub.stall_seconds / 4)):
        size = bytes_in(running.blobs)
        if size != last_size or running.stage == "verify":
            last_size, grown_at = size, clock()
        running.report_to(report)
        if clock() - grown_at >= hub.stall_seconds:
            running.abandoned.set()
            raise running.stalled()
    if running.error is not None:
        raise running.failure(running.error) from running.error
    running.report_to(report)
    return running.folder


class _Download(threading.Thread):
    """`ended` is set once `folder` or `error` is set."""

    def __init__(self, repo: str, hub: Hub) -> None:
        super().__init__(name="download", daemon=True)
        self.abandoned = threading.Event()
        self.ended = threading.Event()
        self.error: Exception | None = None
        self.folder = Path()
        self._repo = repo
        self._hub = hub
        self._cache = hub.cache_folder
        self._name = f"models--{repo.replace('/', '--')}"
        self.blobs = self._cache / self._name / "blobs"
        self._files: list[_RemoteFile] = []
        self.stage: Stage = "download"

    def run(self) -> None:
        try:
            self.folder = self._complete_snapshot()
        except Exception as error:  # noqa: BLE001 a thread's boundary: the waiting thread raises it
            self.error = error
        finally:
            self.ended.set()

    def bytes_on_disk(self) -> int:
        return sum(bytes_on_disk(self.blobs / file.blob, file.size) for file in self._files)

    def report_to(self, report: Reporter) -> None:
        stage = "waiting_for_lock" if self.stage == "waiting_for_lock" else "download"
        if self._files:
            report(stage, self.bytes_on_disk(), sum(file.size for file in self._files))
        else:
            report(stage)

    def _complete_snapshot(self) -> Path:
        """Fetch the weights first, one by one and resumable; the library then finds them and fetches the rest."""
        info = HfApi(endpoint=self._hub.endpoint).model_info(
            self._repo, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        siblings = info.siblings or []
        _require_whole({file.rfilename for file in siblings})
        files = [_remote_file(file.rfilename, file.size, file.lfs, file.blob_id) for file in siblings]
        self.blobs.mkdir(parents=True, exist_ok=True)
        self._files = [file for file in files if file is not None]
        self._require_space()
        for file in self._files:
            if SHA256.fullmatch(file.blob):
                self._fetch(file, info.sha)
        return Path(
            snapshot_download(
                self._repo,
                cache_dir=self._cache,
                endpoint=self._hub.endpoint,
                allow_patterns=list(PATTERNS),
                ignore_patterns=list(SUBFOLDERS),
            )
        )

    def stalled(self) -> DownloadFailed:
        waits = self.stage == "waiting_for_lock"
        what = "another process that downloads this model has" if waits else "the download has"
        remedy = "end that process, or wait, and start again" if waits else "check the network and start again"
        message = f"{what} brought nothing for {self._hub.stall_seconds:g} s: {remedy}; what is there is kept"
        return DownloadFailed(message, model=self._repo, reason="waiting_for_lock" if waits else "stalled")

    def failure(self, error: Exception) -> BridgeError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._disk_full()
        return _translated(error, self._repo)

    def _require_space(self) -> None:
        lack = self._disk_full()
        if lack.data["needed"] > lack.data["free"]:
            raise lack

    def _disk_full(self) -> DiskFull:
        missing = sum(file.size for file in self._files) - self.bytes_on_disk()
        needed, free = math.ceil(missing * _FREE_SPACE), _free_space(self.blobs)
        return DiskFull(
            f"the download needs {needed} bytes, {free} are free: free some space, or name another disk by --cache-dir",
            needed=needed,
            free=free,
        )

    def _fetch(self, file: _RemoteFile, revision: str | None) -> None:
        url = hf_hub_url(self._repo, file.name, revision=revision, endpoint=self._hub.endpoint)
        lock = self._cache / ".locks" / self._name / f"{file.blob}.lock"
        patience = Patience(self.abandoned, self._hub.retry_seconds)
        fetch(Source(url, file.blob, file.size), self.blobs, lock, patience, self._enter)
        self.stage = "download"

    def _enter(self, stage: Stage) -> None:
        self.stage = stage


def _remote_file(name: str, size: int | None, lfs: dict[str, object] | None, blob_id: str | None) -> _RemoteFile | None:
    """A file that loading may read, with its size; None for every other, or if its description is incomplete."""
    blob = str(lfs["sha256"]) if lfs else blob_id
    if "/" in name or not name.endswith(tuple(pattern[1:] for pattern in PATTERNS)):
        return None
    if size is None or blob is None or not _BLOB_NAME.fullmatch(blob):
        return None
    return _RemoteFile(name, size, blob)


def _free_space(folder: Path) -> int:
    """Bytes free where `folder` is, or would be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _require_whole(names: set[str]) -> None:
    missing = [name for name in required_names(names.__contains__) if name not in names]
    if missing:
        raise ModelIncomplete(f"the repository lacks {', '.join(missing)}", missing=missing)


def _translated(error: Exception, repo: str) -> BridgeError:
    match error:
        case BridgeError():
            return error
        case OfflineModeIsEnabled():
            message = "the model is not in the cache and the hub is off: unset HF_HUB_OFFLINE, or name a folder"
            return ModelNotFound(message, model=repo, offline=True)
        case HfHubHTTPError():
            return _refusal(error, error.response.status_code, repo)
    reason = _root(error)
    name = type(reason).__name__
    of_a_file = isinstance(reason, OSError) and reason.filename is not None
    remedy = "check the cache folder (--cache-dir)" if of_a_file else "connect to a network"
    message = f"the model could not be downloaded ({name}): {remedy} and start again, or name a folder"
    return DownloadFailed(message, model=repo, reason=name)


def _refusal(error: HfHubHTTPError, status: int, repo: str) -> BridgeError:
    known = {"model": repo, "http_status": status}
    if isinstance(error, DisabledRepoError):
        return DownloadRefused("the hub has disabled this model: choose another", **known)
    if isinstance(error, GatedRepoError):
        message = "the hub asks for an agreement: accept it on the model's page, set HF_TOKEN and start again"
        return DownloadRefused(message, **known)
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        message = "the hub has no such model: check its name; for a private one, set HF_TOKEN"
        return ModelNotFound(message, **known)
    if status < 500 and status not in (408, 429):
        return DownloadRefused(f"the hub refused the download (HTTP {status}): check HF_TOKEN", **known)
    return DownloadFailed(f"the hub could not serve the download (HTTP {status}): start again later", **known)


def _root(error: BaseException) -> BaseException:
    """The first error of the chain: the library wraps a lost connection in its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
