"""examples/node: its own tests, its types, and its programs with the real bridge."""

import json
import os
import re
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from e2e.client import WAIT
from web.programs import bridge_program, install_packages, program, run_own_tests

pytestmark = pytest.mark.usefixtures("no_preload")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NODE = EXAMPLES / "node"
TSC = ("--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return bridge_program(tmp_path_factory.mktemp("bridge"))


def run_node(*argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [program("node"), *argv], capture_output=True, text=True, timeout=2 * WAIT, check=False, cwd=NODE
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


def test_its_own_tests_pass_by_npm_test_and_by_node_test_alone() -> None:
    run_own_tests(NODE)


def test_its_types_compile_and_refuse_what_is_wrong(tmp_path: Path) -> None:
    tsc = install_packages(tmp_path) / ".bin" / "tsc"
    argv = [str(tsc), *TSC, str(NODE / "testing" / "types.ts")]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_it_needs_no_packages() -> None:
    package = json.loads((NODE / "package.json").read_text())
    assert not {"dependencies", "devDependencies"} & set(package)
    imported = {
        line.split(" from ")[1].strip('";')
        for path in NODE.glob("*.mjs")
        for line in path.read_text().splitlines()
        if line.startswith(("import", "export", "}")) and " from " in line
    }
    assert all(name.startswith(("node:", "./")) for name in imported)


def test_files_are_transcribed(repository: Path, bridge: str) -> None:
    audio = repository / "examples" / "audio"
    ran = run_node("transcribe.mjs", "--bridge", bridge, f"{audio}/sample.wav", f"{audio}/english-one.wav")
    assert sorted(ran.stdout.splitlines()) == [
        f"{audio}/english-one.wav: Eight.",
        f"{audio}/sample.wav: Seven three one.",
    ]


def test_subtitles_are_written_beside_a_file_and_replace_none(repository: Path, bridge: str, tmp_path: Path) -> None:
    path = shutil.copy(repository / "examples" / "audio" / "english-ten.wav", tmp_path / "talk.ten.wav")
    run_node("transcribe.mjs", "--srt", "--bridge", bridge, path)
    number, times, *lines = (tmp_path / "talk.ten.srt").read_text(encoding="utf-8").splitlines()
    assert (number, " ".join(lines)) == ("1", "Zero one two three four five six seven eight nine.")
    assert re.fullmatch(r"00:00:00,\d{3} --> 00:00:0[45],\d{3}", times)
    ran = run_node("transcribe.mjs", "--srt", "--bridge", bridge, path, status=1)
    assert "talk.ten.srt" in ran.stderr


def test_a_recording_is_streamed_as_it_is_played(repository: Path, bridge: str) -> None:
    ran = run_node("live.mjs", "--bridge", bridge, f"{repository}/examples/audio/sample.wav")
    *partials, final = ran.stdout.splitlines()
    assert final == "= Seven three one."
    assert partials
    assert all(line.startswith("… ") for line in partials)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bridge", "/nowhere/bridge"], "The speech bridge was not found at /nowhere/bridge."),
        (["--model", "nobody/nothing"], "the model is not in the cache"),
    ],
)
def test_bad_use_is_reported_in_a_sentence(repository: Path, bridge: str, arguments: list[str], sentence: str) -> None:
    ran = run_node("live.mjs", "--bridge", bridge, *arguments, f"{repository}/examples/audio/sample.wav", status=1)
    assert sentence in ran.stderr
    assert "    at " not in ran.stderr


@pytest.mark.parametrize("name", ["transcribe.mjs", "live.mjs", "../web/server.mjs"])
def test_a_program_reports_how_it_is_used(name: str) -> None:
    assert run_node(name, "--help").stdout.startswith(f"node examples/{(NODE / name).resolve().relative_to(EXAMPLES)} ")
    for wrong in (["--nope"], ["--model"]):
        ran = run_node(name, *wrong, status=2)
        assert ran.stdout == ""
        assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "files"), [("transcribe.mjs", 0), ("live.mjs", 0), ("live.mjs", 2), ("../web/server.mjs", 1)]
)
def test_a_program_is_given_as_many_files_as_it_takes(name: str, files: int) -> None:
    ran = run_node(name, *["speech.wav"] * files, status=2)
    assert ran.stderr == f"{files} files are given; --help tells what is wanted.\n"


def test_what_its_readme_shows_can_be_run(repository: Path, bridge: str) -> None:
    start, live = re.findall(r"```js\n(.*?)```", (NODE / "README.md").read_text(), re.DOTALL)
    audio = repository / "examples" / "audio"
    start = start.replace("scripts/qwen3-asr-mlx-bridge", bridge).replace("examples/audio", str(audio))
    between = f"""
        console.log(text, language);
        await bridge.open();
        const {{ readFileSync }} = await import("node:fs");
        const microphone = [readFileSync({json.dumps(str(audio / "sample.wav"))}).subarray(44)];
        const show = ({{ type }}) => console.log(type);"""
    end = "console.log('the end'); await bridge.stop();"
    script = (
        start.replace("./bridge.mjs", (NODE / "bridge.mjs").as_uri()) + between + live.replace("48_000", "16_000") + end
    )
    ran = run_node("--input-type=module", "--eval", script)
    assert ran.stdout.startswith("Seven three one. English\n")
    assert ran.stdout.endswith("realtime_batch_final\nthe end\n")


def test_the_model_is_unloaded_and_loaded_again(repository: Path, bridge: str) -> None:
    sample = str(repository / "examples" / "audio" / "sample.wav")
    script = f"""
        import {{ Bridge }} from {json.dumps(str(NODE / "bridge.mjs"))};
        const bridge = new Bridge({{ bridge: {json.dumps(bridge)}, arguments: ["--model", "demo"] }});
        await bridge.start({{}}, {{ keep_alive_seconds: 300 }});
        console.log((await bridge.unload()).freed_bytes > 0, (await bridge.ping()).state);
        console.log((await bridge.transcribe({json.dumps(sample)})).text);
        await bridge.stop();"""
    ran = run_node("--input-type=module", "--eval", script)
    assert ran.stdout == "true unloaded\nSeven three one.\n"


def test_with_resend_no_utterance_is_lost_with_a_bridge(repository: Path, bridge: str) -> None:
    tests = Path(__file__).with_name("resend.mjs")
    env = {**os.environ, "BRIDGE": bridge, "AUDIO": str(repository / "examples" / "audio")}
    argv = [program("node"), "--test", str(tests)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=5 * WAIT, check=False, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^. pass [1-9]\d*$", ran.stdout, re.MULTILINE)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of the end of another's child")
def test_a_parent_that_is_killed_leaves_no_bridge_behind(bridge: str) -> None:
    script = f"""
        import {{ Bridge }} from {json.dumps(str(NODE / "bridge.mjs"))};
        const bridge = new Bridge({{ bridge: {json.dumps(bridge)}, arguments: ["--model", "demo"] }});
        await bridge.start();
        console.log(bridge.pid);"""
    argv = [program("node"), "--input-type=module", "--eval", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
        parent.send_signal(signal.SIGKILL)
    try:
        assert select.select([watched], [], [], WAIT)[0], "the bridge lives on"
    finally:
        os.close(watched)
