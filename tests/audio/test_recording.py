"""Sound files and PCM become mono at 16 kHz or a clear error; long audio is cut at quiet places."""

import json
import math
import os
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime import errors
from qwen3_asr_mlx_runtime.audio.pcm16 import pcm16
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.audio.sound_file import SoundFile, formats
from qwen3_asr_mlx_runtime.engines.quiet import quiet_middle, split_at_quiet
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.limits import MAX_PATH_CHARACTERS

DATA = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
SPEECH = DATA / "speech"
needs_speech = pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no recordings at {SPEECH}: set QWEN3_ASR_MLX_TEST_DATA")

UNSUPPORTED = ("m4a", "webm", "raw")


def tone(frames: int, channels: int = 1, rate: int = SAMPLE_RATE) -> Samples:
    """Speech-like loudness: a tone with noise, another in every channel. float32 (frames, channels)."""
    noise = np.random.default_rng(0).normal(0, 0.02, (frames, channels))
    pitch = 220 * (1 + np.arange(channels)) / rate
    return (0.4 * np.sin(2 * np.pi * np.arange(frames)[:, None] * pitch) + noise).astype(np.float32)


def write(path: Path, samples: Samples, rate: int = SAMPLE_RATE, subtype: str = "FLOAT", **options: Any) -> str:
    soundfile.write(path, samples, rate, subtype, **options)
    return str(path)


def cut_in_half(path: str) -> bytes:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    return data


def open_descriptors() -> list[str]:
    return sorted(entry.name for entry in Path("/dev/fd").iterdir())


def manifest() -> dict[str, dict[str, Any]]:
    if not SPEECH.is_dir():
        return {}
    rows = map(json.loads, (SPEECH / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["audio"]: row for row in rows}


READABLE = {name: row for name, row in manifest().items() if not name.endswith(UNSUPPORTED)}


# Real recordings.


@needs_speech
@pytest.mark.parametrize("name", READABLE)
def test_every_recording_reads_whole(name: str) -> None:
    row = READABLE[name]
    recording = read_file(str(SPEECH / name))
    lossy = name.endswith(("mp3", "opus", "ogg"))
    assert len(recording.samples) / SAMPLE_RATE == pytest.approx(row["duration"], abs=0.06 if lossy else 0.002)
    assert (recording.source_rate, recording.channels) == (row["sample_rate"], row["channels"])
    assert recording.warnings == ()
    assert recording.samples.dtype == np.float32
    assert 0.01 < np.abs(recording.samples).max() <= 1


@needs_speech
@pytest.mark.parametrize("name", [name for name in READABLE if "jfk" in name])
def test_every_encoding_of_one_recording_sounds_as_the_original(name: str) -> None:
    original = read_file(str(SPEECH / "en/jfk_antirez.wav")).samples
    samples = read_file(str(SPEECH / name)).samples
    assert len(samples) == len(original)
    assert np.corrcoef(samples, original)[0, 1] > (0.95 if name.endswith("opus") else 0.99)


@needs_speech
@pytest.mark.parametrize("name", [name for name in manifest() if name.endswith(UNSUPPORTED)])
@pytest.mark.usefixtures("without_media")
def test_without_pyav_other_containers_are_refused_with_what_was_expected(name: str) -> None:
    with pytest.raises(errors.AudioUnsupported, match=r"expected one of .*FLAC.*WAV.*afconvert.*ffmpeg"):
        read_file(str(SPEECH / name))


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\0\0\0\x1cftypM4A ", "MPEG-4"),
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        (b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
        (b"{}", "no header of a sound file"),
    ],
)
def test_a_refusal_says_what_was_found(head: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "speech").write_bytes(head + bytes(100))
    with pytest.raises(errors.AudioUnsupported, match=f"found {found}"):
        read_file(str(tmp_path / "speech"))


@needs_speech
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("goforward_s16le_16k_headerless.raw", errors.AudioUnsupported),
        ("pocketsphinx_awful.wav", errors.AudioUnsupported),  # 1,092,676 Hz
        ("pocketsphinx_bad.wav", errors.AudioCorrupt),  # a format chunk of 1.7 GB
        ("pocketsphinx_evil.wav", errors.AudioCorrupt),  # no data chunk
    ],
)
def test_broken_headers_are_refused_with_what_was_expected(name: str, error: type[errors.AudioError]) -> None:
    with pytest.raises(error, match="expected") as raised:
        read_file(str(SPEECH / "broken" / name))
    assert raised.type is error


@needs_speech
def test_a_wav_that_announces_no_samples_and_has_none_is_empty() -> None:
    with pytest.raises(errors.AudioEmpty, match="expected at least one sample"):
        read_file(str(SPEECH / "broken/pocketsphinx_null.wav"))


# Containers, encodings, rates, channels.


@pytest.mark.parametrize("container", formats())
def test_every_listed_format_reads(container: str, tmp_path: Path) -> None:
    samples = tone(8000, rate=8000)
    path = tmp_path / "speech"
    subtype = "DOUBLE" if container.startswith("MAT") else None
    soundfile.write(path, samples, 8000, subtype, format=container)
    recording = read_file(str(path))
    assert len(recording.samples) == pytest.approx(2 * 8000 * 8000 / recording.source_rate, abs=800)
    assert recording.warnings == ()
    assert "RAW" not in formats()


@pytest.mark.parametrize("subtype", sorted(set(soundfile.available_subtypes("WAV")) - {"MPEG_LAYER_III"}))
def test_every_encoding_of_wav_reads(subtype: str, tmp_path: Path) -> None:
    samples = tone(8000, rate=8000) / 2
    path = write(tmp_path / "speech.wav", samples, 8000, subtype)
    frames, _ = soundfile.read(path, dtype="float32")
    assert np.corrcoef(frames[:8000], samples[:, 0])[0, 1] > 0.9
    read = read_file(path).samples
    assert np.array_equal(read, np.pad(soxr.resample(frames, 8000, SAMPLE_RATE), (0, 2 * len(frames) - len(read))))


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 47_999, 96_000, 384_000])
@pytest.mark.parametrize("frames", [1, 199, 40_001])
def test_resampling_equals_soxr_hq_at_the_length_of_librosa(rate: int, frames: int, tmp_path: Path) -> None:
    samples = tone(frames, rate=rate)
    read = read_file(write(tmp_path / "speech.wav", samples, rate)).samples
    whole = soxr.resample(samples[:, 0], rate, SAMPLE_RATE, quality="HQ")
    assert len(read) == math.ceil(frames * SAMPLE_RATE / rate)
    assert np.array_equal(read, np.resize(np.append(whole, [0, 0]), len(read)).astype(np.float32))
    assert abs(len(whole) - len(read)) <= 1


@pytest.mark.parametrize("channels", [2, 3, 32])
@pytest.mark.parametrize("frames", [1, 3, 20_000])
def test_mono_is_the_mean_of_the_channels(channels: int, frames: int, tmp_path: Path) -> None:
    samples = tone(frames, channels)
    recording = read_file(write(tmp_path / "speech.wav", samples))
    assert recording.channels == channels
    np.testing.assert_allclose(recording.samples, samples.mean(axis=1), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("rate", "channels"), [(3_999, 1), (384_001, 1), (16_000, 33)])
def test_absurd_rates_and_channels_are_refused(rate: int, channels: int, tmp_path: Path) -> None:
    with pytest.raises(errors.AudioUnsupported, match=r"expected.*afconvert.*ffmpeg"):
        read_file(write(tmp_path / "speech.wav", tone(10, channels), rate))


def test_sixteen_bit_samples_read_as_the_same_pcm(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.wav", np.array([-1, -0.5, 0, 0.25], np.float32), subtype="PCM_16")
    assert np.array_equal(read_file(path).samples, [-1, -0.5, 0, 0.25])
    assert np.array_equal(pcm16(np.array([-32768, -16384, 0, 8192], "<i2").tobytes()), read_file(path).samples)


def test_pcm_is_float32_of_the_same_length_and_may_be_empty() -> None:
    samples = pcm16(b"\xff\x7f")
    assert samples.dtype == np.float32
    assert samples.tolist() == [32767 / 32768]
    assert pcm16(b"").shape == (0,)


def test_half_a_sample_of_pcm_is_refused() -> None:
    with pytest.raises(errors.InvalidParams):
        pcm16(b"\0\0\0")


# Paths.


@pytest.mark.parametrize("path", ["", "a\0b", "x" * (MAX_PATH_CHARACTERS + 1), "\ud800.wav"])
def test_what_cannot_be_a_path_is_a_wrong_parameter(path: str) -> None:
    with pytest.raises(errors.InvalidParams):
        read_file(path)


@pytest.mark.parametrize("path", ["-", "~", "~/speech.wav", "file:///tmp/a.wav", "https://a.b/c.wav", "s3://a/b"])
def test_standard_input_home_folders_and_urls_are_not_read(path: str) -> None:
    with pytest.raises(errors.PathNotAllowed):
        read_file(path)


@pytest.mark.parametrize("path", ["speech.wav", "./~.wav", "../here/speech.wav", "a b:c.wav", "é.wav", "https:x.wav"])
def test_a_relative_path_starts_at_the_working_directory(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path(path), tone(100))
    assert len(read_file(path).samples) == 100


@pytest.mark.parametrize("path", ["missing.wav", "speech.wav/below"])
def test_a_missing_file_is_not_found(path: str, tmp_path: Path) -> None:
    write(tmp_path / "speech.wav", tone(100))
    with pytest.raises(errors.AudioNotFound):
        read_file(str(tmp_path / path))


@pytest.mark.parametrize("error", [PermissionError(13, "no"), PermissionError(1, "no"), OSError(5, "no")])
def test_a_file_that_cannot_be_opened_names_the_reason(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(errors.AudioUnreadable) as raised:
        read_file(str(tmp_path / "speech.wav"))
    assert raised.value.data == {"errno": {13: "EACCES", 1: "EPERM", 5: "EIO"}[error.errno or 0]}


def test_a_fifo_a_folder_a_socket_and_a_device_are_no_regular_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in ("fifo", ".", "socket", "/dev/null"):
            with pytest.raises(errors.AudioNotRegularFile):
                read_file(path)


def test_no_descriptor_stays_open_whatever_happens(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", tone(100))
    (tmp_path / "junk.wav").write_bytes(b"junk" * 100)
    before = open_descriptors()
    read_file(good)
    for path in (tmp_path / "junk.wav", tmp_path, "/dev/null"):
        with pytest.raises(errors.AudioError):
            read_file(str(path))
    assert open_descriptors() == before


# Files that are not what they say.


def test_a_file_of_no_bytes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(errors.AudioEmpty):
        read_file(str(tmp_path / "empty.wav"))


def test_a_sound_file_without_a_sample_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.AudioEmpty):
        read_file(write(tmp_path / "speech.wav", tone(0)))


@pytest.mark.parametrize("frames", [1, 200, 201, 7_999])
def test_short_audio_is_taken_as_it_is(frames: int, tmp_path: Path) -> None:
    samples = tone(frames)
    recording = read_file(write(tmp_path / "speech.wav", samples))
    assert np.array_equal(recording.samples, samples[:, 0])
    assert recording.warnings == ()


def test_silence_is_zeros(tmp_path: Path) -> None:
    recording = read_file(write(tmp_path / "speech.wav", np.zeros(100, np.float32)))
    assert (recording.samples.tolist(), recording.warnings) == ([0] * 100, ())


@pytest.mark.parametrize("extension", ["aiff", "au", "caf", "flac", "mp3", "ogg", "rf64", "w64"])
def test_a_truncated_file_gives_what_is_there_and_says_so(extension: str, tmp_path: Path) -> None:
    subtype = soundfile.default_subtype(extension.upper())
    path = write(tmp_path / f"speech.{extension}", tone(160_000), subtype=subtype, format=extension.upper())
    whole = read_file(path).samples
    cut_in_half(path)
    recording = read_file(path)
    assert recording.warnings == ("audio_truncated",)
    assert 40_000 < len(recording.samples) < 100_000
    np.testing.assert_allclose(recording.samples[:30_000], whole[:30_000], atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_truncated_wav_gives_every_whole_frame(channels: int, tmp_path: Path) -> None:
    samples = tone(1600, channels)
    path = write(tmp_path / "speech.wav", samples)
    Path(path).write_bytes(Path(path).read_bytes()[: -400 * 4 * channels - 1])
    recording = read_file(path)
    assert recording.warnings == ("audio_truncated",)
    np.testing.assert_allclose(recording.samples, samples[:1199].mean(axis=1), atol=1e-7)


def test_bytes_after_the_audio_do_not_make_it_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.wav", tone(100))
    with Path(path).open("ab") as file:
        file.write(b"LIST\x04\0\0\0abcd")
    assert read_file(path).warnings == ()


def test_an_ogg_cut_within_its_last_page_is_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.ogg", tone(16_000), subtype="VORBIS")
    Path(path).write_bytes(Path(path).read_bytes()[:-1])
    assert read_file(path).warnings == ("audio_truncated",)


def test_an_ogg_cut_between_two_pages_is_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.ogg", tone(160_000), subtype="VORBIS")
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: data.rindex(b"OggS")])
    assert read_file(path).warnings == ("audio_truncated",)


def test_an_ogg_without_a_whole_page_of_audio_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.ogg", tone(1_000), subtype="VORBIS")
    cut_in_half(path)
    with pytest.raises(errors.AudioCorrupt):
        read_file(path)


def test_a_file_without_any_of_the_audio_it_announces_is_corrupt(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.wav", tone(100))
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: data.index(b"data") + 8])
    with pytest.raises(errors.AudioCorrupt):
        read_file(path)


def test_damage_in_the_middle_gives_what_comes_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.flac", tone(160_000), subtype="PCM_16")
    data = bytearray(Path(path).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    Path(path).write_bytes(data)
    recording = read_file(path)
    assert recording.warnings == ("audio_truncated",)
    assert 40_000 < len(recording.samples) < 100_000


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_gives_all_that_is_there_and_says_so(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "speech.wav", tone(1600), subtype="PCM_16")
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = length.to_bytes(4, "little")
    Path(path).write_bytes(data)
    recording = read_file(path)
    assert (len(recording.samples), recording.warnings) == (1600, ("audio_length_unknown",))


def flac_announcing(frames: int, path: Path) -> str:
    """A FLAC of 20,000 frames whose header announces another number; 0 is FLAC's way to say none."""
    data = bytearray(Path(write(path, tone(20_000), subtype="PCM_16")).read_bytes())
    data[21] = data[21] & 0xF0 | frames >> 32
    data[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(data)
    return str(path)


def test_a_flac_without_a_length_reads_to_its_end(tmp_path: Path) -> None:
    recording = read_file(flac_announcing(0, tmp_path / "speech.flac"))
    assert (len(recording.samples), recording.warnings) == (20_000, ())


def test_a_truncated_flac_without_a_length_says_so(tmp_path: Path) -> None:
    path = flac_announcing(0, tmp_path / "speech.flac")
    cut_in_half(path)
    assert read_file(path).warnings == ("audio_truncated",)


def test_a_flac_without_a_length_is_not_read_far_beyond_the_limit(tmp_path: Path, frames_read: list[int]) -> None:
    with pytest.raises(errors.AudioTooLong):
        read_file(flac_announcing(0, tmp_path / "speech.flac"), max_seconds=1)
    assert sum(frames_read) < SAMPLE_RATE + 5000


def test_a_header_that_announces_too_much_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SoundFile, "read", None)
    with pytest.raises(errors.AudioTooLong) as raised:
        read_file(flac_announcing(2**36 - 1, tmp_path / "speech.flac"))
    assert raised.value.data == {"limit_seconds": 1200}


def test_twenty_minutes_are_read_and_a_sample_more_is_not(tmp_path: Path) -> None:
    frames = np.zeros(1200 * 4000 + 1, np.float32)
    assert len(read_file(write(tmp_path / "all.wav", frames[1:], 4000, "PCM_U8")).samples) == 1200 * SAMPLE_RATE
    with pytest.raises(errors.AudioTooLong):
        read_file(write(tmp_path / "more.wav", frames, 4000, "PCM_U8"))


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "speech.wav", tone(100))
    original = SoundFile.read

    def grow(self: SoundFile, *args: Any, **options: Any) -> Any:
        with Path(path).open("ab") as file:
            file.write(b"more")
        return original(self, *args, **options)

    monkeypatch.setattr(SoundFile, "read", grow)
    with pytest.raises(errors.AudioChanged):
        read_file(path)


def test_a_file_that_is_rewritten_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "speech.wav", tone(100))
    original = SoundFile.read

    def rewrite(self: SoundFile, *args: Any, **options: Any) -> Any:
        Path(path).write_bytes(Path(path).read_bytes())
        os.utime(path, (1, 1))  # a clock may stand still between two writes
        return original(self, *args, **options)

    monkeypatch.setattr(SoundFile, "read", rewrite)
    with pytest.raises(errors.AudioChanged):
        read_file(path)


# Samples that are no speech.


@pytest.mark.parametrize("peak", [1.0001, 1.5])
def test_overshoot_is_cut_as_in_streams(peak: float, tmp_path: Path) -> None:
    samples = tone(1000)[:, 0]
    samples[500] = peak
    recording = read_file(write(tmp_path / "speech.wav", samples))
    np.testing.assert_allclose(recording.samples, samples.clip(-1, 1), rtol=1e-6)
    assert recording.warnings == ()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("spike", [1.51, -1e38, 3.4e38])
def test_a_spike_is_clipped_and_leaves_the_speech_alone(spike: float, channels: int, tmp_path: Path) -> None:
    samples = tone(1000, channels)
    expected = samples.mean(axis=1)
    samples[500] = spike
    expected[500] = np.sign(spike)
    recording = read_file(write(tmp_path / "speech.wav", samples))
    np.testing.assert_allclose(recording.samples, expected, atol=1e-7)
    assert recording.warnings == ("clipped_samples",)


def test_a_spike_is_tamed_before_it_rings_in_the_resampler(tmp_path: Path) -> None:
    samples = tone(48_000, rate=48_000)
    clean = read_file(write(tmp_path / "clean.wav", samples, 48_000)).samples
    samples[24_000] = 1e38
    spiked = read_file(write(tmp_path / "spiked.wav", samples, 48_000)).samples
    np.testing.assert_allclose(spiked[:7_000], clean[:7_000], atol=1e-3)
    np.testing.assert_allclose(spiked[9_000:], clean[9_000:], atol=1e-3)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_samples_count_as_silence(value: float, rate: int, tmp_path: Path) -> None:
    samples = tone(48_000, rate=rate)
    samples[100:110] = 0
    expected = read_file(write(tmp_path / "zeros.wav", samples, rate)).samples
    samples[100:110] = value
    recording = read_file(write(tmp_path / "speech.wav", samples, rate))
    assert np.array_equal(recording.samples, expected)
    assert recording.warnings == ("non_finite_samples",)


def test_doubles_beyond_float32_are_non_finite(tmp_path: Path) -> None:
    samples = tone(1000).astype(np.float64)
    samples[3] = 1e300
    recording = read_file(write(tmp_path / "speech.wav", samples, subtype="DOUBLE"))  # type: ignore[arg-type]
    assert recording.samples[3] == 0
    assert recording.warnings == ("non_finite_samples",)


def test_more_than_one_in_a_hundred_non_finite_samples_is_corrupt(tmp_path: Path) -> None:
    samples = tone(1000)
    samples[:10] = np.nan
    assert read_file(write(tmp_path / "speech.wav", samples)).warnings == ("non_finite_samples",)
    samples[10] = np.nan
    with pytest.raises(errors.AudioCorrupt):
        read_file(write(tmp_path / "speech.wav", samples))


# Cutting.


def quietest_by_definition(samples: Samples) -> int:
    level = np.abs(samples * 16).astype(np.int64)
    window = min(1600, len(level))
    start = int(np.argmin(np.convolve(level, np.ones(window, np.int64), "valid")))
    return start + int(np.argmin(level[start : start + window]))


@st.composite
def audio(draw: st.DrawFn) -> Samples:
    """Up to 3 s of steps of random loudness, now and then a zero; sixteenths are summed exactly, so ties are ties."""
    loudness = draw(st.lists(st.integers(0, 8), max_size=48))
    noise = np.random.default_rng(draw(st.integers(0, 99))).integers(1, 3, 1000 * len(loudness))
    samples = (np.repeat(loudness, 1000) * noise / 16).astype(np.float32)
    samples[:: draw(st.integers(100, 5000))] = 0
    return samples * np.float32(draw(st.sampled_from([1, -1])))


LIMITS = st.floats(0.2, 1.5)


@given(audio(), LIMITS)
def test_segments_are_the_whole_and_none_is_longer_than_the_limit(samples: Samples, limit: float) -> None:
    segments = split_at_quiet(samples, limit)
    assert segments[0][0] == 0
    assert segments[-1][1] == len(samples)
    assert all(stop == start for (_, stop), (start, _) in pairwise(segments))
    assert all(0 < stop - start <= limit * SAMPLE_RATE for start, stop in segments) or len(samples) == 0


@given(audio(), LIMITS, st.data())
def test_the_cuts_of_a_prefix_are_the_first_cuts_of_the_whole(
    samples: Samples, limit: float, data: st.DataObject
) -> None:
    prefix = samples[: data.draw(st.integers(0, len(samples)))]
    cuts = [start for start, _ in split_at_quiet(samples, limit)]
    assert [start for start, _ in split_at_quiet(prefix, limit)] == cuts[: len(split_at_quiet(prefix, limit))]


@given(audio(), st.floats(0.3, 0.6))
def test_every_cut_lies_at_the_quietest_place_before_the_limit(samples: Samples, limit: float) -> None:
    most = int(limit * SAMPLE_RATE)
    for start, stop in split_at_quiet(samples, limit)[:-1]:
        region = start + most - most // 2
        assert stop == region + quietest_by_definition(samples[region : start + most])


def test_a_cut_falls_into_a_gap_of_the_last_five_seconds() -> None:
    samples = tone(35 * SAMPLE_RATE)[:, 0]
    samples[24 * SAMPLE_RATE :][:4000] = 0  # too early to count
    samples[27 * SAMPLE_RATE :][:4000] = 0
    assert split_at_quiet(samples, 30) == [(0, 27 * SAMPLE_RATE), (27 * SAMPLE_RATE, len(samples))]


def test_a_zero_crossing_in_loud_speech_is_no_quiet_place() -> None:
    samples = tone(31 * SAMPLE_RATE)[:, 0]
    samples[26 * SAMPLE_RATE :][:2000] = 0.001
    samples[28 * SAMPLE_RATE] = 0
    assert split_at_quiet(samples, 30)[0] == (0, 26 * SAMPLE_RATE)


def test_silence_is_cut_at_the_left_edge_of_the_search() -> None:
    segments = split_at_quiet(np.zeros(61 * SAMPLE_RATE, np.float32), 30)
    assert [start // SAMPLE_RATE for start, _ in segments] == [0, 25, 50]


@pytest.mark.parametrize("frames", [0, 1, 30 * SAMPLE_RATE])
def test_audio_within_the_limit_is_one_segment(frames: int) -> None:
    assert split_at_quiet(np.ones(frames, np.float32), 30) == [(0, frames)]


def test_segments_without_a_sample_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="two samples"):
        split_at_quiet(np.ones(10, np.float32), 0)


@given(audio().filter(len))
def test_audio_is_cut_in_two_at_the_quietest_place_of_its_middle_third(samples: Samples) -> None:
    third = len(samples) // 3
    assert quiet_middle(samples) == third + quietest_by_definition(samples[third : len(samples) - third])
