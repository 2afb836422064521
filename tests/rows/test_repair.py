"""Row 127: a worker that ends while a loop is repaired, in the real process with its own engine."""

from pathlib import Path

import numpy as np
import pytest
from e2e.client import Client
from rows.bridge import command
from support.marks import rest_once
from support.repeated_word import one_word
from support.wave_file import write_pcm16

KILLED_ONCE = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.engine import repair as _module
_middle, _killed = _module.quiet_middle, pathlib.Path({killed!r})
def _deadly(samples):
    if not _killed.exists():
        _killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _middle(samples)
_module.quiet_middle = _deadly
"""


@pytest.fixture(scope="module")
def looping(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One word so often that the guard takes it for a loop."""
    pcm = (np.tile(one_word(repository), 25) * 32767).round().astype("<i2")
    return write_pcm16(tmp_path_factory.mktemp("loop") / "looping.wav", pcm)


@pytest.mark.parametrize("mode", rest_once(["sequential", "batched"]))
def test_row_127_a_worker_that_ends_in_a_repair_is_asked_again(tmp_path: Path, looping: str, mode: str) -> None:
    before = KILLED_ONCE.format(killed=str(tmp_path / "killed"))
    with Client(command(None, "--model", "demo", "--local-files-only", before=before)) as client:
        first, second = (client.ask("transcribe", audio=looping, decoder_mode=mode) for _ in range(2))
        assert first["repaired"]
        assert (first["text"], first["repaired"]) == (second["text"], second["repaired"])
        assert client.ask("status")["engine_restarts"] == 1
        assert client.wait() == 0
