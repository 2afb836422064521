"""The steps as data: what each runs, for how long at most, and how its answer becomes figures."""

import json
import math
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pause_benchmark import NO_PAUSE, WHOLE
from startup import READY, RELOADED, UTTERANCES

from mac_evidence.evidence import (
    Bridge,
    Contender,
    Equal,
    Figures,
    Final,
    Finals,
    Findings,
    Form,
    Kills,
    Memory,
    Partials,
    Speed,
    Start,
    Tests,
    Weights,
)
from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER

ANSWER = (
    "answer.json"  # stands in a command for the file of its answer; without it, the answer is what the command prints
)
DEVICE_TESTS = (
    *("tests/reference/test_parity.py", "tests/reference/test_aligner.py", "tests/engine/test_recognizer.py"),
    *("tests/model/test_decoder.py", "tests/model/test_splice.py", "tests/model/test_batch.py"),
    "tests/engine/test_scheduler.py",
)
PROCESS_TESTS = ("tests/e2e", "tests/rows")
MODE = "bfloat16"  # of live text, as an app would take it


@dataclass(frozen=True)
class Model:
    """`folder`: of its weights; random ones are written there by a step."""

    name: str
    weights: Weights
    folder: Path

    @property
    def size(self) -> str:
        return self.name.lower()

    @property
    def is_random(self) -> bool:
        return self.weights == "random"


DEMO = Model("demo", "demo", DEMO_FOLDER)


@dataclass(frozen=True)
class Step:
    """`limit`: seconds. `read`: makes figures of the answer; may raise ValueError, TypeError or LookupError. `needs`: a
    folder without which the step does not run."""

    name: str
    command: tuple[str, ...]
    limit: float
    read: Callable[[bytes], Figures | None]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Path | None = None


def steps(form: Form, models: Sequence[Model], peers: Sequence[str] = ()) -> list[Step]:
    """In the order of their weight, so that what a slow machine has no time for comes last. `models`: beside the
    demonstration, the smallest first. `peers`: measured beside the runtime."""
    if form == "short":
        return [
            doctor(),
            start(DEMO, processes=3),
            device_tests(),
            streamed(DEMO, "float32", count=12, long=1),
            batched(DEMO, "float32", count=24),
            kills(2),
            *speed(DEMO, (), rounds=1),
            partials(DEMO, 1),
            finals(DEMO, 3, "3,10"),
            memory(DEMO, 60),
        ]
    first, others = models[0], models[1:]
    return [
        doctor(),
        start(DEMO, processes=5),
        *_prepared(first),
        device_tests(),
        *(streamed(DEMO, dtype, count=60, long=3) for dtype in ("float32", "bfloat16")),
        *(batched(DEMO, dtype, count=100) for dtype in ("float32", "bfloat16")),
        *([] if first.is_random else [streamed(first, MODE, count=20, long=2)]),
        batched(first, MODE, count=32),
        kills(6),
        *speed(first, peers),
        partials(first, 3),
        finals(first, 10, "1.5,3,10,30"),
        memory(DEMO if first.is_random else first, 500),
        bridge(DEMO if first.is_random else first),
        *(step for model in others for step in _larger(model, peers)),
        process_tests(),
    ]


def _prepared(model: Model) -> list[Step]:
    return [*([write_weights(model)] if model.is_random else []), start(model, processes=3)]


def _larger(model: Model, peers: Sequence[str]) -> list[Step]:
    return [*_prepared(model), *speed(model, peers), partials(model, 2), finals(model, 5, "1.5,3,10,30")]


def doctor() -> Step:
    entry = "from qwen3_asr_mlx_runtime.entry import doctor; doctor()"
    return Step("doctor", (sys.executable, "-P", "-c", entry, "--model", "demo", "--json"), 180, read_findings)


def device_tests() -> Step:
    """In float32, whose products a GPU may otherwise compute with fewer bits."""
    float32 = {"MLX_ENABLE_TF32": "0"}
    return Step("tests of the device", pytest_command(*DEVICE_TESTS), 420, read_tests, float32)


def process_tests() -> Step:
    command = pytest_command(*PROCESS_TESTS, "--numprocesses", "4", "--dist", "loadfile")
    return Step("tests of the process and of faults", command, 420, read_tests)


def pytest_command(*arguments: str) -> tuple[str, ...]:
    return ("scripts/test", "--tests-only", *arguments, "-p", "no:cacheprovider", f"--junit-xml={ANSWER}")


def write_weights(model: Model) -> Step:
    program = "import sys; from pathlib import Path; from live_benchmark import checkpoint; "
    program += "checkpoint(sys.argv[1], 'bfloat16', Path(sys.argv[2]))"
    command = (sys.executable, "-P", "-c", program, model.size, str(model.folder.parent))
    return Step(f"random weights of {model.name}", command, 240, lambda _: None)


def start(model: Model, processes: int) -> Step:
    command = ("scripts/startup", "--model", _named(model), "--runs", str(processes), "--json", ANSWER)
    return _of(model, f"start of {model.name}", command, 150, read_start)


def streamed(model: Model, dtype: str, count: int, long: int) -> Step:
    command = ("scripts/live-agreement", "--model", _named(model), "--dtype", dtype)
    command += ("--count", str(count), "--long", str(long))
    return _of(model, f"streamed equals whole, {model.name} {dtype}", command, 150, read_streamed)


def batched(model: Model, dtype: str, count: int) -> Step:
    named = model.size if model.is_random else _named(model)
    command = ("scripts/agreement", "--model", named, "--dtype", dtype, "--count", str(count))
    return _of(model, f"batched equals alone, {model.name} {dtype}", command, 150, read_batched)


def kills(count: int) -> Step:
    command = ("scripts/soak", "--kill", str(count), "--longest", "5", "--json", ANSWER)
    return Step("the worker is killed", command, 150, read_kills)


def speed(model: Model, peers: Sequence[str], rounds: int = 3) -> list[Step]:
    """bfloat16 with quantised weights and peers, in turns; then float16."""
    command: tuple[str, ...] = ("scripts/benchmark", "--checkpoint", str(model.folder), "--seconds", "10")
    command += ("--tower=", "--no-imports", "--repeats", str(rounds), "--json", ANSWER)
    beside = ("--quantize", "8bit", "--quantize", "mixed", *(word for peer in peers for word in ("--peer", peer)))
    return [
        _of(model, f"speed of {model.name}", (*command, "--dtype", "bfloat16", *beside), 300, read_speed),
        _of(model, f"speed of {model.name}, float16", (*command, "--dtype", "float16"), 120, read_speed),
    ]


def partials(model: Model, rounds: int) -> Step:
    command = ("scripts/live-benchmark", "--paced", *_rounds(model, rounds), "--seconds", "10", "--json", ANSWER)
    return _of(model, f"partials of {model.name}", command, 60 + 20 * rounds, read_partials)


def finals(model: Model, rounds: int, lengths: str) -> Step:
    command = ("scripts/live-benchmark", "--pause", *_rounds(model, rounds), "--seconds", lengths, "--json", ANSWER)
    return _of(model, f"finals of {model.name}", command, 240, read_finals)


def memory(model: Model, utterances: int) -> Step:
    """Growth is read from the figures. Only that of a leak, 50 MiB in all, fails here: few utterances tell no small
    one."""
    command = ("scripts/soak", "--model", _named(model), "--utterances", str(utterances), "--longest", "12", "--quiet")
    command += ("--limit", f"{50_000 / utterances:.0f}", "--json", ANSWER)
    return _of(model, f"memory over {utterances} utterances, {model.name}", command, 300, read_memory)


def bridge(model: Model) -> Step:
    command = ("scripts/bridge-benchmark", "--model", _named(model), "--runs", "1", "--pings", "10000")
    command += ("--latency-pings", "300", "--chunks", "5000", "--requests", "200000", "--json", ANSWER)
    return _of(model, f"pings beside {model.name}, and an idle bridge", command, 180, read_bridge)


def _of(model: Model, name: str, command: tuple[str, ...], limit: float, read: Callable[[Any, Model], Figures]) -> Step:
    needs = model.folder if model.is_random else None
    return Step(name, command, limit, lambda answer: read(json.loads(answer), model), needs=needs)


def _named(model: Model) -> str:
    return "demo" if model.weights == "demo" else str(model.folder)


def _rounds(model: Model, rounds: int) -> Iterator[str]:
    if model.is_random:
        yield from ("--size", model.size, "--workdir", str(model.folder.parent), "--repeats", str(rounds))
    else:
        yield from ("--demo", str(rounds), "--model", _named(model))
    yield from ("--dtype", MODE)


def read_findings(answer: bytes) -> Findings:
    by_level: dict[str, list[str]] = {"ok": [], "warning": [], "failure": []}
    for finding in json.loads(answer)["findings"]:
        by_level[finding["level"]].append(finding["what"])
    return Findings(ok=len(by_level["ok"]), warnings=by_level["warning"], failures=by_level["failure"])


def read_tests(answer: bytes) -> Tests:
    """pytest's JUnit file. A failure's text is left out: it may quote anything."""
    try:
        cases = [*ElementTree.fromstring(answer).iter("testcase")]  # noqa: S314 our own file
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [f"{case.attrib['classname']}::{case.attrib['name'].partition('[')[0]}" for case in failed]
    return Tests(passed=len(cases) - len(failed) - skipped, skipped=skipped, failures=names)


def read_start(answer: Any, model: Model) -> Start:
    first, *others = answer["runs"]

    def middle(name: str) -> float:
        return round(statistics.median(run["seconds"][name] for run in others), 4)

    return Start(
        model=model.name,
        weights=model.weights,
        processes=len(answer["runs"]),
        load=first["load"],
        first_ready=round(first["seconds"][READY], 4),
        ready=middle(READY),
        first_utterance=middle("utterance 1"),
        tenth_utterance=middle(f"utterance {UTTERANCES}"),
        reload=middle(RELOADED),
    )


def read_streamed(answer: Any, model: Model) -> Equal:
    return Equal(
        how="streamed", again=answer["finals_decoded_step_by_step"], equal=answer["equal"], **_equal(answer, model)
    )


def read_batched(answer: Any, model: Model) -> Equal:
    return Equal(how="batched", again=answer["redecoded"], equal=answer["equal_with_guard"], **_equal(answer, model))


def _equal(answer: Any, model: Model) -> dict[str, Any]:
    shared = {"dtype": answer["dtype"], "utterances": answer["utterances"]}
    return {"model": model.name, "weights": model.weights, **shared}


def read_kills(answer: bytes) -> Kills:
    told = json.loads(answer)
    return Kills(
        kills=told["kills"], texts=told["compared"], different=told["different"], failures=len(told["failures"])
    )


def read_speed(answer: Any, model: Model) -> Speed:
    longest = max(answer["options"]["seconds"])
    by_name = {figure["name"]: figure["contenders"] for figure in answer["figures"]}
    names = {"runtime": answer["options"]["dtype"], "runtime, 8bit": "8bit", "runtime, mixed": "mixed"}

    def value(name: str, contender: str) -> float:
        return float(f"{by_name[name][contender]['median']:.4g}")

    contenders = [
        Contender(
            name=names.get(name, name),
            load_seconds=value("load", name),
            token_ms=value("one token", name) if name in by_name.get("one token", {}) else None,
            tower_ms=value(f"tower, {longest:g} s", name),
            prefill_ms=value(f"prefill, {longest:g} s", name),
            seconds=value(f"{longest:g} s alone", name),
            peak_mib=value(f"{longest:g} s alone, MLX peak", name),
        )
        for name in answer["contenders"]
    ]
    return Speed(model=model.name, weights=model.weights, audio_seconds=longest, contenders=contenders)


def read_partials(answer: Any, model: Model) -> Partials:
    told = answer["measured"]
    names = {"first": "first_partial", "age": "lag"}
    spread = {
        f"{name}_{share}": told[f"{theirs}_{share}_seconds"]
        for name, theirs in names.items()
        for share in ("p50", "p95")
    }
    return Partials(model=model.name, weights=model.weights, partials=told["partials"], **spread)


def read_finals(answer: Any, model: Model) -> Finals:
    timed: dict[tuple[float, float | None], list[Any]] = {}
    for one in answer["measured"]:
        if one["case"] != WHOLE:
            pause = None if one["case"] == NO_PAUSE else 1000 * one["case"]
            timed.setdefault((one["length"], pause), []).append(one)
    found = []
    for (length, pause), ones in sorted(
        timed.items(), key=lambda item: (item[0][0], -1.0 if item[0][1] is None else item[0][1])
    ):
        p50, p95 = (float(np.percentile([1000 * one["seconds"] for one in ones], share)) for share in (50, 95))
        ready = sum(one["provisional"] == "ready" for one in ones)
        found.append(
            Final(
                audio_seconds=length,
                pause_ms=pause,
                p50_ms=round(p50, 1),
                p95_ms=round(p95, 1),
                count=len(ones),
                ready=ready,
            )
        )
    return Finals(model=model.name, weights=model.weights, finals=found)


def read_memory(answer: Any, model: Model) -> Memory:
    last = answer["samples"][-1]
    footprint = last["footprint"]
    slope, error = answer["slope"], answer["slope_error"]
    if not math.isfinite(slope + error):
        raise ValueError("no slope")
    return Memory(
        model=model.name,
        weights=model.weights,
        measured="RSS" if footprint is None else "footprint",
        utterances=last["utterances"],
        audio_seconds=answer["audio_seconds"],
        slope=round(slope, 3),
        slope_error=round(error, 3),
        last_mib=last["rss"] if footprint is None else footprint,
        failures=len(answer["failures"]),
    )


def read_bridge(answer: Any, model: Model) -> Bridge:
    median = {figure["name"]: round(figure["median"], 3) for figure in answer["figures"]}
    _, (_, early), *_, (requests, late) = answer["rss_mib"]
    return Bridge(
        model=model.name,
        weights=model.weights,
        ping_p50_ms=median["ping beside a decode, p50"],
        ping_p99_ms=median["ping beside a decode, p99"],
        idle_mib=median["idle, all"],
        idle_cpu_ms=median["idle CPU"],
        requests=requests,
        grown_mib=round(late - early, 2),
    )
