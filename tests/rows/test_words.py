"""Rows 105 to 107: what may go wrong with words, in the real process with its own engine."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.client import Client
from rows.bridge import command
from support.marks import rest_once

from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_ALIGNER_FOLDER

WEIGHTS = "model.safetensors"
TEXT = "Two nine four zero six."
WORDS = 5


def bridge(*arguments: str, before: str = "") -> Client:
    return Client(command(None, "--model", "demo", "--local-files-only", *arguments, before=before))


@pytest.fixture(scope="module")
def speech(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "english-five.wav")


@pytest.fixture
def aligner(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO_ALIGNER_FOLDER, tmp_path / "aligner"))


def words_of(client: Client, speech: str) -> list | None:
    """Of a transcript, which comes whatever becomes of its words."""
    reply = client.ask("transcribe", audio=speech, words=True)
    assert (reply["type"], reply["text"]) == ("transcript", TEXT), reply
    return reply["words"]


def warning(client: Client, speech: str) -> str:
    reply = client.ask("transcribe", audio=speech, words=True)
    assert (reply["type"], reply["text"], reply["words"]) == ("transcript", TEXT, None), reply
    [warning] = reply["warnings"]
    return warning


def half(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("damage", "code"),
    rest_once(
        [
            (lambda folder: (folder / WEIGHTS).unlink(), "model_incomplete"),
            (lambda folder: (folder / "config.json").write_text("{}"), "model_unsupported"),
            (half, "model_corrupt"),
            (shutil.rmtree, "model_not_found"),
        ]
    ),
    ids=["without weights", "no aligner", "half", "gone"],
)
def test_row_105_an_aligner_that_cannot_be_loaded_costs_no_text(
    aligner: Path, speech: str, damage: Callable[[Path], None], code: str
) -> None:
    with bridge("--aligner", str(aligner)) as client:
        damage(aligner)
        assert warning(client, speech) == f"words_unavailable: {code}"
        error = client.ask("align", audio=speech, text=TEXT, language="en")
        assert (error["type"], error["code"]) == ("error", code)
        shutil.copytree(DEMO_ALIGNER_FOLDER, aligner, dirs_exist_ok=True)
        assert len(words_of(client, speech)) == WORDS
        assert client.wait() == 0
        assert "Traceback" not in client.stderr()


@pytest.mark.once
def test_row_105_an_aligner_that_is_not_cached_offline(tmp_path: Path, speech: str) -> None:
    with bridge("--aligner", "owner/aligner", "--cache-dir", str(tmp_path)) as client:
        assert warning(client, speech) == "words_unavailable: model_not_found"
        assert client.wait() == 0


GIVES_UP = """
import numpy
from qwen3_asr_mlx_runtime.model.aligner import Aligner
_logits, _calls = Aligner.logits, []
def _fails(self, *arguments):
    _calls.append(1)
    if len(_calls) == 1:
        raise MemoryError
    if len(_calls) == 2:
        raise RuntimeError("[METAL] Command buffer execution failed: Caused GPU Timeout Error")
    scores = _logits(self, *arguments)
    return [numpy.full_like(each, numpy.nan) for each in scores] if len(_calls) == 3 else scores
Aligner.logits = _fails
"""


def test_row_106_an_aligner_that_gives_up_costs_the_words_of_one_text(speech: str) -> None:
    with bridge(before=GIVES_UP) as client:
        warnings = [warning(client, speech).removeprefix("words_unavailable: ") for _ in range(3)]
        assert warnings[:2] == ["out_of_memory", "gpu_error"]
        assert warnings[2] in ("non_finite_output", "model_corrupt")
        assert len(words_of(client, speech)) == WORDS
        assert client.wait() == 0


ENDS = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.model.aligner import Aligner
_logits, _counter = Aligner.logits, pathlib.Path({counter!r})
def _ends(self, *arguments):
    calls = len(_counter.read_bytes()) if _counter.exists() else 0
    _counter.write_bytes(b"x" * (calls + 1))
    if calls < {ends}:
        os.kill(os.getpid(), signal.SIGKILL)
    return _logits(self, *arguments)
Aligner.logits = _ends
"""


@pytest.mark.parametrize(("ends", "code"), [(1, None), (2, "engine_crashed")])
def test_row_107_words_survive_the_end_of_the_worker(tmp_path: Path, speech: str, ends: int, code: str | None) -> None:
    with bridge(before=ENDS.format(counter=str(tmp_path / "calls"), ends=ends)) as client:
        client.ask("hello", want=["events"])
        client.ask("start_stream", stream_id="mic", auto_flush=True, batch_size=1, words=True)
        client.ask("end_utterance", stream_id="mic", audio=speech)
        client.ask("stop_stream", stream_id="mic")
        assert client.wait() == 0
        lines = client.monitor.replies
        finals = [item for line in lines if line["type"] == "realtime_batch_final" for item in line["items"]]
        [ready] = [line for line in lines if line["type"] == "words_ready"]
        assert [item["text"] for item in finals] == [TEXT]
        assert ready.get("error", {}).get("code") == code
        assert len(ready.get("words", ())) == (0 if code else WORDS)
