"""A sound file opened by libsndfile, with what libsndfile does not report: whether the file is whole."""

import re

import numpy as np
import soundfile
from soundfile import LibsndfileError

from qwen3_asr_mlx_runtime.audio.byte_window import ByteWindow
from qwen3_asr_mlx_runtime.audio.data_chunk import UNKNOWN_BYTES, DataChunk
from qwen3_asr_mlx_runtime.audio.refusal import refusal
from qwen3_asr_mlx_runtime.engines.utterance import Samples

__all__ = ["LibsndfileError", "SoundFile", "formats"]

_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count if the header has none
_CORRECTED_LENGTH = re.compile(r"(data|SSND|BODY|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
_RIFF = ("riff", "Riff size")  # the length of the file, not that of the audio
_OGG_PAGE_BYTES = 65_307  # the largest there can be
_OGG_HEADER_BYTES = 27
_OGG_LAST_PAGE = 4
_SCAN_BYTES = 1 << 16
_BLOCK_FRAMES = 4096
_MPEG_FRAMES = 576  # the smallest MPEG frame, except in layer I


def formats() -> tuple[str, ...]:
    """The readable containers, by libsndfile's names. Without RAW, which has no header, and SD2, which is two files."""
    return tuple(sorted(set(soundfile.available_formats()) - {"RAW", "SD2"}))


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file, only read forward: the seek after each block fails at the end of a truncated FLAC."""

    window: ByteWindow
    chunk: DataChunk | None
    failure: LibsndfileError | None = None

    @classmethod
    def from_window(cls, window: ByteWindow, path: str, chunk: DataChunk | None = None) -> "SoundFile":
        """Open part of a descriptor, which the caller closes. `chunk`: the audio as the header describes it.

        Raises AudioUnsupported or AudioCorrupt, which name `path`.
        """
        try:
            file = cls(window.source, closefd=False)
        except LibsndfileError as error:
            if window.failure:
                raise window.failure from None
            raise refusal(window, path, chunk, error, formats()) from None
        file.window, file.chunk = window, chunk
        return file

    def seekable(self) -> bool:
        return False

    def read_block(self) -> Samples:
        """The next frames, float32 (frames, channels); empty at the end.

        Raises LibsndfileError if the decoder fails, which loses the whole block. Without a tag, an MP3 is read beyond
        its last frame. So its blocks are read in parts of at most one MPEG frame, and the parts before a failure stay.
        """
        if not self.window.endless:
            return self._read(_BLOCK_FRAMES)
        parts: list[Samples] = []
        while self.failure is None and len(parts) < _BLOCK_FRAMES // _MPEG_FRAMES:
            try:
                parts.append(self._read(_MPEG_FRAMES))
            except LibsndfileError as error:
                self.failure = error
            if parts and not len(parts[-1]):
                break
        if self.failure and not parts:
            raise self.failure
        return np.concatenate(parts)

    def _read(self, frames: int) -> Samples:
        block: Samples = self.read(frames, dtype="float32", always_2d=True)
        return block

    @property
    def announced_frames(self) -> int | None:
        """The number of frames by the header, as corrected by libsndfile; None if the header has none."""
        return None if self.window.endless or self.frames == _UNKNOWN_FRAMES else int(self.frames)

    @property
    def announced_seconds(self) -> float | None:
        """The length by the header; None if it has none."""
        frames = None if self.length_unknown else self.announced_frames
        return None if frames is None else frames / self.samplerate

    @property
    def length_unknown(self) -> bool:
        """Whether the header lacks the length of the audio, so that a missing end cannot be detected."""
        announced = (length for length, _ in self._corrected_lengths(but=_RIFF))
        unfinished = bool(self.chunk and self.chunk.is_unfinished)
        return unfinished or any(not 0 < length < UNKNOWN_BYTES for length in announced)

    def ends_early(self, frames: int) -> bool:
        """Whether the header announces more than the `frames` that could be read, or an Ogg stream lacks its end.

        libsndfile silently lowers the count of a truncated file; its log has both. Raises OSError where the file
        could not be read.
        """
        if self.window.failure:
            raise self.window.failure
        if self.format == "OGG":
            return self._ogg_unfinished()
        cut = any(found < announced < UNKNOWN_BYTES for announced, found in self._corrected_lengths())
        return cut or bool(self.chunk and self.chunk.is_cut) or frames < (self.announced_frames or 0)

    def _corrected_lengths(self, but: tuple[str, ...] = ()) -> list[tuple[int, int]]:
        """(announced, found) of each length that libsndfile corrected."""
        corrections = _CORRECTED_LENGTH.findall(self.extra_info)
        return [(int(announced), int(found)) for name, announced, found in corrections if name not in but]

    def is_padded(self) -> bool:
        """Whether only zeros follow the part of an MPEG stream that was read."""
        at = self.window.position - self.window.start
        if self.format != "MP3":
            return False
        while block := self.window.bytes_at(at, _SCAN_BYTES):
            if block.strip(b"\0"):
                return False
            at += len(block)
        return True

    def _ogg_unfinished(self) -> bool:
        """Whether the last Ogg page is cut, or is not marked as the last of its stream (RFC 3533, section 6)."""
        size = self.window.stop - self.window.start
        tail = self.window.bytes_at(max(0, size - _OGG_PAGE_BYTES), _OGG_PAGE_BYTES)
        page = tail[tail.rfind(b"OggS") :]
        if len(page) < _OGG_HEADER_BYTES:
            return True
        body = _OGG_HEADER_BYTES + page[26]  # byte 26 is the number of segment lengths before the body
        return not page[5] & _OGG_LAST_PAGE or len(page) < body + sum(page[_OGG_HEADER_BYTES:body])
