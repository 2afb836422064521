"""The worker of the real bridge is killed in each phase: no outcome is lost or doubled, and every text is the same."""

import base64
import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from e2e.client import Client, command
from live_agreement import joined_examples
from support.wave_file import write_pcm16

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Utterance

SECONDS = 9
SIGNALS = [signal.SIGKILL, signal.SIGABRT]
IMPATIENT = {"QWEN3_ASR_MLX_TEST_STALL_SECONDS": "2"}


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    return (joined_examples(SECONDS * 16_000, np.random.default_rng(7)) * 32_000).clip(-32768, 32767).astype("<i2")


@pytest.fixture(scope="module")
def path(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pcm16(tmp_path_factory.mktemp("audio") / "a.wav", pcm)


@pytest.fixture(scope="module")
def text(pcm: np.ndarray) -> str:
    """Of an undisturbed run."""
    return Recognizer.load("demo").transcribe(Utterance(pcm.astype(np.float32) / 32768)).text


def bridge(**environment: str) -> Client:
    return Client(command(None, "--model", "demo", "--local-files-only"), env={**os.environ, **environment})


def worker_of(client: Client, before: psutil.Process | None = None) -> psutil.Process:
    """Its worker, once it has one that is not `before`."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        workers = [worker for worker in psutil.Process(client.process.pid).children() if worker != before]
        if workers:
            return workers[0]
        time.sleep(0.01)
    raise AssertionError("the bridge has no worker")


@pytest.mark.parametrize("number", SIGNALS)
def test_row_83_an_end_in_a_load_or_before_it(path: str, text: str, number: signal.Signals) -> None:
    with bridge() as client:
        client.send("start", id="start")
        worker_of(client).send_signal(number)
        assert client.read()["type"] == "ready"
        assert client.ask("transcribe", id="t", audio=path)["text"] == text
        assert client.ask("status", id="s")["engine_last_end"] == number.name
        assert client.wait() == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_row_83_an_end_while_idle_costs_the_next_request_a_load(path: str, text: str, number: signal.Signals) -> None:
    with bridge() as client:
        assert client.ask("transcribe", id="t", audio=path)["text"] == text
        worker_of(client).send_signal(number)
        assert client.ask("transcribe", id="u", audio=path)["text"] == text
        assert client.wait() == 0


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15])
def test_row_83_an_end_in_a_decode(path: str, text: str, number: signal.Signals, delay: float) -> None:
    with bridge() as client:
        client.ask("hello", id="h", want=["events", "progress"])
        client.ask("start", id="start")
        for name in ("t", "u", "v"):
            client.send("transcribe", id=name, audio=path)
        until_busy(client)
        time.sleep(delay)
        worker_of(client).send_signal(number)
        assert client.wait() == 0
        replies = client.monitor.replies
        texts = {reply["id"]: reply["text"] for reply in replies if reply["type"] == "transcript"}
        assert texts == dict.fromkeys("tuv", text)
        assert [event["reason"] for event in replies if event["type"] == "engine_restarting"] == [number.name]


def until_busy(client: Client) -> None:
    """Lines that come meanwhile are the monitor's; the last is the answer."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        client.send("status", id=(name := f"s{time.monotonic_ns()}"))
        while (line := client.read()).get("id") != name:
            pass
        if line["queues"]["decoding"]:
            return
    raise AssertionError


@pytest.mark.parametrize("number", SIGNALS)
def test_row_83_an_end_while_an_utterance_is_open(pcm: np.ndarray, text: str, number: signal.Signals) -> None:
    with bridge() as client:
        client.ask("start_stream", partials=True, partial_interval_ms=500)
        killed = None
        for start in range(0, len(pcm), 16_000):
            chunk = base64.b64encode(pcm[start : start + 16_000].tobytes()).decode()
            client.ask("audio_chunk", pcm16=chunk)
            if start in (2 * 16_000, 6 * 16_000):
                killed = worker_of(client, killed)
                killed.send_signal(number)
        client.ask("end_utterance")
        [item] = client.ask("flush")["items"]
        assert item["text"] == text
        assert client.ask("status")["engine_restarts"] == 2
        assert client.wait() == 0


@pytest.mark.parametrize("phase", ["load", "idle", "decode"])
def test_row_88_one_that_is_stopped_is_killed_when_it_has_work(path: str, text: str, phase: str) -> None:
    with bridge(**IMPATIENT) as client:
        if phase != "load":
            client.ask("start", id="start")
        if phase == "decode":
            client.send("transcribe", id="t", audio=path)
            until_busy(client)
        worker_of(client).send_signal(signal.SIGSTOP)
        if phase == "load":
            client.send("start", id="start")
            while client.read().get("id") != "start":
                pass
        if phase != "decode":
            client.send("transcribe", id="t", audio=path)
        while (line := client.read()).get("id") != "t":
            pass
        assert line["text"] == text
        assert client.ask("status", id="s")["engine_last_end"] == "stalled"
        assert client.wait() == 0


PLANTED = """
from qwen3_asr_mlx_runtime.engine import single
import os
_add = single.SingleDecoder.add
def _end(self, sequence, *rest):
    if len(sequence.job.utterance.samples) == 8_123:
        os.abort()
    return _add(self, sequence, *rest)
single.SingleDecoder.add = _end
"""


def test_row_83_audio_that_ends_the_engine_fails_alone(tmp_path: Path, path: str, text: str) -> None:
    poison = write_pcm16(tmp_path / "poison.wav", np.zeros(8_123, "<i2"))
    with Client(command(None, "--model", "demo", "--local-files-only", before=PLANTED)) as client:
        reply = client.ask("batch_transcribe", id="b", audio=[path, poison, path])
        assert [item["text"] for item in reply["items"]] == [text, None, text]
        assert reply["items"][1]["error"]["code"] == "engine_crashed"
        assert client.ask("transcribe", id="t", audio=path)["text"] == text
        assert client.wait() == 0
