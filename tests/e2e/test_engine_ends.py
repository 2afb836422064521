"""The worker of the real bridge ends or stops in each phase: no outcome is lost or doubled, and every text is the same.

QWEN3_ASR_MLX_TEST_ENDS=5 scripts/test tests/e2e/test_engine_ends.py: five ends of each kind in each phase.
"""

import base64
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from e2e.client import Client, command
from live_agreement import joined_examples
from support.wave_file import write_pcm16

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.utterance import Utterance

SECONDS = 4
SIGNALS = [signal.SIGKILL, signal.SIGABRT]
ENDS = int(os.environ.get("QWEN3_ASR_MLX_TEST_ENDS", "1"))  # of each kind in each phase
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


def bridge(before: str = "", **environment: str) -> Client:
    arguments = ("--model", "demo", "--local-files-only")
    return Client(command(None, *arguments, before=before), env={**os.environ, **environment})


def wait_for(found: Callable[[], Any]) -> Any:
    """What it finds."""
    give_up_at = time.monotonic() + 60
    while not (it := found()):
        assert time.monotonic() < give_up_at, "it never comes"
        time.sleep(0.01)
    return it


def worker_of(client: Client, before: psutil.Process | None = None) -> psutil.Process:
    """Its worker, once it has one that is not `before`."""
    workers = wait_for(lambda: [each for each in psutil.Process(client.process.pid).children() if each != before])
    return workers[0]


def send_chunk(client: Client, pcm: np.ndarray) -> dict:
    return client.ask("audio_chunk", pcm16=base64.b64encode(pcm.tobytes()).decode())


@pytest.mark.parametrize("number", SIGNALS)
def test_row_83_an_end_before_the_load(path: str, text: str, number: signal.Signals) -> None:
    with bridge() as client:
        client.send("start", id="start")
        worker_of(client).send_signal(number)
        assert client.read()["type"] == "ready"
        assert client.ask("transcribe", id="t", audio=path)["text"] == text
        assert client.ask("status", id="s")["engine_last_end"] == number.name
        assert client.wait() == 0


def test_an_unloaded_model_takes_no_memory_and_comes_back(path: str, text: str) -> None:
    with bridge() as client:
        assert client.ask("start", id="s", keep_alive_seconds=60)["load"] in ("cold", "warm")
        assert client.ask("start", id="again")["load"] == "none"
        worker = worker_of(client)
        size = worker.memory_info().rss
        client.send("transcribe", id="t", audio=path)
        client.send("unload", id="u")
        client.send("transcribe", id="v", audio=path)
        replies = [client.read() for _ in range(3)]
        assert [reply.get("text") for reply in replies] == [text, None, text]
        assert replies[1]["freed_bytes"] > size / 2
        assert not worker.is_running()
        assert client.ask("unload", id="w")["freed_bytes"] > 0
        assert client.ask("status", id="status")["memory"]["process"]["worker"] is None
        assert psutil.Process(client.process.pid).children() == []
        assert client.ask("unload", id="x")["freed_bytes"] == 0
        assert client.ask("status", id="z")["engine_restarts"] == 0
        assert client.wait() == 0


def test_an_idle_model_is_unloaded(path: str, text: str) -> None:
    with bridge() as client:
        client.ask("start", id="s", keep_alive_seconds=0)
        for number in range(2):
            assert client.ask("transcribe", id=number, audio=path)["text"] == text
            while client.ask("ping", id="p")["state"] != "unloaded":
                time.sleep(0.01)
        assert client.wait() == 0


# What the worker calls in each phase, and when it is in it; all but the load once the model is loaded.
PHASES = {
    "load": ("engine import recognizer as owner", "load_model", "True"),
    "prefill": ("model import generate as owner", "prefill_prompt", "True"),
    "step": ("model import generate as owner", "check_finite", "arguments[1] == 1"),
    "partial": ("engine.streaming_segment import StreamingSegment as owner", "decode", "True"),
    "idle": (
        "engine.loop import EngineLoop as owner",
        "_next_request",
        "(it := arguments[0])._schedule and not it._schedule.is_busy and it._inbox.empty()",
    ),
}
HOOK = """
import os
from qwen3_asr_mlx_runtime.{where}
_whole = owner.{name}
def _end(*arguments, **options):
    if {when} and os.path.exists({armed!r}):
        os.rename({armed!r}, {hit!r})
        os.kill(os.getpid(), {number})
    return _whole(*arguments, **options)
owner.{name} = _end
"""


@pytest.mark.parametrize("turn", range(ENDS))
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGSTOP], ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_rows_83_88_an_end_in_a_phase(
    tmp_path: Path, pcm: np.ndarray, path: str, text: str, phase: str, number: signal.Signals, turn: int
) -> None:
    armed, hit = tmp_path / "armed", tmp_path / "hit"
    where, name, when = PHASES[phase]
    hook = HOOK.format(where=where, name=name, when=when, armed=str(armed), hit=str(hit), number=int(number))
    stops = number == signal.SIGSTOP
    with bridge(hook, **(IMPATIENT if stops else {})) as client:
        if phase == "load":
            armed.touch()
        assert client.ask("start")["type"] == "ready"
        if phase == "partial":
            client.ask("start_stream", partials=True, partial_interval_ms=500)
        if phase != "load":
            armed.touch()
        if phase == "partial":
            send_chunk(client, pcm[:16_000])
            wait_for(hit.exists)
            send_chunk(client, pcm[16_000:])
            client.ask("end_utterance")
            assert client.ask("flush")["items"][0]["text"] == text
        for name in () if phase == "partial" else ("t", "u", "v"):
            client.send("transcribe", id=name, audio=path)
        for _ in () if phase == "partial" else ("t", "u", "v"):
            assert client.read()["text"] == text
        wait_for(hit.exists)
        if phase == "idle":
            assert client.ask("transcribe", id="w", audio=path)["text"] == text
        status = client.ask("status")
        assert status["engine_last_end"] == ("stalled" if stops else number.name)
        assert status["engine_restarts"] == 1 or (stops and status["engine_restarts"] > 1)  # a slow load is stuck too
        assert client.wait() == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_row_83_an_end_while_an_utterance_is_open(pcm: np.ndarray, text: str, number: signal.Signals) -> None:
    with bridge() as client:
        client.ask("start_stream", partials=True, partial_interval_ms=500)
        killed = None
        for start in range(0, len(pcm), 16_000):
            send_chunk(client, pcm[start : start + 16_000])
            if start in (0, 2 * 16_000):
                killed = worker_of(client, killed)
                killed.send_signal(number)
        client.ask("end_utterance")
        [item] = client.ask("flush")["items"]
        assert item["text"] == text
        assert client.ask("status")["engine_restarts"] == 2
        assert client.wait() == 0


@pytest.mark.linux("only Linux limits another process")
def test_row_83_a_worker_without_memory_in_a_decode_is_replaced(path: str, text: str) -> None:
    with bridge() as client:
        client.ask("start")
        worker = worker_of(client)
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms,) * 2)
        assert client.ask("transcribe", audio=path)["text"] == text
        assert client.ask("status")["engine_last_end"] == "exit_1"
        assert client.wait() == 0


LIMITED = """
import os, resource, sys
if "--model" not in sys.argv and os.path.exists({armed!r}):
    os.remove({armed!r})
    resource.setrlimit(resource.RLIMIT_AS, ({size}, {size}))
"""


@pytest.mark.linux("macOS limits no address space")
@pytest.mark.parametrize("mebibytes", [100, 200, 230])  # which library gets none differs
def test_row_83_a_worker_without_memory_for_its_load_is_replaced(
    tmp_path: Path, path: str, text: str, mebibytes: int
) -> None:
    (armed := tmp_path / "armed").touch()
    limited = LIMITED.format(armed=str(armed), size=mebibytes * 2**20)
    with bridge(limited, QWEN3_ASR_MLX_TEST_STALL_SECONDS="10") as client:
        assert client.ask("start")["type"] == "ready"
        assert client.ask("transcribe", audio=path)["text"] == text
        assert client.ask("status")["engine_last_end"]
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
