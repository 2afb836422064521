"""The path of a file → a descriptor, or a clear error."""

import errno
import os
import re
import stat

from qwen3_asr_mlx_runtime.errors import (
    AudioNotFound,
    AudioNotRegularFile,
    AudioUnreadable,
    InvalidParams,
    PathNotAllowed,
)
from qwen3_asr_mlx_runtime.limits import MAX_PATH_CHARACTERS


def _check_path(path: str) -> None:
    if not path or "\0" in path or len(path) > MAX_PATH_CHARACTERS:
        raise InvalidParams(f"expected a path of 1 to {MAX_PATH_CHARACTERS} characters without NUL", field="audio")
    if path == "-" or path.startswith("~") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise PathNotAllowed(f"expected the path of a file; `-`, `~` and URLs are not read: {path!r}")


def open_regular(path: str) -> int:
    """Open a regular file. A FIFO without a writer does not block; a terminal does not become the controlling one."""
    _check_path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        raise AudioNotFound(f"no such file: {path!r}") from None
    except UnicodeEncodeError:
        raise InvalidParams("expected a path that can be encoded", field="audio") from None
    except OSError as error:
        raise _not_opened(path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AudioNotRegularFile(f"expected a regular file: {path!r}")
    return descriptor


def _not_opened(path: str, error: OSError) -> AudioNotRegularFile | AudioUnreadable:
    if error.errno in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):  # sockets and devices without a driver
        return AudioNotRegularFile(f"expected a regular file: {path!r}")
    return unreadable("open", path, error)


def unreadable(action: str, path: str, error: OSError) -> AudioUnreadable:
    name = errno.errorcode.get(error.errno or 0, "unknown")
    hint = "; on macOS the app needs the permission" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return AudioUnreadable(f"cannot {action} the file ({name}{hint}): {path!r}", errno=name)
