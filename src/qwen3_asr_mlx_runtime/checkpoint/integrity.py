"""The digest check of a model's files, and the check that they do not change while they are read.

The hub's cache names Git LFS content by its SHA-256, so weights can be checked against their own name. An unchanged
file is hashed once; the result is kept in the state folder, if there is one.
"""

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from qwen3_asr_mlx_runtime.checkpoint.files import corrupt
from qwen3_asr_mlx_runtime.errors import BridgeError, ModelChanged

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 4 * 1024 * 1024
_MEMORY_FILE = "verified.json"
_MEMORY_FORMAT = 1
_REMEMBERED = 256  # files; forgetting the oldest costs one more hash


class Identity(NamedTuple):
    """What changes when a file is replaced or written to, links followed."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, file: Path) -> "Identity":
        status = file.stat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def unchanged(files: Iterable[Path]) -> Iterator[None]:
    """Guards reads of `files`. Raises ModelChanged if one of them was replaced or written to meanwhile, in place of any
    error that this caused."""
    before = {file: Identity.of(file) for file in files}
    try:
        yield
    except BridgeError as error:
        _require_same(before, error)
        raise
    _require_same(before)


def _require_same(before: dict[Path, Identity], cause: BridgeError | None = None) -> None:
    for file, identity in before.items():
        try:
            same = Identity.of(file) == identity
        except OSError:
            same = False
        if not same:
            raise ModelChanged(f"{file.name} changed while it was read", file=file.name) from cause


class Verified:
    """The files that passed the digest check, kept in memory and in `folder`, if that can be written.

    Stores only hashes of paths and identities, no names. A problem with the folder means another hash, never an error.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / _MEMORY_FILE if folder is not None else None
        self._keys = self._read()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        self._keys = [*(known for known in self._keys if known != key), key][-_REMEMBERED:]
        if self._file is not None:
            with contextlib.suppress(OSError):
                _replace(self._file, json.dumps({"format": _MEMORY_FORMAT, "verified": self._keys}))

    def _read(self) -> list[str]:
        try:
            content = json.loads(self._file.read_bytes()) if self._file is not None else {}
            keys = content["verified"] if content["format"] == _MEMORY_FORMAT else []
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []
        return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _key(file: Path) -> str:
    """One for each (path, expected digest, size, modification time, inode)."""
    identity = Identity.of(file)
    parts = (os.path.abspath(file), expected_sha256(file), identity.size, identity.modified_ns, identity.inode)  # noqa: PTH100 links are kept
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def expected_sha256(file: Path) -> str | None:
    """The digest in the name of `file`'s content in the hub's cache; None if the name is no SHA-256.

    Only the first link counts: the content may itself link on, to a name of another kind.
    """
    if not file.is_symlink():
        return None
    target = file.parent / file.readlink()
    return target.name if target.parent.name == "blobs" and _SHA256.fullmatch(target.name) else None


@dataclass
class Verification:
    """Names of files: hashed now, known from an earlier check, and without a digest."""

    mode: str
    checked: list[str] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    without_digest: list[str] = field(default_factory=list)


def verify(files: Iterable[Path], mode: str, verified: Verified, report: Callable[[int, int], None]) -> Verification:
    """Compare each file with its digest: `always`, `once` for each file that does not change, or `never`.

    `report` gets the bytes read and their total. Raises ModelCorrupt naming the first file whose digest differs.
    """
    result = Verification(mode)
    if mode == "never":
        return result
    due: list[Path] = []
    for file in files:
        if expected_sha256(file) is None:
            result.without_digest.append(file.name)
        elif mode == "once" and _key(file) in verified:
            result.remembered.append(file.name)
        else:
            due.append(file)
    total, done = sum(file.stat().st_size for file in due), 0
    for file in due:
        key = _key(file)
        done = _verify(file, done, total, report)
        verified.add(key)
        result.checked.append(file.name)
    return result


def _verify(file: Path, done: int, total: int, report: Callable[[int, int], None]) -> int:
    with unchanged([file]):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                report(done, total)
        if digest.hexdigest() != expected_sha256(file):
            raise corrupt(file, "does not hold what the hub has under its name")
    return done
