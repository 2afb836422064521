"""Rows 114 and 115: what may go wrong where the model chooses among languages, in the real process with its own
engine."""

import base64
from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import assert_refused, command
from support.marks import rest_once

CHOOSE = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.engine import {module} as _module
_choose, _done = _module.with_language, pathlib.Path({mark!r})
def _faulty(model, decoder_input):
    if decoder_input.names and not _done.exists():
        _done.touch()
        {fault}
    return _choose(model, decoder_input)
_module.with_language = _faulty
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
MEMORY = 'raise RuntimeError("[metal::malloc] Unable to allocate 9 bytes")'
NO_NUMBERS = """from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
        raise NonFiniteOutput("planted")"""
CHOSEN = {"text": "Two nine four zero six.", "language": "English"}
BOTH = ["ar", "en"]


@pytest.fixture(scope="module")
def speech(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "english-five.wav")


def bridge_with(folder: Path, module: str, fault: str) -> Client:
    before = CHOOSE.format(module=module, mark=str(folder / "done"), fault=fault)
    return Client(command(None, "--model", "demo", "--local-files-only", before=before))


def is_chosen(result: dict) -> bool:
    return result.items() >= CHOSEN.items() and list(result["language_probabilities"]) == ["English", "Arabic"]


@pytest.mark.parametrize(
    "members",
    [
        {"languages": []},
        {"languages": ["en"] * 31},
        {"languages": ["en", "Klingon"]},
        {"languages": ["auto"]},
        {"languages": "en"},
        {"languages": [["en"]]},
        {"languages": ["en"], "language": "en"},
    ],
    ids=lambda members: str(members)[:40],
)
def test_row_114_languages_that_are_none_change_nothing(bridge: Client, members: dict) -> None:
    assert_refused(bridge, "languages", members)


@pytest.mark.parametrize(
    ("fault", "code"),
    rest_once([(MEMORY, "out_of_memory"), (NO_NUMBERS, "non_finite_output")]),
    ids=["memory", "numbers"],
)
def test_row_115_a_choice_that_fails_costs_that_text(tmp_path: Path, speech: str, fault: str, code: str) -> None:
    with bridge_with(tmp_path, "sequence", fault) as client:
        error = client.ask("transcribe", audio=speech, languages=BOTH)
        assert (error["type"], error["code"]) == ("error", code)
        assert is_chosen(client.ask("transcribe", audio=speech, languages=BOTH))
        assert client.ask("status")["engine_restarts"] == 0
        assert client.wait() == 0


@pytest.mark.once
def test_row_115_a_choice_that_fails_in_a_batch_is_made_alone(tmp_path: Path, speech: str) -> None:
    with bridge_with(tmp_path, "continuous_batch", MEMORY) as client:
        reply = client.ask("batch_transcribe", audio=[speech, speech], languages=BOTH, decoder_mode="batched")
        assert all(map(is_chosen, reply["items"]))
        assert client.wait() == 0


@pytest.mark.parametrize(
    ("module", "members"),
    rest_once([("sequence", {}), ("continuous_batch", {"decoder_mode": "batched"})]),
    ids=["alone", "batched"],
)
def test_row_115_a_worker_that_ends_in_a_choice_is_asked_again(
    tmp_path: Path, speech: str, module: str, members: dict
) -> None:
    with bridge_with(tmp_path, module, KILL) as client:
        assert is_chosen(client.ask("transcribe", audio=speech, languages=BOTH, **members))
        assert client.ask("status")["engine_restarts"] == 1
        assert client.wait() == 0


def test_row_115_a_worker_that_ends_in_the_choice_of_a_partial_loses_no_language(tmp_path: Path, speech: str) -> None:
    samples, _ = soundfile.read(speech, dtype="int16")
    with bridge_with(tmp_path, "streaming_segment", KILL) as client:
        client.ask("start")
        client.ask("start_stream", partials=True, languages=BOTH)
        for part in np.array_split(samples, 4):
            client.ask("audio_chunk", pcm16=base64.b64encode(part.tobytes()).decode())
        client.ask("end_utterance")
        [item] = client.ask("flush")["items"]
        assert is_chosen(item)
        assert client.wait() == 0
