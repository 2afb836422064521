"""Files that FFmpeg decodes, in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from support.media_file import RATE, tone, write

from qwen3_asr_mlx_runtime import errors
from qwen3_asr_mlx_runtime.audio import media
from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.audio.resampling import Resampler
from qwen3_asr_mlx_runtime.audio.segments import read_segments

SECONDS = 2.0
FORMATS = {
    "m4a": "aac",
    "mp4": "aac",
    "mov": "pcm_s16le",
    "m4b": "alac",
    "3gp": "aac",
    "aac": "aac",
    "webm": "libopus",
    "mkv": "eac3",
    "mka": "flac",
    "wma": "wmav2",
    "avi": "mp3",
    "ts": "mp2",
    "ac3": "ac3",
}


def expected(samples: np.ndarray) -> np.ndarray:
    resampler = Resampler(RATE)
    return np.concatenate([resampler.take(samples.mean(axis=0).astype(np.float32) / 32768), resampler.end()])


def likeness(found: np.ndarray, wanted: np.ndarray) -> tuple[int, float]:
    """How many samples `found` comes later, and the correlation there."""
    size = 1 << (len(found) + len(wanted)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(found, size) * np.fft.rfft(wanted, size).conj())
    lag = int(np.argmax(correlation))
    power = np.sqrt(np.sum(found.astype(float) ** 2) * np.sum(wanted.astype(float) ** 2))
    return lag - size * (lag > size // 2), float(correlation[lag] / power)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.mark.parametrize(("suffix", "codec"), FORMATS.items(), ids=FORMATS)
def test_what_libsndfile_refuses_is_decoded(tmp_path: Path, suffix: str, codec: str) -> None:
    sound = tone(SECONDS, channels=2)
    path = write(tmp_path / f"tone.{suffix}", [sound], codec, format="mp4" if suffix == "m4b" else None)
    found = read_file(str(path))
    lag, correlation = likeness(found.samples, expected(sound))
    assert (found.source_rate, found.channels) == (RATE, 2)
    assert correlation > 0.99
    assert abs(lag) < 1200  # 75 ms: not every container takes back what its encoder puts before
    assert abs(len(found.samples) - SECONDS * 16_000) < 1600
    assert not {"audio_truncated", "audio_length_unknown"} & {*found.warnings}
    assert children() == []


def test_samples_that_nothing_compressed_are_those_of_the_wav(tmp_path: Path) -> None:
    sound = tone(SECONDS)
    found = read_file(str(write(tmp_path / "tone.mov", [sound], "pcm_s16le")))
    np.testing.assert_allclose(found.samples, expected(sound), atol=1e-6)


def test_real_recordings_are_like_their_wav(data_folder: Path) -> None:
    speech = data_folder / "speech"
    wanted = read_file(str(speech / "derived" / "jfk_48k_24bit.flac")).samples
    for name in ("derived/jfk_32k_aac.m4a", "derived/jfk_48k_opus.webm", "formats/jfk_44k1_aac.m4a"):
        found = read_file(str(speech / name))
        lag, correlation = likeness(found.samples, wanted)
        assert (lag, correlation > 0.99, found.warnings) == (0, True, ()), name
        assert abs(len(found.samples) - len(wanted)) < 200


def test_the_first_track_is_read_unless_another_is_chosen(tmp_path: Path) -> None:
    sounds = [tone(SECONDS, 440.0), tone(SECONDS, 700.0)]
    path = str(write(tmp_path / "two.mp4", sounds, video=True))
    for number, sound in enumerate(sounds, 1):
        assert likeness(read_file(path, track=number).samples, expected(sound))[1] > 0.99
    assert likeness(read_file(path).samples, expected(sounds[0]))[1] > 0.99
    with pytest.raises(errors.InvalidParams, match=r"at most 2.*got 3") as raised:
        read_file(path, track=3)
    assert raised.value.data["field"] == "track"


def test_a_sound_file_has_one_track(repository: Path) -> None:
    path = str(repository / "examples" / "audio" / "sample.wav")
    assert len(read_file(path, track=1).samples)
    with pytest.raises(errors.InvalidParams, match=r"at most 1.*got 2"):
        read_file(path, track=2)


def test_video_without_sound_is_empty(tmp_path: Path) -> None:
    with pytest.raises(errors.AudioEmpty, match=r"has none"):
        read_file(str(write(tmp_path / "silent.mp4", [], video=True)))


def test_segments_are_those_of_the_whole_and_come_while_it_is_decoded(tmp_path: Path) -> None:
    path = str(write(tmp_path / "long.m4a", [tone(20.0)]))
    segments = [segment.samples for segment in read_segments(path, 3.0)]
    assert len(segments) > 5
    np.testing.assert_array_equal(np.concatenate(segments), read_file(path).samples)


def test_a_file_that_is_left_leaves_no_process(tmp_path: Path) -> None:
    path = str(write(tmp_path / "long.m4a", [tone(20.0)]))
    reading = read_segments(path, 3.0)
    next(reading)
    assert len(children()) == 1
    reading.close()
    assert children() == []


def test_the_limit_of_length_is_that_of_every_file(tmp_path: Path) -> None:
    path = str(write(tmp_path / "long.m4a", [tone(5.0)]))
    with pytest.raises(errors.AudioTooLong) as raised:
        read_file(path, max_seconds=3.0)
    assert raised.value.data["limit_seconds"] == 3.0
    assert children() == []


def test_what_was_decoded_before_a_damage_is_kept(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", [tone(6.0)], container_options={"movflags": "faststart"})
    data = whole.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 6 // 10])
    found = read_file(str(tmp_path / "half.mp4"))
    assert found.warnings == ("audio_truncated",)
    assert 2.0 < len(found.samples) / 16_000 < 5.0


def test_a_damage_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.mka", [tone(6.0)], "flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    found = read_file(str(path))
    assert found.warnings == ("audio_truncated",)
    assert 5.6 < len(found.samples) / 16_000 < 6.0  # without a frame or two


@pytest.mark.parametrize(
    "content", [b"", b"x", b"no sound at all, but text\n" * 99, bytes(100_000)], ids=["0 bytes", "1", "text", "zeros"]
)
def test_what_is_no_media_is_refused_as_before(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.m4a"
    path.write_bytes(content)
    with pytest.raises(errors.AudioEmpty if not content else errors.AudioUnsupported):
        read_file(str(path))
    assert children() == []


@pytest.mark.parametrize("suffix", ["m3u8", "ffconcat", "sdp", "mpd"])
def test_a_playlist_opens_no_other_file_and_no_address(tmp_path: Path, repository: Path, suffix: str) -> None:
    other = repository / "examples" / "audio" / "sample.wav"
    texts = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{other}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{other}</BaseURL>'
        "</Period></MPD>",
    }
    path = tmp_path / f"list.{suffix}"
    path.write_text(texts[suffix])
    with pytest.raises(errors.AudioUnsupported):
        read_file(str(path))


@pytest.mark.usefixtures("without_media")
def test_without_pyav_the_error_names_the_extra(tmp_path: Path) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(1.0)]))
    with pytest.raises(errors.AudioUnsupported, match=r"MPEG-4.*\[media\].*afconvert"):
        read_file(path)


CRASH = "os.kill(os.getpid(), 11)"
HANG = "import ctypes; ctypes.PyDLL(None).sleep(60)"  # and no other thread of it runs


def faulty(monkeypatch: pytest.MonkeyPatch, fault: str, *, first: bool) -> None:
    """A decoder that does this instead of its first message, or behind the header and a second of sound."""
    program = media._PROGRAM
    sound = "bytes(4 * 48000)"
    header = """b'{{"type":"Header","rate":48000,"channels":1,"seconds":9}}'"""
    said = "" if first else f"os.write(1, b''.join(len(d).to_bytes(4, 'little') + d for d in ({header}, {sound}))); "
    start = program.index("sys.path[:]")
    monkeypatch.setattr(media, "_PROGRAM", program[:start] + said + fault)
    monkeypatch.setattr(media, "STALL_SECONDS", 0.3)


@pytest.mark.parametrize(("fault", "fate"), [(CRASH, "crashed"), (HANG, "did not answer")], ids=["crash", "hang"])
def test_a_decoder_that_gives_up_at_once_costs_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, fate: str
) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(1.0)]))
    faulty(monkeypatch, fault, first=True)
    with pytest.raises(errors.AudioCorrupt, match=fate):
        read_file(path)
    assert children() == []


@pytest.mark.parametrize("fault", [CRASH, HANG], ids=["crash", "hang"])
def test_a_decoder_that_gives_up_later_leaves_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(1.0)]))
    faulty(monkeypatch, fault, first=False)
    found = read_file(path)
    assert (len(found.samples), found.warnings) == (16_000, ("audio_truncated",))
    assert children() == []


FAILS_LATE = """
import av
from av.error import InvalidDataError
class Resampler:
    def __init__(self, *how, real=av.AudioResampler):
        self.real, self.count = real(*how), 0
    def resample(self, frame):
        self.count += 1
        if self.count > 20:
            raise InvalidDataError(1, "planted")
        return self.real.resample(frame)
av.AudioResampler = Resampler
from qwen3"""


def test_an_error_of_ffmpeg_behind_the_first_samples_is_no_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(3.0)]))
    whole = read_file(path).samples
    program = media._PROGRAM.replace("; from qwen3", FAILS_LATE)
    monkeypatch.setattr(media, "_PROGRAM", program)
    found = read_file(path)
    assert found.warnings == ("audio_truncated",)
    assert 3_000 < len(found.samples) < len(whole) / 2
    np.testing.assert_array_equal(found.samples[:3_000], whole[:3_000])


def test_the_decoder_ends_with_its_parent(tmp_path: Path) -> None:
    path = write(tmp_path / "long.m4a", [tone(60.0)])
    program = f"""
import sys; sys.path[:] = {sys.path!r}
from qwen3_asr_mlx_runtime.audio.segments import read_segments
import psutil, time
reading = read_segments({str(path)!r}, 3.0)
next(reading)
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


MINUTES = int(os.environ.get("QWEN3_ASR_MLX_TEST_MEDIA_MINUTES", "12"))  # 120: docs/measurements.md


def long_m4a(path: Path) -> None:
    minute = (np.sin(np.arange(60 * 16_000) * 0.05) * 8000).astype(np.int16).reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        stream.codec_context.open()
        resampler = av.AudioResampler(stream.format.name, stream.layout, 16_000, stream.frame_size)
        for _ in range(MINUTES):
            frame = av.AudioFrame.from_ndarray(minute, "s16", "mono")
            frame.sample_rate = 16_000
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.mark.once
@pytest.mark.linux("reads the peak of another process")
def test_hours_cost_the_memory_of_minutes(tmp_path: Path) -> None:
    long_m4a(tmp_path / "long.m4a")
    seconds, decoder, before, most = 0.0, 0, psutil.Process().memory_info().rss, 0
    for segment in read_segments(str(tmp_path / "long.m4a"), 30.0, max_seconds=4 * 3600):
        seconds += len(segment.samples) / 16_000
        decoder = max([decoder, *(child.memory_info().rss for child in children())])
        most = max(most, psutil.Process().memory_info().rss)
    grown = (most - before) >> 20
    print(f"{seconds / 60:.0f} minutes: the decoder has {decoder >> 20} MiB, its parent {grown} MiB more")  # noqa: T201
    assert seconds == pytest.approx(60 * MINUTES, abs=1)
    assert decoder < 200 << 20
    assert grown < 64
