"""scripts/qwen3-asr-mlx-live with the real bridge and the embedded checkpoint."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from e2e.client import Client, command

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.model_name import DEMO_KNOWS

CLIPS = ("english-five", "sample")


@pytest.fixture(scope="module")
def talk(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some seconds of the recordings that are there, one after the other."""
    clips = [read_file(str(repository / "examples" / "audio" / f"{name}.wav")).samples for name in CLIPS]
    path = tmp_path_factory.mktemp("live") / "talk.wav"
    soundfile.write(path, np.concatenate(clips), 16_000, subtype="PCM_16")
    return str(path)


@pytest.fixture(scope="module")
def transcript(talk: str) -> dict:
    with Client(command(None, "--model", "demo", "--local-files-only")) as bridge:
        reply = bridge.ask("transcribe", audio=talk)
        assert bridge.wait() == 0
    return reply


def start(repository: Path, *arguments: str, out: int) -> subprocess.Popen:
    begin = "from qwen3_asr_mlx_runtime.entry import live; live()"
    return subprocess.Popen(
        [sys.executable, "-c", begin, "--model", "demo", "--bridge=--local-files-only", *arguments],
        env={**os.environ, "PYTHONPATH": str(repository / "src"), "COLUMNS": "80", "LINES": "24"},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.PIPE,
    )


def run_live(repository: Path, *arguments: str) -> str:
    with start(repository, *arguments, out=subprocess.PIPE) as live:
        figures, errors = live.communicate()
    known = b"" if "--json" in arguments else f"qwen3-asr-mlx-live: {DEMO_KNOWS}\n".encode()
    assert (live.returncode, errors) == (0, known)
    return figures.decode()


def test_the_final_is_the_transcript_and_every_interval_has_its_partial(
    repository: Path, talk: str, transcript: dict
) -> None:
    figures = json.loads(run_live(repository, "--no-wait", "--json", "--streams", "2", "--interval-ms", "400", talk))
    seconds = soundfile.info(talk).duration
    for one in figures["utterances"]:
        assert (one["text"], one["language"]) == (transcript["text"], transcript["language"])
        assert one["partials"] >= int(seconds / 0.4) - 1
        assert one["generated_tokens"] == transcript["generated_tokens"]
        assert 0 < one["verified_tokens"] <= one["generated_tokens"]
        assert one["wrong_stable_words"] <= one["stable_words"]
    assert figures["audio_seconds"] == pytest.approx(2 * seconds, abs=0.01)
    assert min(figures[name] for name in figures if name.endswith("_seconds")) > 0


def test_at_the_pace_of_speech_each_revision_is_a_line(repository: Path, talk: str, transcript: dict) -> None:
    *partials, final = run_live(repository, talk).splitlines()
    assert final.endswith(f": {transcript['text']}")
    seconds_decoded = [float(line.split()[1]) for line in partials]
    assert seconds_decoded == sorted(set(seconds_decoded))
    assert seconds_decoded
    assert all(line.startswith("talk.wav ") and "|" in line for line in partials)


def test_in_a_terminal_they_are_rewritten_in_place(repository: Path, talk: str, transcript: dict) -> None:
    ours, theirs = pty.openpty()
    with start(repository, "--no-wait", talk, out=theirs) as live:
        os.close(theirs)
        shown = b""
        while data := _read(ours):
            shown += data
        assert live.wait() == 0
    os.close(ours)
    drawings = shown.decode().split("\x1b[J")
    assert len(drawings) > 3
    last = drawings[-1].replace("\r\n", "").replace("\x1b[2m", "").replace("\x1b[22m", "")
    assert last.startswith(f"talk.wav: {transcript['text']} (")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # on Linux the end of a terminal is an error
        return b""
