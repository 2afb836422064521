"""One large file of the hub into its cache, resumed where an earlier try ended, be it in another process.

The library's own download throws a partial file away when it fails, so what Git LFS keeps, the weights, is fetched
here, under the library's lock and the name at which it then finds the content in place.
"""

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, get_session, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from qwen3_asr_mlx_runtime.errors import DownloadFailed

Stage = Literal["waiting_for_lock", "download", "verify"]

SHA256 = re.compile(r"[0-9a-f]{64}")
_ATTEMPTS = 10  # without a byte gained, each waited for longer than the one before
_LOCK_POLL_SECONDS = 0.25
_PARTIAL = ".incomplete"


class Abandoned(Exception):
    """Nobody waits for this download any longer."""


@dataclass(frozen=True)
class Source:
    """A file of the hub: where it is, the SHA-256 it is known by, its size in bytes."""

    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Patience:
    """`retry_seconds` before the second try, as much again before each later one; none once `abandoned` is set."""

    abandoned: threading.Event
    retry_seconds: float


def bytes_on_disk(blob: Path, size: int) -> int:
    """How much of `blob` is there, whole or partial, whichever process or library fetches it."""
    sizes = [_size(blob), *(_size(partial) for partial in blob.parent.glob(f"{blob.name}*{_PARTIAL}"))]
    return min(size, max(sizes))


def bytes_in(folder: Path) -> int:
    """The size of all files in `folder`, 0 where there is none."""
    try:
        return sum(_size(file) for file in folder.iterdir())
    except OSError:
        return 0


def fetch(source: Source, blobs: Path, lock: Path, patience: Patience, on_stage: Callable[[Stage], None]) -> None:
    """Bring the content of `source` to its place in the folder `blobs`. A partial file stays when this fails.

    `on_stage` is told what is done now. Raises what the library raises, OSError, DownloadFailed, or Abandoned.
    """
    blob = blobs / source.sha256
    with _Lock(lock, patience.abandoned, on_stage):
        on_stage("download")
        if blob.exists():
            return
        partial = blob.with_name(blob.name + _PARTIAL)
        _complete(source, partial, patience)
        on_stage("verify")
        if _sha256(partial) != source.sha256:
            partial.write_bytes(b"")
            raise DownloadFailed(
                "the checksum of the download is wrong: start again, which begins from zero", reason="digest"
            )
        partial.replace(blob)


class _Lock:
    """The library's lock of one file, waited for as long as nobody abandons the download."""

    def __init__(self, path: Path, abandoned: threading.Event, on_stage: Callable[[Stage], None]) -> None:
        self._path = path
        self._abandoned = abandoned
        self._on_stage = on_stage

    def __enter__(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while not self._abandoned.is_set():
            lock = WeakFileLock(self._path, timeout=_LOCK_POLL_SECONDS)
            try:
                lock.__enter__()
            except TimeoutError:
                self._on_stage("waiting_for_lock")
                continue
            self._lock = lock
            return
        raise Abandoned

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)


def _complete(source: Source, partial: Path, patience: Patience) -> None:
    """Append until the partial file has its size. Only tries that gain nothing are counted."""
    if _size(partial) > source.size:
        partial.write_bytes(b"")
    best, attempts = _size(partial), 0
    while _size(partial) < source.size:
        try:
            _append(source, partial, patience.abandoned)
        except Exception as error:
            attempts = 1 if _size(partial) > best else attempts + 1
            best = max(best, _size(partial))
            if attempts >= _ATTEMPTS or not _is_transient(error):
                raise
            if patience.abandoned.wait(patience.retry_seconds * attempts):
                raise Abandoned from error


def _append(source: Source, partial: Path, abandoned: threading.Event) -> None:
    offset = _size(partial)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", source.url, headers=headers, timeout=timeout) as response:
        hf_raise_for_status(response)
        resumed = response.status_code == 206
        with partial.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_bytes():
                if abandoned.is_set():
                    raise Abandoned
                stream.write(chunk[: source.size - stream.tell()])
                stream.flush()  # progress is what lies on the disk
    if _size(partial) < source.size:
        raise ConnectionError("the hub sent less than the file holds")


def _is_transient(error: Exception) -> bool:
    """A broken connection or a hub in trouble, rather than a refusal or a disk that is full."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return isinstance(error, HTTPError | ConnectionError)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
