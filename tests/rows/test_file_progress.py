"""Rows 119 to 122: what may go wrong while a file reports its progress, in the real process."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import command
from support.media_file import RATE, write
from support.wave_file import write_silence


@pytest.fixture
def film(tmp_path: Path) -> str:
    """A minute, of three segments."""
    return write_silence(tmp_path / "film.wav", 960_000)


def bridge(scenario: str) -> Client:
    client = Client(command(scenario))
    client.ask("hello", want=["progress"])
    assert client.ask("start")["type"] == "ready"
    return client


def transcribe(client: Client, path: str, **members: object) -> None:
    client.send("transcribe", **{"id": "film", "audio": path, "progress": True, **members})


def until_reply(client: Client) -> list[dict]:
    lines = [client.read()]
    while lines[-1].get("event"):
        lines.append(client.read())
    return lines


def totals(lines: list[dict]) -> list[int | None]:
    return [line["total"] for line in lines if line["type"] == "progress"]


def test_row_119_nothing_comes_after_a_cancel_between_two_segments(film: str) -> None:
    with bridge("holds second") as client:
        transcribe(client, film)
        assert [client.read()["done"] for _ in range(2)] == [0, 25_000]
        client.send("cancel", id="c", target="film")
        ends = [client.read() for _ in range(2)]
        assert {line["type"]: line["id"] for line in ends} == {"cancel_result": "c", "error": "film"}
        assert client.ask("ping")["type"] == "pong"
        assert client.wait() == 0


def test_row_119_nothing_comes_after_a_time_out(film: str) -> None:
    with bridge("holds second") as client:
        transcribe(client, film, timeout_ms=300)
        assert until_reply(client)[-1]["code"] == "timeout"
        assert client.ask("ping")["type"] == "pong"
        client.send("stop", mode="abort")
        assert client.wait() == 0


def test_row_119_nothing_comes_after_a_failure(film: str) -> None:
    with bridge("second fails") as client:
        transcribe(client, film)
        assert until_reply(client)[-1]["code"] == "decode_failed"
        assert client.ask("ping")["type"] == "pong"
        assert client.wait() == 0


def test_row_120_an_engine_that_ends_between_two_segments_takes_nothing_back(film: str) -> None:
    with bridge("second dies") as client:
        transcribe(client, film)
        *events, reply = until_reply(client)
        said = [event.get("done", event["type"]) for event in events]
        assert said == [0, 25_000, "engine_restarting", 50_000]
        assert reply["text"] == "400000 samples 400000 samples 160000 samples"
        assert client.wait() == 0


def test_row_121_a_header_that_promises_too_much(tmp_path: Path, film: str) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(Path(film).read_bytes()[: 44 + 2 * 800_000])
    with bridge("speak") as client:
        transcribe(client, str(cut))
        *events, reply = until_reply(client)
        assert {*totals(events)} == {50_000}
        assert reply["warnings"] == ["audio_truncated"]
        assert client.wait() == 0


def test_row_121_a_container_that_promises_too_much(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", [_noise(90)], container_options={"movflags": "faststart"})
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with bridge("speak") as client:
        transcribe(client, str(half))
        *events, reply = until_reply(client)
        assert totals(events) == pytest.approx([90_000] * len(events), abs=100)
        assert reply["warnings"] == ["audio_truncated"]
        assert client.wait() == 0


def test_row_121_a_header_without_a_length(tmp_path: Path, film: str) -> None:
    data = bytearray(Path(film).read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    path = tmp_path / "live.wav"
    path.write_bytes(data)
    with bridge("speak") as client:
        transcribe(client, str(path))
        *events, reply = until_reply(client)
        assert totals(events) == [None] * 3
        assert reply["warnings"] == ["audio_length_unknown"]
        assert client.wait() == 0


def test_row_121_a_header_that_promises_too_little(tmp_path: Path) -> None:
    """The first of two streams: the header of the second comes later."""
    parts = [tmp_path / "1.flac", tmp_path / "2.flac"]
    for part in parts:
        soundfile.write(part, np.zeros(640_000, np.int16), 16_000)
    both = tmp_path / "both.flac"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    with bridge("speak") as client:
        transcribe(client, str(both))
        *events, _ = until_reply(client)
        assert totals(events)[0] == 40_000
        assert totals(events)[-1] == 80_000
        assert all(event["done"] <= event["total"] for event in events)
        assert client.wait() == 0


def test_row_122_a_client_that_reads_late_gets_all_in_order_and_the_reply_last(tmp_path: Path) -> None:
    path = write_silence(tmp_path / "long.wav", 9_600_000)
    with bridge("speak") as client:
        transcribe(client, path, decoder_mode="batched")
        client.send("ping", id="p")
        lines = [client.read()]
        while lines[-1]["type"] != "transcript":
            lines.append(client.read())
        done = [line["done"] for line in lines if line["type"] == "progress"]
        assert done == [25_000 * number for number in range(24)]
        assert client.ask("ping")["type"] == "pong"
        assert client.wait() == 0


def test_row_122_what_is_no_boolean_starts_nothing(film: str) -> None:
    with bridge("speak") as client:
        transcribe(client, film, progress="perhaps")
        [error] = until_reply(client)
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "progress")
        assert client.wait() == 0


def _noise(seconds: int) -> np.ndarray:
    samples = np.random.default_rng(1).integers(-9000, 9000, (1, seconds * RATE))
    return samples.astype(np.int16)
