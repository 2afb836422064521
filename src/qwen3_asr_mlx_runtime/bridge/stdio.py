"""Claims stdin and stdout for the protocol, at the level of descriptors.

Called before any large import. From then on all output of libraries, native code and child processes to descriptor 1
goes to stderr, and reads of descriptor 0 return nothing.
"""

import errno
import fcntl
import os
from dataclasses import dataclass

FIRST_PRIVATE = 3
_DIAGNOSTIC_BYTES = 512  # POSIX guarantees an atomic write of this size to a pipe


@dataclass(frozen=True, slots=True)
class Wire:
    """The private descriptors, both ≥ 3 and closed on exec; None if the process was started without."""

    stdin: int | None
    stdout: int | None


def claim_stdio() -> Wire:
    """Move descriptors 0 and 1 to private ones; then 0 reads /dev/null and 1 writes to stderr.

    A descriptor of 0 to 2 that is closed is opened on /dev/null first, so that no later `open` takes its place.
    """
    missing = _open_missing()
    wire = Wire(
        stdin=None if 0 in missing else fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE),
        stdout=None if 1 in missing else fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, FIRST_PRIVATE),
    )
    _point_at_null(0)
    os.dup2(2, 1, inheritable=True)
    return wire


def _open_missing() -> set[int]:
    missing = {fd for fd in range(FIRST_PRIVATE) if not _is_open(fd)}
    for fd in sorted(missing):
        _point_at_null(fd)
    return missing


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def _point_at_null(fd: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == fd:
        os.set_inheritable(fd, True)
        return
    os.dup2(null, fd, inheritable=True)
    os.close(null)
