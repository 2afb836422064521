"""A sound file is read to the end of its last stream, whatever its first one counts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from qwen3_asr_mlx_runtime import errors
from qwen3_asr_mlx_runtime.audio import recording
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples

FORMATS = {"mp3": "MPEG_LAYER_III", "ogg": "VORBIS", "opus": "OPUS", "flac": "PCM_16"}
KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG-2, layer III
ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 0x10, 0]) + bytes(2048)
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (4096).to_bytes(4, "little") + bytes(16 + 4096)


def speech(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> Samples:
    """A tone that swells, with noise: no second of it is like another. float32 (frames, channels)."""
    frames = round(seconds * rate)
    swell = np.linspace(0.05, 0.4, frames, dtype=np.float32)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.02, (frames, channels))
    return (swell * np.sin(np.arange(frames) * 1400 / rate)[:, None] + noise).astype(np.float32)


def encoded(path: Path, seconds: float = 2, rate: int = SAMPLE_RATE, channels: int = 1, **options: Any) -> bytes:
    """A file of such speech in the format that its name ends with."""
    extension = path.suffix[1:]
    container = "OGG" if extension == "opus" else extension.upper()
    soundfile.write(path, speech(seconds, rate, channels), rate, FORMATS[extension], format=container, **options)
    return path.read_bytes()


def untagged(path: Path, seconds: float, compression_level: float) -> bytes:
    """An MP3 of 16 kHz, mono, without the frame that counts the others: nothing in it says how long it is."""
    data = encoded(path, seconds, bitrate_mode="CONSTANT", compression_level=compression_level)
    if b"Info" not in data[:40]:  # frames of low rates have no room for it
        return data
    return data[72 * KILOBITS[data[2] >> 4] // 16 + (data[2] >> 1 & 1) :]


def saved(path: Path, *parts: bytes) -> str:
    path.write_bytes(b"".join(parts))
    return str(path)


def test_an_mp3_without_a_tag_whose_rate_falls_is_read_to_its_end(tmp_path: Path) -> None:
    high, low = (untagged(tmp_path / "a.mp3", seconds, level) for seconds, level in ((0.5, 0), (3, 0.9)))
    assert len(high) > len(low)
    read = read_file(saved(tmp_path / "b.mp3", high, low))
    assert (len(read.samples) / SAMPLE_RATE, read.warnings) == (pytest.approx(3.5, abs=0.2), ())


def test_an_mp3_without_a_tag_whose_rate_rises_is_not_called_truncated(tmp_path: Path) -> None:
    high, low = (untagged(tmp_path / "a.mp3", seconds, level) for seconds, level in ((2, 0), (0.5, 0.9)))
    read = read_file(saved(tmp_path / "b.mp3", low, high))
    assert (len(read.samples) / SAMPLE_RATE, read.warnings) == (pytest.approx(2.5, abs=0.2), ())


def test_an_mp3_without_a_tag_is_not_read_far_beyond_the_limit(tmp_path: Path, frames_read: list[int]) -> None:
    path = saved(tmp_path / "b.mp3", untagged(tmp_path / "a.mp3", 4, 0.9))
    with pytest.raises(errors.AudioTooLong):
        read_file(path, max_seconds=1)
    assert SAMPLE_RATE < sum(frames_read) < SAMPLE_RATE + 5000


@pytest.mark.parametrize("extension", FORMATS)
def test_files_joined_by_cat_are_read_one_after_the_other(extension: str, tmp_path: Path) -> None:
    data = encoded(tmp_path / f"a.{extension}")
    alone = read_file(str(tmp_path / f"a.{extension}")).samples
    read = read_file(saved(tmp_path / "b", data, data, data))
    assert np.array_equal(read.samples, np.concatenate([alone] * 3))
    assert read.warnings == ()


@pytest.mark.parametrize("extension", FORMATS)
def test_joined_files_may_differ_in_rate_and_channels(extension: str, tmp_path: Path) -> None:
    first = encoded(tmp_path / f"a.{extension}", rate=48_000)
    other = encoded(tmp_path / f"b.{extension}", rate=24_000, channels=2)
    expected = [read_file(str(tmp_path / f"{name}.{extension}")).samples for name in "aba"]
    read = read_file(saved(tmp_path / "c", first, other, first))
    assert (read.source_rate, read.channels, read.warnings) == (48_000, 1, ())
    np.testing.assert_allclose(read.samples, np.concatenate(expected), atol=1e-6)


def test_vorbis_and_opus_may_follow_each_other(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.ogg", encoded(tmp_path / "a.opus"), encoded(tmp_path / "b.ogg", 1))
    assert len(read_file(path).samples) == 3 * SAMPLE_RATE


def test_an_mp3_without_a_tag_may_be_followed_by_one_of_another_rate(tmp_path: Path) -> None:
    first, second = untagged(tmp_path / "a.mp3", 1, 0.5), encoded(tmp_path / "b.mp3", 2, 44_100, 2)
    read = read_file(saved(tmp_path / "c.mp3", first, ID3V2, second))
    assert (len(read.samples) / SAMPLE_RATE, read.warnings) == (pytest.approx(3, abs=0.2), ())


@pytest.mark.parametrize("between", [ID3V1, ID3V2, APE, APE + ID3V1 + ID3V2], ids=["ID3v1", "ID3v2", "APE", "all"])
def test_tags_between_joined_mp3s_are_no_audio(between: bytes, tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.mp3")
    read = read_file(saved(tmp_path / "b.mp3", ID3V2, data, between, data, APE, ID3V1))
    assert (len(read.samples), read.warnings) == (4 * SAMPLE_RATE, ())


def test_zeros_behind_an_mp3_without_a_tag_are_no_missing_audio(tmp_path: Path) -> None:
    data = untagged(tmp_path / "a.mp3", 1, 0.5)
    alone = read_file(saved(tmp_path / "b.mp3", data))
    read = read_file(saved(tmp_path / "c.mp3", data, bytes(5000)))
    assert np.array_equal(read.samples, alone.samples)
    assert read.warnings == alone.warnings == ()


def test_what_cannot_be_decoded_in_an_mp3_without_a_tag_is_a_warning(tmp_path: Path) -> None:
    data = untagged(tmp_path / "a.mp3", 1, 0.5)
    read = read_file(saved(tmp_path / "b.mp3", data, b"\x55" * 5000, data))
    assert read.warnings == ("audio_truncated",)
    assert len(read.samples) >= SAMPLE_RATE


def test_mpeg_audio_in_a_wav_is_read_to_its_end(tmp_path: Path) -> None:
    audio = untagged(tmp_path / "a.mp3", 0.5, 0) + untagged(tmp_path / "a.mp3", 3, 0.9)
    layout = (0x55, 1, SAMPLE_RATE, 20_000, 576, 0, 12, 1, 0, 1152, 1, 0)
    widths = (2, 2, 4, 4, 2, 2, 2, 2, 4, 2, 2, 2)
    form = b"".join(number.to_bytes(width, "little") for number, width in zip(layout, widths, strict=True))
    chunks = b"WAVEfmt " + len(form).to_bytes(4, "little") + form + b"data" + len(audio).to_bytes(4, "little") + audio
    tail = b"LIST\x04\0\0\0abcd"
    read = read_file(saved(tmp_path / "a.wav", b"RIFF", (len(chunks) + 12).to_bytes(4, "little"), chunks, tail))
    assert (len(read.samples) / SAMPLE_RATE, read.warnings) == (pytest.approx(3.5, abs=0.2), ())


@pytest.mark.parametrize("extension", FORMATS)
def test_all_streams_count_towards_the_limit(extension: str, tmp_path: Path) -> None:
    data = encoded(tmp_path / f"a.{extension}")
    path = saved(tmp_path / "b", data, data)
    assert len(read_file(path, max_seconds=4).samples) == 4 * SAMPLE_RATE
    with pytest.raises(errors.AudioTooLong) as raised:
        read_file(path, max_seconds=3.99)
    assert raised.value.data == {"limit_seconds": 3.99}


@pytest.mark.parametrize("extension", FORMATS)
def test_a_second_stream_that_is_cut_is_a_warning(extension: str, tmp_path: Path) -> None:
    data = encoded(tmp_path / f"a.{extension}", 4)
    read = read_file(saved(tmp_path / "b", data, data[: len(data) * 3 // 4]))
    assert read.warnings == ("audio_truncated",)
    assert 5 * SAMPLE_RATE < len(read.samples) < 8 * SAMPLE_RATE


@pytest.mark.parametrize("header", [200, 50], ids=["cut header", "cut page"])
def test_a_second_stream_that_cannot_be_opened_leaves_the_first_and_a_warning(header: int, tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.ogg")
    read = read_file(saved(tmp_path / "b.ogg", data, data[:header]))
    assert (len(read.samples), read.warnings) == (2 * SAMPLE_RATE, ("audio_truncated",))


def test_streams_side_by_side_are_one_link(tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.ogg")
    page = data[: data.index(b"OggS", 4)]
    other = page[:14] + b"film" + page[18:]
    assert len(read_file(saved(tmp_path / "b.ogg", page, other, data[len(page) :])).samples) == 2 * SAMPLE_RATE


def test_a_file_of_more_streams_than_are_opened_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_MAX_STREAMS", 2)
    data = encoded(tmp_path / "a.flac", 0.1)
    read = read_file(saved(tmp_path / "b.flac", data * 3))
    assert (len(read.samples), read.warnings) == (3200, ("audio_truncated",))


def test_a_disk_that_fails_under_an_mp3_is_an_error_and_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "b.mp3", untagged(tmp_path / "a.mp3", 4, 0.5))
    pread: Callable[[int, int, int], bytes] = os.pread

    def failing(descriptor: int, count: int, at: int) -> bytes:
        if at > 5000:
            raise OSError(5, "no")
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(errors.AudioUnreadable) as raised:
        read_file(path)
    assert raised.value.data == {"errno": "EIO"}
