"""A part of a file as a file of its own, for libsndfile to read."""

import os

_ENDLESS = 1 << 40  # bytes, longer than any file that is read
_TAIL = 128  # libmpg123 looks for an ID3v1 tag in the last 128 bytes


class ByteWindow:
    """The bytes `start` to `stop` of a descriptor, which the caller closes. `patch`: (offset, bytes) that replace bytes
    of the file.

    An `endless` window claims a length that it does not have: libsndfile computes the frames of an MP3 without a tag
    from its length and reads no further.

    libsndfile calls `seek`, `tell` and `read` from C, where no exception passes: a failed read ends the window, and
    `failure` keeps its error.
    """

    def __init__(
        self, descriptor: int, start: int, stop: int, *, patch: tuple[int, bytes] = (0, b""), endless: bool = False
    ) -> None:
        self.descriptor = descriptor
        self.start = start
        self.stop = stop
        self.endless = endless
        self.failure: OSError | None = None
        self._patch_at, self._patch = patch
        self._length = _ENDLESS if endless else stop - start
        self._at = 0
        self._is_file = not (start or self._patch or endless) and stop == os.fstat(descriptor).st_size

    @property
    def source(self) -> "ByteWindow | int":
        """What libsndfile reads: the descriptor if the window is the whole file, which saves calls from C to Python."""
        if not self._is_file:
            return self
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return self.descriptor

    @property
    def position(self) -> int:
        """How far `source` was read, in bytes of the file."""
        return os.lseek(self.descriptor, 0, os.SEEK_CUR) if self._is_file else self.start + self._at

    def bytes_at(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from the window's byte `at` on."""
        return os.pread(self.descriptor, max(0, min(count, self.stop - self.start - at)), self.start + at)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = at if at >= 0 else self._at  # damaged headers lead there, and lseek does not follow either
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int) -> bytes:
        if self.endless and self._at >= self._length - _TAIL:
            return bytes(count)
        try:
            data = self._patched(self.bytes_at(self._at, count))
        except OSError as error:
            self.failure = error
            return b""
        self._at += len(data)
        return data

    def _patched(self, data: bytes) -> bytes:
        begin = max(self._patch_at, self._at)
        end = min(self._patch_at + len(self._patch), self._at + len(data))
        if begin >= end:
            return data
        patch = self._patch[begin - self._patch_at : end - self._patch_at]
        return data[: begin - self._at] + patch + data[end - self._at :]
