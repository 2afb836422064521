"""A sound file as libsndfile opens it, with what libsndfile leaves unsaid: what else it is, and whether it is whole."""

import os
import re

import soundfile
from soundfile import LibsndfileError

from qwen3_asr_mlx_runtime.errors import AudioCorrupt, AudioUnsupported

__all__ = ["LibsndfileError", "SoundFile", "formats"]

_UNRECOGNISED, _UNSUPPORTED_ENCODING = 1, 4  # libsndfile's public error codes
_UNKNOWN_FRAMES = 2**63 - 1  # its count where the header gives none
_UNKNOWN_BYTES = 0x7FFF0000  # lengths from here on are what writers to pipes leave in place of one
_LENGTH_MENDED = re.compile(r"(?:data|SSND|BODY|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
_OTHER_CONTAINERS = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, mov)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (wma, asf)"),
)
_OGG_PAGE_BYTES = 65_307  # the largest there can be
_OGG_HEADER_BYTES = 27
_OGG_LAST_PAGE = 4


def formats() -> tuple[str, ...]:
    """The containers that can be read, by libsndfile's names. RAW has no header, SD2 is two files."""
    return tuple(sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}))


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read forward only: the seek after each block fails at the end of a truncated FLAC."""

    @classmethod
    def from_descriptor(cls, descriptor: int, path: str) -> "SoundFile":
        """Open a descriptor that stays the caller's. Raises AudioUnsupported or AudioCorrupt, which name `path`."""
        try:
            file = cls(descriptor, closefd=False)
        except LibsndfileError as error:
            raise _not_opened(descriptor, path, error) from None
        file.descriptor = descriptor
        return file

    def seekable(self) -> bool:
        return False

    @property
    def announced_frames(self) -> int | None:
        """The frames that the header gives, mended by libsndfile where it knows better; None where it gives none."""
        return None if self.frames == _UNKNOWN_FRAMES else int(self.frames)

    def ends_early(self, frames: int) -> bool:
        """Whether the header announces more than the `frames` that could be read, or an Ogg stream lacks its end.

        libsndfile lowers the count of a truncated file in silence; its log has both.
        """
        if self.format == "OGG":
            return _ogg_unfinished(self.descriptor)
        mended = ((int(said), int(found)) for said, found in _LENGTH_MENDED.findall(self.extra_info))
        return frames < (self.announced_frames or 0) or any(found < said < _UNKNOWN_BYTES for said, found in mended)


def _not_opened(descriptor: int, path: str, error: LibsndfileError) -> AudioUnsupported | AudioCorrupt:
    expected = f"expected one of {', '.join(formats())}: {path!r}"
    if error.code == _UNRECOGNISED:
        head = os.pread(descriptor, 16, 0)
        known = (name for at, magic, name in _OTHER_CONTAINERS if head[at:].startswith(magic))
        return AudioUnsupported(f"found {next(known, 'no header of a sound file')}, {expected}")
    if error.code == _UNSUPPORTED_ENCODING:
        return AudioUnsupported(f"found an encoding that is not supported, {expected}")
    return AudioCorrupt(f"found a damaged header ({error.error_string.strip()}), {expected}")


def _ogg_unfinished(descriptor: int) -> bool:
    """Whether the last Ogg page is cut, or is not marked as the last of its stream (RFC 3533, section 6)."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _OGG_PAGE_BYTES, max(0, size - _OGG_PAGE_BYTES))
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER_BYTES:
        return True
    body = _OGG_HEADER_BYTES + page[26]  # after as many segment lengths as byte 26 says
    return not page[5] & _OGG_LAST_PAGE or len(page) < body + sum(page[_OGG_HEADER_BYTES:body])
