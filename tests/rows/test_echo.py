"""Row 126: what may go wrong while a text that may be an echo is decoded again, in the real process with its own
engine."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import command
from support.marks import rest_once
from support.wave_file import write_pcm16

FAULTY = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.engine import echo as _module
_unsure, _failed = _module.is_unsure, pathlib.Path({failed!r})
def _faulty(tokens):
    if not _failed.exists():
        _failed.touch()
        {fault}
    return _unsure(tokens)
_module.is_unsure = _faulty
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
MEMORY = 'raise RuntimeError("[metal::malloc] Unable to allocate 9 bytes")'
ASKED = {"language": "en", "terms": [{"text": "Eight", "weight": 4}, {"text": "eight", "weight": 4}]}


@pytest.fixture(scope="module")
def echoed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Speech in so much noise that the demonstration writes the terms."""
    speech, _ = soundfile.read(str(repository / "examples" / "audio" / "sample.wav"))
    noise = np.random.default_rng(2).standard_normal(len(speech)) * 0.3
    samples = ((speech + noise).clip(-1, 1) * 0.2 * 32767).round().astype("<i2")
    return write_pcm16(tmp_path_factory.mktemp("echo") / "echoed.wav", samples)


def bridge_with(folder: Path, fault: str) -> Client:
    before = FAULTY.format(failed=str(folder / "failed"), fault=fault)
    return Client(command(None, "--model", "demo", "--local-files-only", before=before))


def is_dropped(result: dict) -> bool:
    return (result["text"], result.get("context_echo")) == ("Seven three one.", True)


@pytest.mark.parametrize("mode", rest_once(["sequential", "batched"]))
def test_row_126_a_worker_that_ends_before_an_echo_is_dropped_is_asked_again(
    tmp_path: Path, echoed: str, mode: str
) -> None:
    with bridge_with(tmp_path, KILL) as client:
        assert is_dropped(client.ask("transcribe", audio=echoed, decoder_mode=mode, **ASKED))
        assert client.ask("status")["engine_restarts"] == 1
        assert client.wait() == 0


def test_row_126_memory_that_runs_out_costs_that_text(tmp_path: Path, echoed: str) -> None:
    with bridge_with(tmp_path, MEMORY) as client:
        error = client.ask("transcribe", audio=echoed, **ASKED)
        assert (error["type"], error["code"]) == ("error", "out_of_memory")
        assert is_dropped(client.ask("transcribe", audio=echoed, **ASKED))
        assert client.ask("status")["engine_restarts"] == 0
        assert client.wait() == 0
