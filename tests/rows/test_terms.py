"""Rows 124 and 125: what may go wrong where terms gain, in the real process with its own engine."""

import base64
from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import Client
from rows.bridge import assert_refused, command
from support.marks import rest_once

FAULTY = """
import os, pathlib, signal
from qwen3_asr_mlx_runtime.model import generate as _module
_gain, _failed, _gained = _module._with_bonuses, pathlib.Path({failed!r}), pathlib.Path({gained!r})
def _faulty(logits, bonuses):
    if not _failed.exists():
        _failed.touch()
        {fault}
    _gained.touch()
    return _gain(logits, bonuses)
_module._with_bonuses = _faulty
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
MEMORY = 'raise RuntimeError("[metal::malloc] Unable to allocate 9 bytes")'
TEXT = "Two nine four zero six."
TERMS = [{"text": "nine"}, {"text": "Ada Lovelace", "weight": 1}]


@pytest.fixture(scope="module")
def speech(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "english-five.wav")


class Faulty:
    """A bridge in which the first bonus fails."""

    def __init__(self, folder: Path, fault: str) -> None:
        self._gained = folder / "gained"
        before = FAULTY.format(failed=str(folder / "failed"), gained=str(self._gained), fault=fault)
        self.client = Client(command(None, "--model", "demo", "--local-files-only", before=before))

    @property
    def has_gained(self) -> bool:
        return self._gained.exists()


@pytest.mark.parametrize(
    "terms",
    [
        [{"text": "Ada"}] * 101,
        [{"text": "x" * 65}],
        [{"text": ""}],
        [{"text": " "}],
        [{"text": "Ada", "weight": 4.5}],
        [{"text": "Ada", "weight": -1}],
        [{"text": "Ada", "weight": "nan"}],
        [{"weight": 1}],
        ["Ada"],
        "Ada",
    ],
    ids=lambda terms: str(terms)[:40],
)
def test_row_124_terms_that_are_none_change_nothing(bridge: Client, terms: object) -> None:
    assert_refused(bridge, "terms", {"terms": terms})


def test_row_125_a_bonus_that_fails_costs_that_text(tmp_path: Path, speech: str) -> None:
    faulty = Faulty(tmp_path, MEMORY)
    with faulty.client as client:
        error = client.ask("transcribe", audio=speech, terms=TERMS)
        assert (error["type"], error["code"]) == ("error", "out_of_memory")
        assert client.ask("transcribe", audio=speech)["text"] == TEXT
        assert not faulty.has_gained
        assert client.ask("transcribe", audio=speech, terms=TERMS)["text"] == TEXT
        assert faulty.has_gained
        assert client.wait() == 0


@pytest.mark.once
def test_row_125_a_bonus_that_fails_in_a_batch_is_given_alone(tmp_path: Path, speech: str) -> None:
    faulty = Faulty(tmp_path, MEMORY)
    with faulty.client as client:
        reply = client.ask("batch_transcribe", audio=[speech, speech], terms=TERMS, decoder_mode="batched")
        assert [item["text"] for item in reply["items"]] == [TEXT, TEXT]
        assert faulty.has_gained
        assert client.wait() == 0


@pytest.mark.parametrize("members", rest_once([{}, {"decoder_mode": "batched"}]), ids=["alone", "batched"])
def test_row_125_a_worker_that_ends_is_asked_again_with_the_terms(tmp_path: Path, speech: str, members: dict) -> None:
    faulty = Faulty(tmp_path, KILL)
    with faulty.client as client:
        assert client.ask("transcribe", audio=speech, terms=TERMS, **members)["text"] == TEXT
        assert faulty.has_gained
        assert client.ask("status")["engine_restarts"] == 1
        assert client.wait() == 0


def test_row_125_a_worker_that_ends_in_a_partial_loses_no_term(tmp_path: Path, speech: str) -> None:
    samples, _ = soundfile.read(speech, dtype="int16")
    faulty = Faulty(tmp_path, KILL)
    with faulty.client as client:
        client.ask("start")
        client.ask("start_stream", partials=True, terms=TERMS)
        for part in np.array_split(samples, 4):
            client.ask("audio_chunk", pcm16=base64.b64encode(part.tobytes()).decode())
        client.ask("end_utterance")
        [item] = client.ask("flush")["items"]
        assert item["text"] == TEXT
        assert faulty.has_gained
        assert client.wait() == 0
