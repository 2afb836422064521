"""The body of a request → a form and a file, within limits of size and time."""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import IO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from qwen3_asr_mlx_runtime.bridge.lifecycle import process_exists
from qwen3_asr_mlx_runtime.errors import DiskFull
from qwen3_asr_mlx_runtime.tools.serve.forms import file_of
from qwen3_asr_mlx_runtime.tools.serve.problems import CLIENT_GONE, Problem, invalid

IDLE_SECONDS = 60.0  # an upload that brings nothing for so long has failed
_PREFIX = "qwen3-asr-serve-"
_MAX_FIELDS, _MAX_FIELD_BYTES = 64, 1 << 18
_FORM_ERROR = "expected multipart/form-data"


def too_large(limit: int) -> Problem:
    message = f"expected at most {limit} bytes, which --max-upload-mb sets"
    return Problem(413, "upload_too_large", message, "file")


def client_gone() -> Problem:
    return Problem(CLIENT_GONE, "client_gone", "the client has gone away")


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder that only this user can read, deleted at the end, as are those of servers that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def _is_left(folder: Path) -> bool:
    """Whether it is of this user, and of a process that has ended."""
    named = re.match(rf"{_PREFIX}(\d+)-", folder.name)
    with suppress(OSError):
        return named is not None and folder.lstat().st_uid == os.getuid() and not process_exists(int(named[1]))
    return False


@dataclass(frozen=True)
class Uploads:
    """`folder`: where files lie while they are transcribed. `limit_bytes`: of a body. `idle_seconds`: between two
    blocks of it."""

    folder: Path
    limit_bytes: int
    idle_seconds: float = IDLE_SECONDS

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[tuple[FormData, Path]]:
        """The form, and its file, which is deleted at the end. Raises Problem."""
        with suppress(ValueError):
            if int(request.headers.get("content-length", "")) > self.limit_bytes:
                raise too_large(self.limit_bytes)
        form = await self._form(request)
        with NamedTemporaryFile(dir=self.folder) as kept:  # it has a name, by which the bridge opens it
            try:
                await asyncio.to_thread(_copy, file_of(form), kept.file)
            except OSError as error:
                raise _not_kept(error) from error
            finally:
                await form.close()
            yield form, Path(kept.name)

    async def _form(self, request: Request) -> FormData:
        """The library writes files that are longer than 1 MiB to disk, and reads no faster than it writes."""
        counted = Request(request.scope, _Counted(request, self.limit_bytes, self.idle_seconds).receive)
        try:
            return await counted.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
        except HTTPException as error:
            raise invalid(f"{_FORM_ERROR}: {error.detail}", None) from error
        except ClientDisconnect:
            raise client_gone() from None
        except OSError as error:
            raise _not_kept(error) from error


def _copy(upload: UploadFile, kept: IO[bytes]) -> None:
    shutil.copyfileobj(upload.file, kept)
    kept.flush()


def _not_kept(error: OSError) -> Problem:
    return Problem(503, DiskFull.code, f"the upload cannot be written: {error.strerror}", may_retry=True)


class _Counted:
    """Receives the body of a request, within limits."""

    def __init__(self, request: Request, limit: int, idle_seconds: float) -> None:
        self._receive = request.receive
        self._limit, self._bytes = limit, 0
        self._idle_seconds = idle_seconds

    async def receive(self) -> Message:
        """Raises Problem."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                message = await self._receive()
        except TimeoutError:
            text = f"the upload brought nothing for {self._idle_seconds:g} s"
            raise Problem(408, "upload_timeout", text, "file") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit:
            raise too_large(self._limit)
        return message
