"""The scenarios, played by two clients: one in Python under the protocol monitor, one in Node."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conformance.engines import SCRIPTS
from conformance.player import engine_command, mismatch, play, scenario_files
from e2e.client import TESTS, WAIT
from support.schema_check import check_lines
from support.wave_file import write_silence

ENGINES = ("demo", *SCRIPTS)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Half a second of silence at 16 kHz; a minute lies beside it."""
    folder = tmp_path_factory.mktemp("speech")
    write_silence(folder / "minute.wav", 960_000)
    return write_silence(folder / "speech.wav", 8_000)


@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: path.stem)
def test_the_bridge_plays_the_scenario(path: Path, speech: str) -> None:
    scenario = json.loads(path.read_text(encoding="utf-8"))
    assert set(scenario) <= {"title", "engine", "options", "steps"}
    lines = play(scenario["engine"], scenario.get("options", ()), scenario["steps"], speech)
    check_lines(lines)


@pytest.mark.once
def test_a_client_in_node_plays_the_same_scenarios(speech: str, tmp_path: Path) -> None:
    ran = run_node(scenario_files(), speech, tmp_path)
    results = [line for line in ran.stdout.splitlines() if line.startswith(("ok", "not ok"))]
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(results) == len(scenario_files())
    assert not [line for line in results if "SKIP" in line]


@pytest.mark.once
def test_the_client_in_node_sees_what_does_not_fit(speech: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    steps = [{"send": {"type": "ping"}}, {"expect": {"type": "pong", "state": "ready"}}]
    wrong.write_text(json.dumps({"title": "not so", "engine": "count", "steps": steps}))
    ran = run_node([wrong], speech, tmp_path)
    assert ran.returncode == 1
    assert 'expected "ready", got "unloaded"' in ran.stdout


def run_node(paths: list[Path], speech: str, folder: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing was played in another language")
    commands = folder / "commands.json"
    commands.write_text(json.dumps({engine: engine_command(engine) for engine in ENGINES}))
    player = str(TESTS / "conformance" / "run.mjs")
    argv = [node, player, "--commands", str(commands), "--speech", speech, *map(str, paths)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=5 * WAIT, check=False)


@pytest.mark.parametrize(
    ("expected", "actual", "fits"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"b": 2}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 30}, {"a": 30.0}, True),
        ({"a": "…"}, {"a": None}, True),
        ({"a": "…"}, {}, False),
        ({"a": "$absent"}, {}, True),
        ({"a": "$absent"}, {"a": None}, False),
        ({"a": None}, {}, False),
        ([{"a": 1}], [{"a": 1}, {}], False),
        ({"a": {"b": 1}}, {"a": 1}, False),
    ],
)
def test_a_line_fits_if_all_that_is_expected_is_there(expected: object, actual: object, fits: bool) -> None:
    assert (mismatch(expected, actual) is None) is fits
