"""An app has this repository as a git submodule, installs it when it is built, and transcribes where it is installed.

Nothing is left out: git, the wheels, the engine, the demonstration checkpoint. The wheels come from the folder that
QWEN3_ASR_MLX_WHEELHOUSE names, which `scripts/qwen3-asr-mlx-install --download-to` fills. What git does not know yet
is not in the submodule.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest
from support.relocatable_python import make_relocatable

pytestmark = pytest.mark.once
SUBMODULE = "vendor/qwen3-asr-mlx-runtime"


@pytest.fixture(scope="module")
def wheelhouse() -> Path:
    folder = os.environ.get("QWEN3_ASR_MLX_WHEELHOUSE")
    if not folder:
        pytest.skip("no wheels: fill a folder by scripts/qwen3-asr-mlx-install --download-to, and name it in "
                    "QWEN3_ASR_MLX_WHEELHOUSE")  # fmt: skip
    return Path(folder)


def git(folder: Path, *arguments: str) -> str:
    """With the identity of nobody, and clones of folders allowed, which git otherwise refuses in submodules."""
    settings = (
        "protocol.file.allow=always",
        "user.name=an app",
        "user.email=app@example.org",
        "init.defaultBranch=main",
    )
    options = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["git", *options, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def app(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's repository with the submodule pinned, as the machine that builds it clones it."""
    if not (repository / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git, or no repository, to make a submodule of")
    folder = tmp_path_factory.mktemp("apps")
    (folder / "origin").mkdir()
    git(folder / "origin", "init", "-q")
    git(folder / "origin", "submodule", "add", "-q", repository.as_uri(), SUBMODULE)
    git(folder / "origin", "commit", "-qm", "Vendor the speech runtime")
    git(folder, "clone", "-q", "--recurse-submodules", (folder / "origin").as_uri(), "An App")
    pinned = git(folder / "An App", "submodule", "status").split()[0]
    assert pinned == git(folder / "origin" / SUBMODULE, "rev-parse", "HEAD")
    return folder / "An App"


@pytest.fixture(scope="module")
def installed(wheelhouse: Path, app: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher, in a folder that was moved since, of a submodule and a Python that are gone."""
    python = make_relocatable(app / "python")
    install = [app / SUBMODULE / "scripts" / "qwen3-asr-mlx-install", "--prefix", app / "build" / "asr"]
    install += ["--wheelhouse", wheelhouse, "--python", python or sys.executable]
    environ = {"PATH": os.defpath, "PYTHONPATH": "/nowhere", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    built = subprocess.run(install, env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    assert git(app / SUBMODULE, "status", "--porcelain", "--ignored") == "", "the submodule was written to"
    moved = tmp_path_factory.mktemp("Applications") / "asr"
    Path(built.stdout.strip()).parents[1].rename(moved)
    shutil.rmtree(app)
    return moved / "bin" / "qwen3-asr-mlx-bridge"


def converse(launcher: Path, requests: list[dict]) -> list[dict]:
    """What the bridge says to an app that was started from a desktop: no HOME, nothing on PATH, foreign variables."""
    environ = {"PATH": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"}
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [launcher, "--model", "demo", "--local-files-only", "--no-install"]
    process = subprocess.run(command, input=lines, env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_the_installed_launcher_transcribes_the_examples(installed: Path, repository: Path) -> None:
    audio = repository / "examples" / "audio"
    expected = [json.loads(line) for line in (audio / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    requests = [{"type": "transcribe", "audio": str(audio / one["audio"])} for one in expected]
    *transcripts, stopped = converse(installed, [*requests, {"type": "stop"}])
    assert [reply["text"] for reply in transcripts] == [one["text"] for one in expected]
    assert (stopped["type"], stopped["completed"]) == ("stopped", len(expected))


def test_it_transcribes_what_a_sandboxed_app_sends_through_the_pipe(installed: Path, repository: Path) -> None:
    with wave.open(str(repository / "examples" / "audio" / "sample.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        pcm16 = base64.b64encode(file.readframes(file.getnframes())).decode()
    messages_sent = [
        {"type": "start_stream"},
        {"type": "end_utterance", "pcm16": pcm16},
        {"type": "flush"},
        {"type": "stop"},
    ]
    _, _, final, _ = converse(installed, messages_sent)
    assert [item["text"] for item in final["items"]] == ["Seven three one."]


def test_transcribing_leaves_a_signed_folder_as_it_is(installed: Path) -> None:
    prefix = installed.parents[1]
    before = {file: file.stat().st_mtime_ns for file in prefix.rglob("*")}
    converse(installed, [{"type": "start"}, {"type": "stop"}])
    assert {file: file.stat().st_mtime_ns for file in prefix.rglob("*")} == before
