"""The progress of a long file in the real process, with the demonstration checkpoint."""

import signal
from itertools import pairwise

import numpy as np
import pytest
import soxr
from e2e.client import Client, command, watched
from e2e.test_engine_ends import worker_of
from live_agreement import joined_examples
from support.marks import rest_once
from support.media_file import RATE, write
from support.wave_file import write_pcm16

from qwen3_asr_mlx_runtime.client import Bridge
from qwen3_asr_mlx_runtime.protocol.streams import Progress

SECONDS = 70
COMMAND = command(None, "--model", "demo", "--local-files-only")


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """Recordings joined with pauses, at 16 kHz."""
    samples = joined_examples(SECONDS * 16_000, np.random.default_rng(7))
    return (samples / np.abs(samples).max() * 30_000).astype("<i2")


@pytest.fixture(scope="module")
def wav(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pcm16(tmp_path_factory.mktemp("long") / "long.wav", pcm)


@pytest.fixture(scope="module")
def m4a(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    resampled = soxr.resample(pcm.astype(np.float32), 16_000, RATE).clip(-32768, 32767).astype(np.int16)
    return str(write(tmp_path_factory.mktemp("long") / "long.m4a", [resampled[np.newaxis]]))


@pytest.fixture(params=rest_once(["wav", "m4a"]))
def path(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


def until_reply(client: Client) -> tuple[list[dict], dict]:
    """The events of the file, and what ends them."""
    lines = [client.read()]
    while lines[-1]["type"] in ("progress", "engine_restarting"):
        lines.append(client.read())
    return [line for line in lines if line.get("stage") == "transcribe"], lines[-1]


def ready(client: Client) -> None:
    client.ask("hello", want=["progress"])
    client.send("start")
    assert until_reply(client)[1]["type"] == "ready"


@pytest.mark.parametrize("mode", rest_once(["sequential", "batched"]))
def test_a_long_file_reports_each_segment_but_the_last(path: str, mode: str) -> None:
    with Client(COMMAND) as client:
        ready(client)
        asked = {"audio": path, "decoder_mode": mode, "segments": True}
        client.send("transcribe", id="film", progress=True, **asked)
        events, reply = until_reply(client)
        client.send("transcribe", id="again", **asked)
        silent, expected = until_reply(client)
        assert client.wait() == 0
    lengths = [round((each["end"] - each["start"]) * 1000) for each in reply["segments"]]
    assert len(lengths) >= 3
    assert len(events) == len(lengths)
    assert {event["request_id"] for event in events} == {"film"}
    done = [event["done"] for event in events]
    assert done[0] == 0
    steps = [after - before for before, after in pairwise(done)]
    if mode == "sequential":
        assert steps == pytest.approx(lengths[:-1], abs=1)
    else:
        assert all(any(abs(step - length) <= 1 for length in lengths) for step in steps)
    exact = 0 if path.endswith(".wav") else 100
    assert [event["total"] for event in events] == pytest.approx([SECONDS * 1000] * len(events), abs=exact)
    assert (silent, reply["text"]) == ([], expected["text"])


@pytest.mark.once
def test_a_worker_that_is_killed_between_costs_no_progress(wav: str) -> None:
    with Client(COMMAND) as client:
        ready(client)
        client.send("transcribe", id="film", audio=wav, progress=True)
        assert client.read()["done"] == 0
        first = client.read()
        worker_of(client).send_signal(signal.SIGKILL)
        events, reply = until_reply(client)
        assert client.ask("status")["engine_restarts"] == 1
        client.send("transcribe", id="again", audio=wav)
        assert until_reply(client)[1]["text"] == reply["text"]
        assert client.wait() == 0
    done = [event["done"] for event in (first, *events)]
    assert done == sorted({*done})


@pytest.mark.once
def test_the_package_s_client_takes_it_by_name(wav: str) -> None:
    with watched(COMMAND) as bridge:
        bridge.start()
        reply = bridge.transcribe(wav, progress=True)
        bridge.transcribe(wav)
        last = _progress(bridge)[-1]
    assert reply.text
    assert last.total == SECONDS * 1000
    assert isinstance(last.done, int)
    assert 0 < last.done < last.total


def _progress(bridge: Bridge) -> list[Progress]:
    """Of a file: a client that reads late finds the last of each request."""
    bridge.stop()
    return [event for event in bridge.events if isinstance(event, Progress) and event.stage == "transcribe"]
