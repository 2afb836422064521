"""Download one large file of the hub into its cache, resuming an earlier attempt, also of another process.

The library's own download deletes a partial file when it fails. So the weights, which Git LFS stores, are fetched here,
under the library's lock and under the name where the library then finds them.
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
_ATTEMPTS = 10  # without a new byte, each after a longer wait
_LOCK_POLL_SECONDS = 0.25
_PARTIAL = ".incomplete"


class Abandoned(Exception):
    """The caller no longer waits for this download."""


@dataclass(frozen=True)
class Source:
    """A file of the hub: its URL, SHA-256 and size in bytes."""

    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Patience:
    """Wait `retry_seconds` before the second attempt, and as much longer before each later one, until `abandoned`."""

    abandoned: threading.Event
    retry_seconds: float


def bytes_on_disk(blob: Path, size: int) -> int:
    """How many bytes of `blob` are on disk, complete or partial, whichever process or library fetches it."""
    sizes = [_size(blob), *(_size(partial) for partial in blob.parent.glob(f"{blob.name}*{_PARTIAL}"))]
    return min(size, max(sizes))


def bytes_in(folder: Path) -> int:
    """The size of all files in `folder`, 0 where there is none."""
    try:
        return sum(_size(file) for file in folder.iterdir())
    except OSError:
        return 0


def fetch(source: Source, blobs: Path, lock: Path, patience: Patience, on_stage: Callable[[Stage], None]) -> None:
    """Download `source` into the folder `blobs`. A failure leaves the partial file.

    `on_stage` is called with each stage. Raises what the library raises, OSError, DownloadFailed, or Abandoned.
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
                "checksum mismatch in the download: start again, the next attempt starts from zero", reason="digest"
            )
        partial.replace(blob)


class _Lock:
    """The library's lock of one file. Waits for it until the download is abandoned."""

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
    """Append until the partial file has its size. Only attempts without a new byte count."""
    if _size(partial) > source.size:
        partial.write_bytes(b"")
    most_bytes, attempts = _size(partial), 0
    while _size(partial) < source.size:
        try:
            _append(source, partial, patience.abandoned)
        except Exception as error:
            attempts = 1 if _size(partial) > most_bytes else attempts + 1
            most_bytes = max(most_bytes, _size(partial))
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
    """Whether a retry can help: a broken connection or a server error, not a refusal or a full disk."""
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
