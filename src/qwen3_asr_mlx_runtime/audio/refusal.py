"""Why libsndfile cannot open a file, and what its user can do about it."""

from soundfile import LibsndfileError

from qwen3_asr_mlx_runtime.audio.byte_window import ByteWindow
from qwen3_asr_mlx_runtime.audio.data_chunk import DataChunk
from qwen3_asr_mlx_runtime.errors import AudioCorrupt, AudioUnsupported
from qwen3_asr_mlx_runtime.packages import has_media

# libsndfile's numbers. 1 to 4 are public; the others stand in its src/common.h.
_UNRECOGNISED = 1
_ENCODINGS = {4, 18, 73, 74, 76, 79}  # unknown, no decoder, unsupported ADPCM and GSM
_CHANNELS = {33, 34}  # too many channels
_MALFORMED, _BAD_WAV_FORMAT = 3, 64

_WAV_ENCODINGS = {0x1, 0x2, 0x3, 0x6, 0x7, 0x11, 0x31, 0x38, 0x40, 0x55, 0xFFFE}  # those that libsndfile knows
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")
_OTHER_CONTAINERS = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, mov)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (wma, asf)"),
)
_MAX_CHANNELS = 1024
_CONVERT = (
    "convert it with `afconvert -f WAVE -d LEI16@16000 -c 1 <in> <out>.wav` on macOS"
    " or `ffmpeg -i <in> -ar 16000 -ac 1 <out>.wav`"
)


def advice() -> str:
    """What a user can do about a file that cannot be read."""
    return _CONVERT if has_media() else f"install 'qwen3-asr-mlx-runtime[media]', or {_CONVERT}"


def refusal(
    window: ByteWindow, path: str, chunk: DataChunk | None, error: LibsndfileError, formats: tuple[str, ...]
) -> AudioUnsupported | AudioCorrupt:
    head = window.bytes_at(0, 64)
    if error.code == _UNRECOGNISED:
        known = (name for at, magic, name in _OTHER_CONTAINERS if head[at:].startswith(magic))
        found = next(known, "no header of a sound file")
        return AudioUnsupported(f"found {found}, expected one of {', '.join(formats)}: {path!r}; {advice()}")
    if unreadable := _unreadable(head, chunk, error.code):
        return AudioUnsupported(f"{unreadable}: {path!r}; {advice()}")
    return AudioCorrupt(f"expected a whole header, found a damaged one ({error.error_string.strip()}): {path!r}")


def _unreadable(head: bytes, chunk: DataChunk | None, code: int) -> str | None:
    """What an intact file has that cannot be read; None if the file is damaged."""
    if head[:4] == b"OggS":
        return None if _OGG_CODECS[0] in head or _OGG_CODECS[1] in head else "found Ogg without Vorbis or Opus"
    if code in _CHANNELS or (code == _MALFORMED and _caf_channels(head) > _MAX_CHANNELS):
        return "found a number of channels that cannot be read"
    if code == _BAD_WAV_FORMAT and chunk and chunk.encoding in _WAV_ENCODINGS:
        return None
    if chunk and chunk.encoding is not None and code in {*_ENCODINGS, _BAD_WAV_FORMAT}:
        return f"found an encoding that cannot be read (0x{chunk.encoding:04x} of WAV)"
    if code not in _ENCODINGS:
        return None
    name = f" ({head[28:32].decode('latin-1').strip()!r})" if head[:4] == b"caff" else ""
    return f"found an encoding that cannot be read{name}"


def _caf_channels(head: bytes) -> int:
    return int.from_bytes(head[44:48], "big") if head[:4] == b"caff" else 0
