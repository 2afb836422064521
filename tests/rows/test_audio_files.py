"""Rows 22 to 36: what may be wrong with an audio path, or with the file there, in the real process."""

import os
import signal
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import command, peak_bytes

TEXT = "8000 samples"
NO_SOUND = {
    *("audio_not_regular_file", "audio_not_found", "audio_unreadable"),
    *("audio_empty", "audio_unsupported"),  # descriptors 1 and 2 are a file in these tests, without any sound in it
}


def failed(bridge: Client, path: object) -> dict:
    reply = bridge.ask("transcribe", audio=str(path))
    assert reply["type"] == "error", reply
    return reply


@pytest.mark.parametrize(
    "members",
    [
        *({}, {"audio": None}, {"audio": []}, {"audio": 7}, {"audio": True}, {"audio": {"path": "/a"}}, {"audio": ""}),
        {"audio": ["/a", "/b"]},
    ],
    ids=str,
)
def test_row_22_transcribe_without_one_path(bridge: Client, members: dict) -> None:
    reply = bridge.ask("transcribe", **members)
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "audio")


@pytest.mark.parametrize("audio", [None, [], "/a", ["/a", 7], ["/a", None], ["/a"] * 257], ids=lambda a: str(a)[:20])
def test_row_22_a_batch_without_a_list_of_up_to_256_paths(bridge: Client, audio: object) -> None:
    reply = bridge.ask("batch_transcribe", audio=audio)
    assert (reply["code"], reply["data"]["field"]) == ("invalid_params", "audio")


def test_row_22_a_million_paths_are_one_error(bridge: Client) -> None:
    reply = bridge.ask("batch_transcribe", audio=["/a"] * 1_000_000)
    assert reply["code"] == "invalid_params"


def test_row_22_one_bad_path_fails_that_item(bridge: Client, speech: str) -> None:
    reply = bridge.ask("batch_transcribe", audio=[speech, "/nowhere", speech, "-", "/a\0b", speech])
    codes = [item.get("error", {}).get("code") for item in reply["items"]]
    assert codes == [None, "audio_not_found", None, "path_not_allowed", "invalid_params", None]
    assert [item["text"] for item in reply["items"]] == [TEXT, None, TEXT, None, None, TEXT]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("~/a.wav", "path_not_allowed"),
        ("https://example.org/a.wav", "path_not_allowed"),
        ("file:///a.wav", "path_not_allowed"),
        ("-", "path_not_allowed"),
        ("/a\0b", "invalid_params"),
        ("/" + "a" * 5_000, "invalid_params"),
        ("/" + "a" * 300, "audio_unreadable"),  # a name longer than file systems take
        ("no/such/file.wav", "audio_not_found"),
    ],
    ids=lambda value: value[:20],
)
def test_row_23_paths_that_are_not_read(bridge: Client, path: str, code: str) -> None:
    assert failed(bridge, path)["code"] == code


def test_row_23_relative_and_dotted_paths_start_at_the_working_directory(bridge: Client, speech: str) -> None:
    path = os.path.relpath(speech, Path.cwd())
    assert ".." in path
    assert bridge.ask("transcribe", audio=path)["text"] == TEXT


@pytest.mark.parametrize("with_writer", [False, True])
def test_row_24_a_fifo_never_blocks(bridge: Client, tmp_path: Path, with_writer: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    held = os.open(tmp_path / "fifo", os.O_RDWR) if with_writer else None
    assert failed(bridge, tmp_path / "fifo")["code"] == "audio_not_regular_file"
    if held is not None:
        os.close(held)


@pytest.mark.parametrize(
    "path", ["/dev/stdin", "/dev/stdout", "/dev/fd/0", "/dev/fd/1", "/proc/self/fd/0", "/dev/tty", "/dev/null"]
)
def test_row_25_the_process_s_own_descriptors_and_devices(bridge: Client, path: str) -> None:
    for _ in range(3):  # a reader of stdin would steal the next requests
        bridge.send("transcribe", audio=path)
    bridge.send("capabilities")
    assert {bridge.read()["code"] for _ in range(3)} <= NO_SOUND
    assert bridge.read()["type"] == "capabilities"


def test_row_25_the_wire_s_private_descriptors(bridge: Client) -> None:
    count = psutil.Process(bridge.process.pid).num_fds()
    paths = [f"/dev/fd/{fd}" for fd in range(count + 8)]  # a few are not open, or lie behind one that is not
    reply = bridge.ask("batch_transcribe", audio=paths)
    assert reply["failed"] == len(paths)
    assert {item["error"]["code"] for item in reply["items"]} <= NO_SOUND


def test_row_26_a_folder_and_a_socket(bridge: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (tmp_path, tmp_path / "socket"):
            assert failed(bridge, path)["code"] == "audio_not_regular_file"


@pytest.mark.parametrize("path", ["/nowhere.wav", "/dev/null/below.wav", "/dangling"])
def test_row_27_a_missing_file(bridge: Client, path: str, tmp_path: Path) -> None:
    if path == "/dangling":
        (tmp_path / "dangling").symlink_to(tmp_path / "gone")
        path = str(tmp_path / "dangling")
    assert failed(bridge, path)["code"] == "audio_not_found"


# Root reads everything, so the process has to meet the refusal in place of the file system's.
DENY = """
import os
_open = os.open
def _deny(path, *arguments, **options):
    if isinstance(path, str) and "denied" in path:
        number = int(path.rpartition("-")[2])
        raise OSError(number, os.strerror(number), path)
    return _open(path, *arguments, **options)
os.open = _deny
"""


def test_row_27_a_file_that_may_not_be_read_names_the_reason(speech: str, tmp_path: Path) -> None:
    with Client(command("speak", before=DENY)) as bridge:
        for number, name in ((13, "EACCES"), (1, "EPERM"), (5, "EIO"), (24, "EMFILE"), (40, "ELOOP")):
            reply = failed(bridge, f"/denied-{number}")
            assert (reply["code"], reply["data"]["errno"]) == ("audio_unreadable", name)
            assert ("permission" in reply["message"]) is (number in (1, 13))
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        assert failed(bridge, tmp_path / "loop")["data"]["errno"] == "ELOOP"
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert bridge.wait() == 0


def wav(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype)
    return path


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "audio_empty"),
        (b"junk" * 1000, "audio_unsupported"),
        (b"RIFF", "audio_unsupported"),
        (bytes(44), "audio_unsupported"),
        (b"<html>404</html>", "audio_unsupported"),
    ],
    ids=lambda value: str(value)[:16],
)
def test_row_28_files_without_sound(bridge: Client, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert failed(bridge, tmp_path / "a.wav")["code"] == code


def test_row_28_a_header_alone(bridge: Client, tmp_path: Path) -> None:
    assert failed(bridge, wav(tmp_path / "a.wav", np.zeros(0, np.int16)))["code"] == "audio_empty"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_row_29_a_truncated_file_gives_what_is_there_and_says_so(bridge: Client, tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(-3000, 3000, 160_000).astype(np.int16)
    path = wav(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reply = bridge.ask("transcribe", audio=str(path))
    assert reply["warnings"] == ["audio_truncated"]
    assert 40_000 < reply["profile"]["audio_samples"][0] < 100_000


def test_row_30_a_wav_of_4_gb_by_its_header(bridge: Client, tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.zeros(1600, np.int16))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    reply = bridge.ask("transcribe", audio=str(path))
    assert (reply["text"], reply["warnings"]) == ("1600 samples", ["audio_length_unknown"])


def test_row_30_a_flac_of_2_36_samples_by_its_header_is_too_long_and_costs_nothing(
    bridge: Client, tmp_path: Path
) -> None:
    path = wav(tmp_path / "a.flac", np.zeros(20_000, np.int16))
    data = bytearray(path.read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    bridge.ask("capabilities")
    before = peak_bytes(bridge)
    reply = failed(bridge, path)
    assert (reply["code"], reply["data"]) == ("audio_too_long", {"limit_seconds": 1200.0})
    assert "--max-audio-seconds" in reply["message"]
    assert peak_bytes(bridge) - before < 32 * 2**20


def test_row_31_ten_hours_are_refused_before_they_are_read(bridge: Client, tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.zeros(0, np.int16))
    size = 36_000 * 32_000
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = (size + 36).to_bytes(4, "little")
    data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    os.truncate(path, len(data) + size)  # sparse
    before = peak_bytes(bridge)
    reply = failed(bridge, path)
    assert (reply["code"], reply["data"]) == ("audio_too_long", {"limit_seconds": 1200.0})
    assert peak_bytes(bridge) - before < 32 * 2**20


def test_row_31_the_limit_is_an_option(tmp_path: Path, speech: str) -> None:
    long = wav(tmp_path / "long.wav", np.zeros(16_001, np.int16))
    with Client(command("speak", "--max-audio-seconds", "1")) as bridge:
        assert failed(bridge, long)["data"] == {"limit_seconds": 1.0}
        assert bridge.ask("capabilities")["limits"]["max_audio_seconds"] == 1.0
        assert bridge.ask("transcribe", audio=speech)["text"] == TEXT
        assert bridge.wait() == 0


@pytest.mark.parametrize(
    ("channels", "rate", "subtype"),
    [(8, 96_000, "PCM_24"), (1, 8_000, "ULAW"), (2, 44_100, "PCM_U8"), (1, 22_050, "DOUBLE"), (32, 16_000, "PCM_16")],
)
def test_row_32_every_rate_and_encoding_becomes_16_khz_mono(
    bridge: Client, tmp_path: Path, channels: int, rate: int, subtype: str
) -> None:
    path = wav(tmp_path / "a.wav", np.zeros((rate, channels)), rate, subtype)
    assert bridge.ask("transcribe", audio=str(path))["text"] == "16000 samples"


@pytest.mark.parametrize(("channels", "rate"), [(33, 16_000), (1, 3_000), (1, 400_000)])
def test_row_32_absurd_rates_and_channels(bridge: Client, tmp_path: Path, channels: int, rate: int) -> None:
    assert failed(bridge, wav(tmp_path / "a.wav", np.zeros((10, channels)), rate))["code"] == "audio_unsupported"


@pytest.mark.parametrize(
    ("value", "count", "warning"),
    [(np.nan, 5, "non_finite_samples"), (np.inf, 5, "non_finite_samples"), (1e38, 1, "clipped_samples")],
)
def test_row_33_samples_that_are_no_sound(
    bridge: Client, tmp_path: Path, value: float, count: int, warning: str
) -> None:
    samples = np.full(8_000, 0.1, np.float32)
    samples[:count] = value
    path = wav(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert bridge.ask("transcribe", audio=str(path))["warnings"] == [warning]


def test_row_33_more_than_one_in_a_hundred_is_corrupt(bridge: Client, tmp_path: Path) -> None:
    samples = np.full(8_000, 0.1, np.float32)
    samples[:81] = np.nan
    assert failed(bridge, wav(tmp_path / "a.wav", samples, subtype="FLOAT"))["code"] == "audio_corrupt"


@pytest.mark.parametrize(("frames", "channels"), [(1, 2), (2, 2), (3, 8)])
def test_row_34_fewer_frames_than_channels(bridge: Client, tmp_path: Path, frames: int, channels: int) -> None:
    path = wav(tmp_path / "a.wav", np.zeros((frames, channels), np.int16))
    assert bridge.ask("transcribe", audio=str(path))["text"] == f"{frames} samples"


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11"], ids=["m4a", "webm", "wma"]
)
def test_row_35_containers_that_are_not_read_name_those_that_are(bridge: Client, tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a; touch x.m4a").write_bytes(head + bytes(2000))
    reply = failed(bridge, tmp_path / "a; touch x.m4a")
    assert reply["code"] == "audio_unsupported"
    assert all(name in reply["message"] for name in ("WAV", "FLAC", "MP3", "OGG"))
    formats = bridge.ask("capabilities")["audio"]["formats"]
    assert {"WAV", "FLAC", "MP3", "OGG"} <= set(formats)
    assert f"expected one of {', '.join(formats)}:" in reply["message"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.aiff", "a.au", "a.w64", "a.caf"])
def test_row_35_containers_that_are_read(bridge: Client, tmp_path: Path, name: str) -> None:
    path = wav(tmp_path / name, np.zeros(16_000, np.int16))
    assert bridge.ask("transcribe", audio=str(path))["text"] == "16000 samples"


# The file has to change between two reads of it, which only the process itself can time.
CHANGE = """
import soundfile
_read = soundfile.SoundFile.read
def _grow(file, *arguments, **options):
    with open("{path}", "ab") as other:
        other.write(b"more")
    return _read(file, *arguments, **options)
soundfile.SoundFile.read = _grow
"""


def test_row_36_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", np.zeros(1600, np.int16))
    with Client(command("speak", before=CHANGE.format(path=path))) as bridge:
        assert failed(bridge, path)["code"] == "audio_changed"
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


# No volume here can be made dead, so the read itself never comes back.
DEAD_VOLUME = """
import threading
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
_read_segments = audio_reader.read_segments
def _never(path, *limits, **options):
    if "dead" in path:
        threading.Event().wait()
    return _read_segments(path, *limits, **options)
audio_reader.read_segments = _never
from qwen3_asr_mlx_runtime.session import file_prefetch as reading
reading.READ_SECONDS = {seconds}
"""


def test_row_36_a_file_on_a_dead_volume_fails_after_its_deadline_and_others_are_read(speech: str) -> None:
    with Client(command("speak", before=DEAD_VOLUME.format(seconds=0.2))) as bridge:
        reply = bridge.ask("batch_transcribe", audio=["/dead/1", speech, "/dead/2", speech])
        codes = [item.get("error", {}).get("code") for item in reply["items"]]
        assert codes == ["audio_read_timeout", None, "audio_read_timeout", None]
        assert bridge.ask("transcribe", audio="/dead/3")["retryable"] is True
        assert bridge.ask("transcribe", audio="/dead/4")["code"] == "audio_read_timeout"
        assert bridge.ask("transcribe", audio="/dead/5")["code"] == "audio_read_timeout"  # and no fifth thread hangs
        assert psutil.Process(bridge.process.pid).num_threads() <= 16
        assert bridge.ask("capabilities")["type"] == "capabilities"
        assert bridge.wait() == 0


def test_row_36_files_on_dead_volumes_stop_neither_others_nor_the_end(speech: str) -> None:
    with Client(command("speak", before=DEAD_VOLUME.format(seconds=30))) as bridge:
        bridge.ask("start")
        bridge.send("batch_transcribe", audio=["/dead/1", "/dead/2", speech])
        bridge.signal(signal.SIGTERM)
        assert bridge.wait(close=False) == 143


def test_no_file_leaves_a_descriptor_open(bridge: Client, speech: str, tmp_path: Path) -> None:
    (tmp_path / "junk.wav").write_bytes(b"junk" * 100)
    bridge.ask("transcribe", audio=speech)
    process = psutil.Process(bridge.process.pid)
    before = process.num_fds()
    for path in (speech, tmp_path / "junk.wav", tmp_path, "/dev/null", "/nowhere"):
        bridge.ask("transcribe", audio=str(path))
    assert process.num_fds() == before
