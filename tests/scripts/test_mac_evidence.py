"""scripts/mac-evidence: its steps by a runner that answers at once, what it writes, and the page of all runs."""

import json
import plistlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bridge_benchmark
import live_agreement
import msgspec
import psutil
import pytest
from agreement import compare, random_utterances
from benchmark.contenders import PEERS
from benchmark.figures import Figures
from e2e.client import command as bridge_command
from mac_evidence import __main__ as command
from mac_evidence import evidence, machine, report, runner
from mac_evidence import steps as table
from mac_evidence.evidence import Evidence, Memory, Step
from mac_evidence.private import Private
from mac_evidence.runner import Ran, Runner
from mac_evidence.steps import DEMO, Model
from msgspec.structs import replace
from pause_benchmark import AHEAD, NO_PAUSE, WHOLE, Timed, as_json
from soak.__main__ import Result
from soak.figures import Sample
from startup import Run, one_run

from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.tools.live.record import Partial, Record, summary

RANDOM = Model("0.6B", "random", Path("/nowhere/checkpoint"))
RELEASED = Model("0.6B", "released", DEMO.folder)
WORDS = "a transcript that is nobody's business"
TEST_CASES = """<testsuites><testsuite>
<testcase classname="tests.model.test_batch" name="test_one"/>
<testcase classname="tests.model.test_batch" name="test_two[/home/x]"><skipped message="why"/></testcase>{more}
</testsuite></testsuites>"""
FAILED_TEST = '<testcase classname="tests.x" name="test_three[{0}]"><failure message="{0}">{0}</failure></testcase>'


def benchmarked(contenders: tuple[str, ...]) -> dict[str, Any]:
    figures = Figures()
    for name in contenders:
        figures.add("load", "s", name, 1.25)
        for stage in ("tower, 10 s", "prefill, 10 s", "one token"):
            figures.add(stage, "ms", name, 4.0)
        figures.add("10 s alone", "s", name, 0.25)
        figures.add("10 s alone, MLX peak", "MiB", name, 1700.0)
    options = {"seconds": [3.0, 10.0], "dtype": "bfloat16"}
    return {
        "options": options,
        "contenders": {name: {} for name in contenders},
        "figures": [one.as_json() for one in figures],
    }


def paced() -> dict[str, Any]:
    record = Record(
        "1", 0, 1.0, started=0.0, sent=[(0.5, 0.5), (1.0, 1.0)], ended=1.0, final={"text": WORDS}, final_at=1.2
    )
    record.partials = [Partial(0.6, 0.5, WORDS, "", 0.1), Partial(1.1, 1.0, WORDS, WORDS, 0.1)]
    return {"measured": summary([record], 2.0)}


def paused() -> dict[str, Any]:
    cases = [(length, case) for length in (10.0, 3.0) for case in (*AHEAD[::-1], WHOLE, NO_PAUSE)]
    timed = [Timed(length, case, 0.01, 0.001, "ready" if case == 0.3 else None, 9) for length, case in cases * 2]
    return {"measured": as_json(timed)}


def soaked(failures: tuple[str, ...] = (), footprint: float | None = 100.0) -> dict[str, Any]:
    sample = Sample(500, 60.0, 90.0, footprint, 7.0, 1.0, 9.0, 5, 9)
    result = Result([sample], 100, 0.5, 0.1, {"text": 500}, [], 0, 3000.0, 0)
    return {**asdict(result), "failures": [*failures]}


def started() -> dict[str, Any]:
    seconds = {"exec to ready": 0.5, "utterance 1": 0.2, "utterance 10": 0.1, "utterance after unload": 0.4}
    cold = Run("cold", {**seconds, "exec to ready": 3.0})
    return {"model": "demo", "runs": [asdict(run) for run in (cold, Run("warm", seconds), Run("warm", seconds))]}


def agreed(how: str, equal: int = 12) -> dict[str, Any]:
    found = {"dtype": "float32", "utterances": 12}
    if how == "streamed":
        return {**found, "equal": equal, "finals_decoded_step_by_step": 1}
    return {**found, "equal_with_guard": equal, "redecoded": 2}


NAMES = ("ping beside a decode, p50", "ping beside a decode, p99", "idle, all", "idle CPU")
FIGURES = [{**asdict(bridge_benchmark.Figure(name, "", [2.0])), "median": 2.0} for name in NAMES]
ANSWERS: dict[str, Callable[[], object]] = {
    "doctor": lambda: {"findings": [{"level": "ok", "what": "Python 3.12", "advice": ""}]},
    "start": started,
    "streamed": lambda: agreed("streamed"),
    "batched": lambda: agreed("batched"),
    "the worker": lambda: {"kills": 2, "outcomes": {"text": 9}, "compared": 9, "different": 0, "failures": []},
    "speed": lambda: benchmarked(("runtime", "runtime, 8bit", "mlx-audio")),
    "partials": paced,
    "finals": paused,
    "memory": soaked,
    "pings": lambda: {"figures": FIGURES, "rss_mib": [(0, 40.0), (20_000, 50.0), (40_000, 50.5), (200_000, 51.5)]},
}


def answer_to(step: table.Step) -> bytes:
    if step.name.startswith("tests"):
        return TEST_CASES.format(more="").encode()
    kind = next((kind for kind in ANSWERS if step.name.startswith(kind)), None)
    return json.dumps(ANSWERS[kind]()).encode() if kind else b""


def answering(**others: Ran | BaseException) -> Callable[[table.Step, float], Ran]:
    """A runner without processes. `others`: by the first word of a step's name, what becomes of it instead."""

    def run(step: table.Step, limit: float) -> Ran:
        other = others.get(step.name.split()[0])
        if isinstance(other, BaseException):
            raise other
        return other or Ran(0, answer_to(step))

    return run


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


NOBODY = Private(Path("/checkout"), Path("/Users/nobody"), ["nobody"])


def results(
    steps: list[table.Step], run: Callable[[table.Step, float], Ran], budget: float = 1800.0, clock: Clock | None = None
) -> list[Step]:
    said: list[str] = []
    made = Runner(budget, NOBODY, run, said.append, clock or Clock(), lambda: None)
    return [*made.run(steps)]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment is made, and no model is looked for."""
    monkeypatch.setattr(command, "prepare", lambda _: [])
    monkeypatch.setattr(machine, "device", lambda: "Metal: Apple M2")


def test_a_run_writes_one_folder_that_can_be_read_again(quiet: None, tmp_path: Path) -> None:
    out = tmp_path / "evidence"
    assert command.main(["--short", "--out", str(out)], answering()) == 0
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "evidence.json"]
    found = evidence.read(out / "evidence.json")
    assert {step.outcome for step in found.steps} == {"passed"}
    assert {type(step.figures).__name__ for step in found.steps} == {
        *("Findings", "Tests", "Equal", "Kills", "Start", "Speed", "Partials", "Finals", "Memory")
    }
    assert found.is_mac is (sys.platform == "darwin")
    text = (out / "README.md").read_text(encoding="utf-8")
    assert (report.NOT_A_MAC in text) is not found.is_mac
    assert all(f"## {each.title}" in text for each in report.TABLES if each.title != "The process")


def test_without_a_folder_a_new_one_is_made_and_the_page_has_it(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "COLLECTED", tmp_path)
    assert command.main(["--short"], answering()) == 0
    [folder] = [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    assert f"[{folder.name}]({folder.name}/README.md)" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_every_form_has_the_figures_that_are_promised() -> None:
    def names(*arguments: Any) -> list[str]:
        return [step.name for step in table.steps(*arguments)]

    short, full = names("short", []), names("full", [RANDOM])
    larger = names("all", [RANDOM, Model("1.7B", "random", RANDOM.folder)])
    for listed in (short, full, larger):
        assert len({*listed}) == len(listed)
        assert {"doctor", "tests of the device", "the worker is killed"} <= {*listed}
    assert not any(size in name for name in short for size in ("0.6B", "1.7B"))
    wanted = {f"{what} of 0.6B" for what in ("start", "random weights", "speed", "partials", "finals")}
    assert {*wanted, "speed of 0.6B, float16", "memory over 500 utterances, demo"} <= {*full} < {*larger}
    assert {"speed of 1.7B", "finals of 1.7B"} <= {*larger}
    assert not any("1.7B" in name for name in full)
    speeds = [step for step in table.steps("all", [RANDOM], PEERS) if step.name == "speed of 0.6B"]
    assert {"mlx-audio", "mlx-qwen3-asr", "8bit", "mixed"} < {*speeds[0].command}
    assert all(step.limit <= 420 for step in table.steps("all", [RANDOM]))


def test_released_weights_take_the_place_of_random_ones() -> None:
    steps = table.steps("full", [RELEASED])
    assert not any("random" in step.name for step in steps)
    assert "memory over 500 utterances, 0.6B" in {step.name for step in steps}
    assert "streamed equals whole, 0.6B bfloat16" in {step.name for step in steps}
    for step in steps:
        assert step.needs is None
        assert "--size" not in step.command


def test_the_tests_of_the_device_exist_and_multiply_in_float32(repository: Path) -> None:
    assert table.device_tests().environment == {"MLX_ENABLE_TF32": "0"}
    assert [name for name in (*table.DEVICE_TESTS, *table.PROCESS_TESTS) if not (repository / name).exists()] == []


def test_every_program_of_a_step_has_the_options_that_it_is_given(repository: Path) -> None:
    sources = [file.read_text(encoding="utf-8") for file in (repository / "scripts" / "lib").rglob("*.py")]
    given = {
        (step.command[0], word.partition("=")[0])
        for step in table.steps("all", [RANDOM, RELEASED])
        for word in step.command[1:]
        if word.startswith("--") and step.command[0] not in (sys.executable, "scripts/test")
    }
    assert {program for program, _ in given} >= {"scripts/soak", "scripts/benchmark", "scripts/live-benchmark"}
    assert [program for program, _ in given if not (repository / program).is_file()] == []
    assert [option for _, option in given if not any(f'"{option}"' in source for source in sources)] == []


def test_a_step_that_fails_or_takes_too_long_costs_nothing_else(quiet: None, tmp_path: Path) -> None:
    run = answering(
        doctor=Ran(1, answer_to(table.doctor()), "trouble"),
        start=Ran(None, b""),
        speed=Ran(0, b"no json"),
        finals=OSError("no such program"),
        batched=Ran(0, json.dumps(agreed("batched", equal=11)).encode()),
        partials=Ran(0, json.dumps({"measured": {**paced()["measured"], "lag_p50_seconds": None}}).encode()),
    )
    assert command.main(["--short", "--out", str(tmp_path)], run) == 1
    found = {step.name.split()[0]: step for step in evidence.read(tmp_path / "evidence.json").steps}
    assert {name: step.outcome for name, step in found.items() if step.outcome != "passed"} == {
        **dict.fromkeys(("doctor", "speed", "finals", "batched", "partials"), "failed"),
        "start": "timed out",
    }
    assert found["doctor"].figures is not None
    assert found["batched"].figures is not None
    assert [name for name, step in found.items() if step.figures is None] == ["start", "speed", "partials", "finals"]


def test_ctrl_c_leaves_what_is_done(quiet: None, tmp_path: Path) -> None:
    assert command.main(["--short", "--out", str(tmp_path)], answering(tests=KeyboardInterrupt())) == 130
    outcomes = [step.outcome for step in evidence.read(tmp_path / "evidence.json").steps]
    assert outcomes[:4] == ["passed", "passed", "interrupted", "not run"]
    assert {*outcomes[3:]} == {"not run"}


def test_the_budget_bounds_every_step_and_what_has_no_time_is_not_begun() -> None:
    clock, limits = Clock(), []

    def slow(step: table.Step, limit: float) -> Ran:
        limits.append(limit)
        clock.now += 100
        return Ran(0, answer_to(step))

    found = results(table.steps("short", []), slow, budget=250, clock=clock)
    assert limits == [180, 150, 50]
    assert [step.outcome for step in found[:4]] == ["passed"] * 3 + ["not run"]
    assert {step.outcome for step in found[3:]} == {"not run"}


def test_a_step_without_its_weights_is_not_run(tmp_path: Path) -> None:
    model = Model("0.6B", "random", tmp_path / "checkpoint")
    assert [step.outcome for step in results([table.partials(model, 1)], answering())] == ["not run"]
    model.folder.mkdir()
    assert [step.outcome for step in results([table.partials(model, 1)], answering())] == ["passed"]


class Mac:
    """Draws 20 W for 60 samples whenever it is asked."""

    def __init__(self) -> None:
        self.draw = machine.Draw(5_000_000, 1000)

    def __call__(self) -> machine.Draw:
        before, self.draw = self.draw, machine.Draw(self.draw.milliwatts + 1_200_000, self.draw.samples + 60)
        return before


def test_watts_are_the_mean_between_two_sums_of_the_battery() -> None:
    [step] = Runner(1800, NOBODY, answering(), lambda _: None, Clock(), Mac()).run([table.doctor()])
    assert step.watts == 20
    assert machine.watts(None, machine.Draw(1, 1)) is None
    assert machine.watts(machine.Draw(5, 5), machine.Draw(5, 5)) is None
    assert machine.watts(machine.Draw(9, 5), machine.Draw(5, 6)) is None
    battery = {"Serial": "C02", "PowerTelemetryData": {"AccumulatedSystemLoad": 7, "SystemLoadAccumulatorCount": 3}}
    assert machine.draw_of(plistlib.dumps([battery])) == machine.Draw(7, 3)
    for none in (b"", b"x", b"<?xml <plist>", plistlib.dumps([]), plistlib.dumps([{"PowerTelemetryData": {}}])):
        assert machine.draw_of(none) is None


def test_energy_is_that_above_idle_for_a_minute_of_audio() -> None:
    memory = table.read_memory(soaked(), DEMO)
    step = Step(name="memory", command="", outcome="passed", seconds=100.0, watts=20.0, figures=memory)
    assert report.joules_a_minute(step, memory, 5.0) == pytest.approx(15 * 100 / 50)
    assert report.joules_a_minute(step, memory, None) is None
    assert report.joules_a_minute(replace(step, watts=None), memory, 5.0) is None


class FakeSystem:
    """notify(3) with a state; None fails."""

    def __init__(self, state: int | None) -> None:
        self._state = state

    def notify_register_check(self, name: bytes, token: Any) -> int:
        assert name == b"com.apple.system.thermalpressurelevel"
        return 0

    def notify_get_state(self, token: Any, state: Any) -> int:
        if self._state is None:
            return 1
        state._obj.value = self._state
        return 0

    def notify_cancel(self, token: Any) -> int:
        return 0


@pytest.mark.parametrize(("state", "word"), [(0, "nominal"), (2, "heavy"), (9, None), (None, None)])
def test_heat_is_the_systems_word(state: int | None, word: str | None) -> None:
    assert machine.pressure(FakeSystem(state)) == word


def test_a_machine_without_a_battery_does_not_tell_its_power(monkeypatch: pytest.MonkeyPatch) -> None:
    class Battery:
        power_plugged: bool | None = True

    for battery, told in ((None, None), (Battery, "mains")):
        monkeypatch.setattr(psutil, "sensors_battery", lambda battery=battery: battery, raising=False)
        assert machine.power() == told
    Battery.power_plugged = False
    assert machine.power() == "battery"


def test_the_folder_names_no_person_no_machine_and_no_folder_and_holds_no_words(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is full of them."""
    monkeypatch.setenv("HOME", "/Volumes/Her Disk/zaphod")
    for variable in ("LOGNAME", "USER"):
        monkeypatch.setenv(variable, "zbeeblebrox")
    monkeypatch.setattr("platform.node", lambda: "heart-of-gold.local")
    gossip = (
        "/Volumes/Her Disk/zaphod/Secret/x: ZBeeblebrox at heart-of-gold, heart-of-gold.local, "
        f'"/private/var/folders/zz/T/secret", ~/secret/y, ../secret, {WORDS}'
    )
    findings = [{"level": level, "what": gossip, "advice": gossip} for level in ("ok", "warning", "failure")]
    more = FAILED_TEST.format(gossip.replace('"', ""))
    run = answering(
        doctor=Ran(1, json.dumps({"findings": findings}).encode(), gossip),
        tests=Ran(1, TEST_CASES.format(more=more).encode(), gossip),
        memory=Ran(1, json.dumps(soaked(failures=(gossip,))).encode(), gossip),
        the=Ran(1, json.dumps({**dict(ANSWERS["the worker"]()), "failures": [gossip]}).encode(), gossip),
        speed=OSError(gossip),
    )
    monkeypatch.setattr(command, "found_models", lambda *_, **__: [Model("0.6B", "released", Path(gossip))])
    command.main(["--out", str(tmp_path / "out")], run)
    written = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "out").iterdir()).lower()
    assert '"ok": 1' in written
    names = ("zaphod", "beeblebrox", "heart", "gold", "disk", "secret", "volumes", "private/", str(tmp_path).lower())
    assert [name for name in names if name in written] == []
    partial_texts = [
        step for step in evidence.read(tmp_path / "out" / "evidence.json").steps if "partials" in step.name
    ]
    assert all(WORDS not in str(step) for step in partial_texts)


def test_paths_of_the_checkout_stay_and_no_others() -> None:
    private = Private(Path("/Users/zaphod/asr"), Path("/Users/zaphod"), ["zaphod", "m1"])
    assert private.clean("/Users/zaphod/asr/src/x.py of zaphod") == "./src/x.py of NAME"
    assert private.clean("see /Users/zaphod/asr2/x, (/opt/homebrew/bin/python3)") == "see PATH, (PATH)"
    assert (
        private.clean("English / Arabic, 5/6, owner/name, m1, zaphods")
        == "English / Arabic, 5/6, owner/name, m1, zaphods"
    )
    assert Private(Path("/a"), Path("/"), [""]).clean("a / b") == "a / b"


def test_figures_are_what_the_commands_answered() -> None:
    speed = table.read_speed(benchmarked(("runtime", "runtime, 8bit", "mlx-audio")), RANDOM)
    assert [one.name for one in speed.contenders] == ["bfloat16", "8bit", "mlx-audio"]
    assert (speed.audio_seconds, speed.contenders[0].seconds, speed.contenders[0].token_ms) == (10.0, 0.25, 4.0)
    partials = table.read_partials(paced(), RANDOM)
    assert (partials.first_p50, partials.age_p95) == (0.6, 0.1)
    finals = table.read_finals(paused(), RANDOM).finals
    assert [(one.audio_seconds, one.pause_ms) for one in finals[:3]] == [(3.0, None), (3.0, 0.0), (3.0, 100.0)]
    assert [(one.ready, one.count) for one in finals if one.pause_ms == 300] == [(2, 2)] * 2
    start = table.read_start(started(), DEMO)
    assert (start.load, start.first_ready, start.ready, start.reload) == ("cold", 3.0, 0.5, 0.4)
    assert table.read_memory(soaked(), DEMO).measured == "footprint"
    assert table.read_memory(soaked(footprint=None), DEMO).last_mib == 90.0
    process = table.read_bridge(ANSWERS["pings"](), DEMO)
    assert (process.ping_p99_ms, process.requests, process.grown_mib) == (2.0, 200_000, 1.5)
    failed = table.read_tests(TEST_CASES.format(more=FAILED_TEST.format("/x")).encode())
    assert (failed.passed, failed.skipped, failed.failures) == (1, 1, ["tests.x::test_three"])
    assert not failed.is_right
    assert not table.read_tests(b"<testsuites/>").is_right


@pytest.mark.once
def test_the_answers_about_equal_transcripts_are_read_as_they_are_written() -> None:
    recognizer = Recognizer.load("demo", dtype="float32")
    utterances = [*random_utterances(2, seed=7)]
    batched = table.read_batched({"dtype": "float32", **compare(recognizer, utterances, rows=2)}, DEMO)
    streamed = table.read_streamed({"dtype": "float32", **live_agreement.compare(recognizer, utterances, 1)}, DEMO)
    assert (batched.equal, streamed.equal) == (2, 2)
    assert batched.is_right
    assert streamed.is_right
    assert not replace(streamed, equal=1).is_right
    assert not replace(streamed, utterances=0, equal=0).is_right


@pytest.mark.once
def test_a_start_is_measured_up_to_the_utterance_after_unload(repository: Path) -> None:
    audio = str(repository / "examples" / "audio" / "sample.wav")
    run = one_run(bridge_command(None, "--model", "demo"), audio)
    start = table.read_start({"runs": [asdict(run)] * 2}, DEMO)
    assert (start.processes, start.load in ("cold", "warm")) == (2, True)
    with pytest.raises(RuntimeError, match="audio_not_found"):
        one_run(bridge_command(None, "--model", "demo"), str(repository / "missing.wav"))


def made_up(**changes: Any) -> Evidence:
    steps = results([*table.steps("short", []), table.bridge(DEMO)], answering())
    where = {"system": "macOS 26.1 on arm64", "processor": "Apple M9 Ultra", "cores": 16, "memory_bytes": 64 * 2**30}
    facts = evidence.Machine(**where, device="Metal: Apple M9 Ultra", power="mains", versions={"mlx": "0.32.4"})
    usual = {"schema": evidence.SCHEMA, "date": "2026-12-01", "commit": "abc", "form": "short", "is_mac": True}
    usual |= {"machine": facts, "thermal": ("nominal", None), "idle_watts": 5.0, "seconds": 60.0, "steps": steps}
    return Evidence(**{**usual, **changes})


def write(folder: Path, content: Evidence) -> None:
    folder.mkdir(parents=True)
    (folder / "evidence.json").write_bytes(evidence.encode(content))


def test_the_page_has_every_run_with_macs_first_and_the_newest_first(tmp_path: Path) -> None:
    write(tmp_path / "a-linux", made_up(is_mac=False, date="2026-12-09"))
    write(tmp_path / "b-mac", made_up(date="2026-12-01"))
    write(tmp_path / "c-mac", made_up(date="2026-12-03"))
    text = command.collected(tmp_path)
    runs = [line for line in text.splitlines() if line.startswith("| [")]
    assert [line.partition("]")[0] for line in runs] == ["| [c-mac", "| [b-mac", "| [a-linux"]
    assert [report.NOT_A_MAC in line for line in runs] == [False, False, True]
    for each in report.TABLES:
        body = text.partition(f"## {each.title}\n")[2].partition("##")[0]
        assert [body.count(f"| {name} |") > 0 for name in ("a-linux", "b-mac", "c-mac")] == [True] * 3, each.title
        rows = [line for line in body.splitlines() if line.startswith("|")]
        assert {line.count("|") for line in rows} == {len(each.heads) + 2}
    assert "| c-mac | demo | demo | bfloat16 | 1.25 | 4 | 40 | 4 | 4 | 1,700 |" in text


def test_a_step_that_did_not_pass_is_named_in_the_page(tmp_path: Path) -> None:
    steps = [replace(step, outcome="failed") if step.name == "doctor" else step for step in made_up().steps]
    write(tmp_path / "mac", made_up(steps=steps))
    assert "11 of 12 | doctor (failed) |" in command.collected(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"schema": "qwen3-asr-mlx-evidence-2"},
        {"hostname": "x"},
        {"form": "long"},
        {"steps": [{"name": "x", "command": "y", "outcome": "fine", "seconds": 1.0}]},
        {"steps": [{"name": "x", "command": "y", "outcome": "passed", "seconds": 1.0, "figures": {"type": "other"}}]},
        {"seconds": "long"},
    ],
)
def test_a_file_of_another_schema_is_refused_by_name(tmp_path: Path, changed: dict[str, object]) -> None:
    write(tmp_path / "mac", made_up())
    file = tmp_path / "mac" / "evidence.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changed}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"mac.evidence\.json"):
        command.collected(tmp_path)
    assert command.collect(tmp_path) == 1
    assert not (tmp_path / "README.md").exists()


def test_the_committed_page_is_that_of_the_committed_runs(repository: Path) -> None:
    folder = repository / "docs" / "evidence"
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page == command.collected(folder), "make it again: scripts/mac-evidence --collect"
    for file in folder.glob("*/evidence.json"):
        found = evidence.read(file)
        assert file.with_name("README.md").read_text(encoding="utf-8") == report.report(found)
        assert file.read_bytes() == evidence.encode(found)
        assert {entry.name for entry in file.parent.iterdir()} == {"README.md", "evidence.json"}


def test_a_new_folder_is_named_by_day_and_chip_and_takes_no_others_place(tmp_path: Path) -> None:
    first = command.new_folder(tmp_path, "Intel(R) Xeon(R) CPU @ 2.10GHz", "short")
    assert first.name[10:] == "-intel-r-xeon-r-cpu-short"
    first.mkdir()
    assert command.new_folder(tmp_path, "Intel(R) Xeon(R) CPU @ 2.10GHz", "short").name == f"{first.name}-2"


def test_a_peer_that_cannot_be_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def make(peer: str, home: Path) -> Path:
        if peer == "mlx-audio":
            raise subprocess.CalledProcessError(1, "pip")
        return home

    monkeypatch.setattr(command, "peer_python", make)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    assert command.prepare("all") == ["mlx-qwen3-asr"]
    assert "mlx-audio cannot be installed" in capsys.readouterr().out
    assert command.prepare("full") == []


def test_models_are_random_where_no_files_are_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN3_ASR_MLX_CACHE_DIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    assert [(one.name, one.weights) for one in command.found_models(tmp_path, every=False)] == [("0.6B", "random")]
    assert [one.name for one in command.found_models(tmp_path, every=True)] == ["0.6B", "1.7B"]


class TestProcess:
    def step(self, program: str, *arguments: str) -> table.Step:
        command = (sys.executable, "-c", program, *arguments)
        return table.Step("x", command, 1.0, lambda _: None, {"MLX_ENABLE_TF32": "0"})

    def test_an_answer_comes_from_the_file_or_from_what_is_printed(self) -> None:
        program = "import os; print(os.environ['MLX_ENABLE_TF32'], os.getsid(0) == os.getpid(), os.getcwd())"
        told = runner.run_process(self.step(program), 60)
        assert told.answer.decode() == f"0 True {runner.ROOT}\n"
        program = "import sys; open(sys.argv[1], 'w').write('kept'); print('said'); sys.exit(3)"
        ran = runner.run_process(self.step(program, table.ANSWER), 60)
        assert (ran.code, ran.answer, ran.log) == (3, b"kept", "said\n")

    def test_settings_of_whoever_runs_it_are_none_of_a_step(self) -> None:
        environ = {"QWEN3_ASR_MLX_MODEL": "x", "QWEN3_ASR_MLX_HOME": "y", "PATH": "z"}
        assert runner.child_environment(environ) == {"QWEN3_ASR_MLX_HOME": "y", "PATH": "z", "HF_HUB_OFFLINE": "1"}

    def test_a_step_that_reaches_its_limit_is_ended_and_has_no_exit_code(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ended: list[psutil.Popen] = []
        end = runner.end
        monkeypatch.setattr(runner, "end", lambda process: (ended.append(process), end(process)))
        assert runner.run_process(self.step("import signal; signal.pause()"), 0.01).code is None
        assert [process.is_running() for process in ended] == [False]

    def test_ctrl_c_ends_the_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(process: psutil.Popen, limit: float) -> None:
            raise KeyboardInterrupt

        ended: list[psutil.Popen] = []
        end = runner.end
        monkeypatch.setattr(psutil.Popen, "wait", interrupt)
        monkeypatch.setattr(runner, "end", ended.append)
        with pytest.raises(KeyboardInterrupt):
            runner.run_process(self.step("import signal; signal.pause()"), 60)
        monkeypatch.undo()
        end(ended[0])
        assert not ended[0].is_running()

    @pytest.fixture
    def tree(self) -> Iterator[tuple[psutil.Popen, int]]:
        """A process that ignores SIGTERM, and its child."""
        child = "import signal; signal.pause()"
        program = (
            "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid, flush=True); signal.pause()"
        )
        process = psutil.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
        yield process, int(process.stdout.readline())
        process.stdout.close()

    def test_nothing_that_a_step_started_outlives_it(
        self, tree: tuple[psutil.Popen, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "END_SECONDS", 1.0)
        process, child = tree
        runner.end(process)
        runner.end(process)  # as one that has just ended by itself
        assert not process.is_running()
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_every_text_of_a_report_is_one_cell() -> None:
    findings = evidence.Findings(ok=1, warnings=["a | b"], failures=[])
    steps = [Step(name="doctor", command="x", outcome="passed", seconds=1.0, figures=findings)]
    assert "| 1 ok; a / b |" in report.report(made_up(steps=steps))


def test_memory_without_a_slope_is_no_figure() -> None:
    with pytest.raises(ValueError, match="slope"):
        table.read_memory({**soaked(), "slope": float("nan")}, DEMO)
    assert isinstance(table.read_memory(soaked(), DEMO), Memory)
    assert msgspec.json.decode(evidence.encode(made_up()), type=Evidence) == made_up()
