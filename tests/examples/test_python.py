"""Every example of the client is run: against the bridge with the embedded checkpoint, and against none."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conformance.player import engine_command
from e2e.client import WAIT, command
from support.client_children import child

DEMO = shlex.join(command(None, "--model", "demo", "--local-files-only"))


def run(repository: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(repository / "examples" / "python" / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=WAIT, check=False)


@pytest.fixture(scope="module")
def sample(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "sample.wav")


def test_a_file_is_transcribed(repository: Path, sample: str) -> None:
    ran = run(repository, "transcribe.py", sample, "--bridge", DEMO)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "Seven three one.\n", "")


def test_the_times_of_its_words_are_shown(repository: Path, sample: str) -> None:
    ran = run(repository, "transcribe.py", sample, "--bridge", DEMO, "--words")
    text, *words = (line.split() for line in ran.stdout.splitlines())
    assert (ran.returncode, [word for _, _, word in words], ran.stderr) == (0, text, "")
    times = [float(time) for word in words for time in word[:2]]
    assert times == sorted(times)


def test_a_text_without_words_is_shown_with_the_reason(repository: Path, sample: str) -> None:
    ran = run(repository, "transcribe.py", sample, "--bridge", shlex.join(engine_command("words_fail")), "--words")
    assert (ran.returncode, ran.stderr) == (0, "words_unavailable: decode_failed\n")
    assert ran.stdout.endswith(" samples\n")


@pytest.mark.parametrize("name", ["live.py", "live_async.py"])
def test_a_file_is_streamed_and_its_text_shown_while_it_is_open(repository: Path, sample: str, name: str) -> None:
    ran = run(repository, name, sample, "--bridge", DEMO, "--speed", "8")
    *partials, final = ran.stdout.splitlines()
    assert (ran.returncode, final, ran.stderr) == (0, "Seven three one.", "")
    assert all(line.startswith("… ") for line in partials)


@pytest.mark.parametrize("name", ["live.py", "live_async.py"])
def test_partial_texts_are_shown_as_they_come(repository: Path, sample: str, name: str) -> None:
    program = """
greet()
say(READY, id=read()["id"])
texts = ["Seven", "Seven three"]
while (m := read())["type"] == "audio_chunk":
    if texts:
        counts = {"samples_buffered": 1, "chunks": 1, "audio_seconds": 0.1}
        say({"type": "partial_result", "event": True, "n": 1, "stream_id": "mic", "text": texts.pop(0), **counts})
say({"type": "utterance_queued", "stream_id": "mic", "utterance_id": "u", "samples": 1, "queued": 1, "batch_size": 1},
    id=m["id"])
say(FINAL)
say(STOPPED, id=read()["id"])
"""
    bridge = shlex.join(child(program))
    ran = run(repository, name, sample, "--bridge", bridge, "--speed", "8")
    *partials, final = ran.stdout.splitlines()
    assert (ran.returncode, final, ran.stderr) == (0, "Seven three one.", "")
    assert partials[-1] == "… Seven three"


@pytest.mark.parametrize("name", ["transcribe.py", "live.py", "live_async.py"])
@pytest.mark.parametrize(
    ("bridge", "error"),
    [("/nowhere/at/all", "bridge_not_found"), (shlex.join(child("sys.exit(1)")), "bridge_exited")],
)
def test_what_goes_wrong_is_one_line(repository: Path, sample: str, name: str, bridge: str, error: str) -> None:
    ran = run(repository, name, sample, "--bridge", bridge)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"{error}: ")
    assert ran.stderr.count("\n") == 1


def test_a_model_that_is_missing_is_one_line(repository: Path, sample: str) -> None:
    ran = run(repository, "live.py", sample, "--bridge", DEMO, "--model", "/nowhere")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("request_failed: ")
