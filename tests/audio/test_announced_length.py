"""The length that the headers of a file give, as each of its segments says it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.media_file import tone, write

from qwen3_asr_mlx_runtime.audio.segments import read_segments

RATE = 44_100


def announced(path: Path) -> list[float | None]:
    return [segment.announced_seconds for segment in read_segments(str(path), 3.0)]


def sound(path: Path, seconds: float = 10.0) -> Path:
    soundfile.write(path, np.sin(np.arange(int(seconds * RATE)) * 0.03) / 4, RATE)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "aiff", "caf", "au", "w64"])
def test_every_segment_has_the_length_by_the_header(tmp_path: Path, suffix: str) -> None:
    found = announced(sound(tmp_path / f"tone.{suffix}"))
    assert len(found) > 3
    assert found == [10.0] * len(found)


def test_an_mp3_without_a_tag_announces_none(tmp_path: Path) -> None:
    path = sound(tmp_path / "tone.mp3")
    data = path.read_bytes()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[data.index(data[:2], tag) :])
    assert {*announced(path)} == {None}


def test_streams_joined_in_one_file_add_up_as_they_are_read(tmp_path: Path) -> None:
    first, second = sound(tmp_path / "1.flac"), sound(tmp_path / "2.flac", 20.0)
    both = tmp_path / "both.flac"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    found = announced(both)
    assert found[0] == 10.0
    assert found[-1] == 30.0
    assert found == sorted(found)


def test_a_header_without_a_length_announces_none(tmp_path: Path) -> None:
    path = sound(tmp_path / "tone.wav")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert {*announced(path)} == {None}


def test_streams_of_which_one_has_no_length_announce_none_from_there_on(tmp_path: Path) -> None:
    first, second = sound(tmp_path / "1.flac"), sound(tmp_path / "2.flac")
    stream = bytearray(second.read_bytes())
    stream[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO
    stream[22:26] = bytes(4)
    both = tmp_path / "both.flac"
    both.write_bytes(first.read_bytes() + stream)
    found = announced(both)
    assert found[0] == 10.0
    assert found[-1] is None


def test_a_media_file_has_the_length_of_its_container(tmp_path: Path) -> None:
    found = announced(write(tmp_path / "tone.m4a", [tone(10.0)]))
    assert len(found) > 3
    assert found == pytest.approx([10.0] * len(found), abs=0.1)
