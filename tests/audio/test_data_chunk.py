"""A header that was never finished costs no audio, and one that can be read by nobody here says so."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from qwen3_asr_mlx_runtime import errors
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.audio.sound_file import formats

FRAMES = 1600
LENGTHS = {  # of the audio: the bytes before it, where it stands from there, its bytes, and their order
    "wav": (b"data", 4, 4, "little"),
    "rf64": (b"ds64", 16, 8, "little"),
    "caf": (b"data", 4, 8, "big"),
    "au": (b".snd", 8, 4, "big"),
    "aiff": (b"SSND", 4, 4, "big"),
}


def announcing(path: Path, length: int, subtype: str = "PCM_16") -> str:
    """A file of 1600 frames whose header gives another length of the audio, in bytes."""
    samples = (0.3 * np.sin(np.arange(FRAMES) / 20)).astype(np.float32)
    soundfile.write(path, samples, 16_000, subtype, format=path.suffix[1:].upper())
    data = bytearray(path.read_bytes())
    before, offset, width, order = LENGTHS[path.suffix[1:]]
    at = data.index(before) + offset
    data[at : at + width] = (length % 256**width).to_bytes(width, order)  # type: ignore[arg-type]
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
@pytest.mark.parametrize(
    ("name", "length"),
    [
        *(("a.wav", 0), ("a.wav", -1), ("a.wav", 0x7FFFF000), ("a.wav", 0x80000000)),
        *(("a.rf64", 0), ("a.rf64", -1), ("a.caf", 0), ("a.caf", -1)),
        *(("a.au", 0), ("a.au", -1), ("a.au", 0x80000000), ("a.aiff", 0), ("a.aiff", -1)),
    ],
)
def test_a_header_without_a_length_gives_all_that_is_there_and_a_warning(
    name: str, length: int, subtype: str, tmp_path: Path
) -> None:
    read = read_file(announcing(tmp_path / name, length, subtype))
    assert (len(read.samples), read.warnings) == (FRAMES, ("audio_length_unknown",))
    assert 0.25 < np.abs(read.samples).max() < 0.35


@pytest.mark.parametrize("size", [0, -1], ids=["nothing", "all ones"])
def test_the_length_of_the_whole_file_may_be_missing_too(size: int, tmp_path: Path) -> None:
    path = Path(announcing(tmp_path / "a.wav", 0))
    data = bytearray(path.read_bytes())
    data[4:8] = (size % 2**32).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_file(str(path)).samples) == FRAMES


def test_a_wav_in_blocks_without_a_length_gives_all_that_is_there(tmp_path: Path) -> None:
    read = read_file(announcing(tmp_path / "a.wav", 0, "IMA_ADPCM"))
    assert len(read.samples) >= FRAMES
    assert read.warnings == ("audio_length_unknown",)


@pytest.mark.parametrize("name", ["a.wav", "a.rf64", "a.caf", "a.au", "a.aiff"])
def test_a_header_that_announces_more_than_there_is_gives_what_is_there(name: str, tmp_path: Path) -> None:
    read = read_file(announcing(tmp_path / name, 1_000_000))
    assert (len(read.samples), read.warnings) == (FRAMES, ("audio_truncated",))


@pytest.mark.parametrize("behind", [b"LIST\x04\0\0\0abcd", b"ID3\x04\0\0\0\0\0\0" + bytes(20), b""])
def test_a_wav_without_audio_is_empty_whatever_tags_it_has(behind: bytes, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000, "PCM_16")
    with (tmp_path / "a.wav").open("ab") as file:
        file.write(behind)
    with pytest.raises(errors.AudioEmpty):
        read_file(str(tmp_path / "a.wav"))


def test_an_unfinished_header_does_not_lift_the_limit(tmp_path: Path) -> None:
    path = announcing(tmp_path / "a.wav", 0)
    assert len(read_file(path, max_seconds=0.1).samples) == FRAMES
    with pytest.raises(errors.AudioTooLong):
        read_file(path, max_seconds=0.0999)


def edited(path: Path, at: int, value: bytes) -> str:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return str(path)


def assert_refused_with_a_way(path: str) -> None:
    with pytest.raises(errors.AudioUnsupported) as raised:
        read_file(path)
    assert raised.type is errors.AudioUnsupported
    assert "afconvert" in raised.value.message
    assert "ffmpeg" in raised.value.message
    assert not any(f"{name}," in raised.value.message for name in formats())


@pytest.mark.usefixtures("without_media")
@pytest.mark.parametrize("encoding", [0x0000, 0x0050, 0x00FF, 0x0161, 0x0162, 0x2000])
def test_a_wav_in_an_encoding_that_cannot_be_read_is_unsupported(encoding: int, tmp_path: Path) -> None:
    announcing(tmp_path / "a.wav", 2 * FRAMES)
    assert_refused_with_a_way(edited(tmp_path / "a.wav", 20, encoding.to_bytes(2, "little")))


@pytest.mark.usefixtures("without_media")
def test_samples_of_sixty_four_bits_in_a_wav_are_unsupported(tmp_path: Path) -> None:
    announcing(tmp_path / "a.wav", 2 * FRAMES)
    assert_refused_with_a_way(edited(tmp_path / "a.wav", 34, b"\x40"))


@pytest.mark.usefixtures("without_media")
@pytest.mark.parametrize("encoding", [b"aac ", b"alac", b"opus", b"ima4"])
def test_a_caf_in_an_encoding_that_cannot_be_read_is_unsupported(encoding: bytes, tmp_path: Path) -> None:
    announcing(tmp_path / "a.caf", 2 * FRAMES + 4)
    assert_refused_with_a_way(edited(tmp_path / "a.caf", 28, encoding))


@pytest.mark.parametrize(
    ("name", "at", "count"),
    [("a.wav", 22, b"\xff\xff"), ("a.aiff", 20, b"\x7f\xff"), ("a.au", 20, b"\0\1\0\0"), ("a.caf", 44, b"\0\0\4\1")],
)
def test_too_many_channels_are_unsupported(name: str, at: int, count: bytes, tmp_path: Path) -> None:
    announcing(tmp_path / name, 2 * FRAMES + 4)
    assert_refused_with_a_way(edited(tmp_path / name, at, count))


@pytest.mark.parametrize("codec", [b"\x7fFLAC\1\0", b"Speex  ", b"fishead"])
def test_an_ogg_of_another_codec_is_unsupported(codec: bytes, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", np.zeros(100, np.float32), 16_000, "VORBIS")
    assert_refused_with_a_way(edited(tmp_path / "a.ogg", 28, codec))


def test_a_damaged_format_chunk_is_corrupt(tmp_path: Path) -> None:
    announcing(tmp_path / "a.wav", 2 * FRAMES)
    with pytest.raises(errors.AudioCorrupt):
        read_file(edited(tmp_path / "a.wav", 16, b"\2\0\0\0"))
