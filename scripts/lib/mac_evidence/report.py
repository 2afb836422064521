"""Evidence → Markdown: the report of one run, and the page that compares runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mac_evidence.evidence import (
    Bridge,
    Equal,
    Evidence,
    Finals,
    Findings,
    Kills,
    Memory,
    Partials,
    Speed,
    Start,
    Step,
    Tests,
)

Rows = Iterator[list[str]]
NOT_A_MAC = "**not a Mac**"
NONE = "–"

HEAD = (Path(__file__).parent / "page.md").read_text(encoding="utf-8")


def report(evidence: Evidence) -> str:
    """For people."""
    lines = ["# Evidence of one run", "", *_facts(evidence), "", "## Steps", ""]
    lines += _table(["step", "outcome", "s", "W", "found"], ([*row] for row in _steps(evidence)))
    for table in TABLES:
        if rows := [*table.rows(evidence)]:
            lines += ["", f"## {table.title}", "", *_table(table.heads, rows)]
    lines += ["", "## Commands", "", *(f"- {step.name}: `{step.command}`" for step in evidence.steps)]
    return "\n".join(lines) + "\n"


def page(runs: Sequence[tuple[str, Evidence]]) -> str:
    """`runs`: the folder of each, and what it holds. Macs first, the newest first."""
    ordered = sorted(runs, key=lambda run: (run[1].is_mac, run[1].date, run[0]), reverse=True)
    lines = [HEAD, "## Runs", ""]
    heads = ["run", "machine", "memory", "system", "MLX", "commit", "form", "steps passed", "not passed"]
    lines += _table(heads, (_run(folder, evidence) for folder, evidence in ordered))
    for table in TABLES:
        rows = [[folder, *row] for folder, evidence in ordered for row in table.rows(evidence)]
        if rows:
            lines += ["", f"## {table.title}", "", *_table(["run", *table.heads], rows)]
    return "\n".join(lines) + "\n"


def _facts(evidence: Evidence) -> Rows:
    machine = evidence.machine
    facts = {
        "machine": f"{_machine(evidence)}, {machine.cores} cores, {_memory_of(evidence)}",
        "system": machine.system,
        "MLX computes on": machine.device,
        "power": machine.power or "not told",
        "thermal pressure, start and end": ", ".join(each or "not told" for each in evidence.thermal),
        "processes that wanted to run before": "not told" if evidence.load is None else f"{evidence.load:.1f}",
        "idle": "not told" if evidence.idle_watts is None else f"{evidence.idle_watts:g} W",
        "versions": ", ".join(f"{name} {number}" for name, number in machine.versions.items()),
        "commit": evidence.commit or "unknown",
        "date, form, duration": f"{evidence.date}, {evidence.form}, {evidence.seconds / 60:.0f} min",
    }
    return _table(["", ""], ([name, value] for name, value in facts.items()))


def _run(folder: str, evidence: Evidence) -> list[str]:
    passed = sum(step.outcome == "passed" for step in evidence.steps)
    others = ", ".join(f"{step.name} ({step.outcome})" for step in evidence.steps if step.outcome != "passed")
    return [
        f"[{folder}]({folder}/README.md)",
        _machine(evidence),
        _memory_of(evidence),
        evidence.machine.system,
        f"{evidence.machine.versions.get('mlx', '?')}, {evidence.machine.device}",
        evidence.commit or NONE,
        evidence.form,
        f"{passed} of {len(evidence.steps)}",
        others or NONE,
    ]


def _machine(evidence: Evidence) -> str:
    return evidence.machine.processor if evidence.is_mac else f"{NOT_A_MAC}: {evidence.machine.processor}"


def _memory_of(evidence: Evidence) -> str:
    return f"{evidence.machine.memory_bytes / 2**30:.0f} GiB"


def _steps(evidence: Evidence) -> Rows:
    for step in evidence.steps:
        yield [step.name, step.outcome, f"{step.seconds:.0f}", _number(step.watts), _found(step)]


def _found(step: Step) -> str:
    match figures := step.figures:
        case None if step.outcome == "failed":
            return "no figures"
        case Findings():
            troubles = [*figures.failures, *figures.warnings]
            return "; ".join([f"{figures.ok} ok", *troubles])
        case Tests():
            failed = f", failed: {', '.join(figures.failures)}" if figures.failures else ""
            return f"{figures.passed} passed, {figures.skipped} skipped{failed}"
        case Equal():
            return f"{figures.equal} of {figures.utterances} equal"
        case Kills():
            return f"{figures.kills} kills, {figures.different} of {figures.texts} texts differ"
    return ""


def _equals(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Equal):
        of = f"{found.equal} of {found.utterances}"
        yield [found.how, found.model, found.weights, found.dtype, of, str(found.again)]


def _kills(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Kills):
        yield [str(found.kills), str(found.texts), str(found.different), str(found.failures)]


def _starts(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Start):
        first = f"{found.first_ready:.2f} ({found.load})"
        rest = (found.ready, found.first_utterance, found.tenth_utterance, found.reload)
        yield [found.model, found.weights, first, *(f"{seconds:.2f}" for seconds in rest)]


def _speeds(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Speed):
        for one in found.contenders:
            figures = (one.load_seconds, one.token_ms, found.audio_seconds / one.seconds, one.tower_ms, one.prefill_ms)
            yield [found.model, found.weights, one.name, *map(_number, figures), f"{one.peak_mib:,.0f}"]


def _partials(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Partials):
        first, age = (f"{found.first_p50:.2f}, {found.first_p95:.2f}", f"{found.age_p50:.3f}, {found.age_p95:.3f}")
        yield [found.model, found.weights, str(found.partials), first, age]


def _finals(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Finals):
        for one in found.finals:
            before = "no `pause`" if one.pause_ms is None else f"{one.pause_ms:g}"
            figures = (f"{one.p50_ms:,.1f}", f"{one.p95_ms:,.1f}", f"{one.ready} of {one.count}")
            yield [found.model, found.weights, f"{one.audio_seconds:g}", before, *figures]


def _memories(evidence: Evidence) -> Rows:
    for step, found in evidence.of(Memory):
        slope = f"{found.slope:+.2f} ± {found.slope_error:.2f}"
        energy = _number(joules_a_minute(step, found, evidence.idle_watts))
        last = f"{found.last_mib:,.0f}"
        yield [found.model, found.weights, found.measured, str(found.utterances), slope, last, energy]


def _bridges(evidence: Evidence) -> Rows:
    for _, found in evidence.of(Bridge):
        pings, idle = (found.ping_p50_ms, found.ping_p99_ms), (found.idle_mib, found.idle_cpu_ms)
        grown = f"{found.grown_mib:+.1f} ({found.requests:,})"
        yield [found.model, found.weights, *map(_number, (*pings, *idle)), grown]


def joules_a_minute(step: Step, memory: Memory, idle_watts: float | None) -> float | None:
    """Energy above idle for a minute of audio; None where the machine does not tell."""
    if step.watts is None or idle_watts is None:
        return None
    return max(0.0, step.watts - idle_watts) * step.seconds / (memory.audio_seconds / 60)


@dataclass(frozen=True)
class Table:
    title: str
    heads: Sequence[str]
    rows: Callable[[Evidence], Rows]


TABLES = (
    Table("Equal transcripts", ["", "model", "weights", "dtype", "equal", "decoded again, or step by step"], _equals),
    Table("A worker that is killed", ["kills", "texts compared", "different", "other failures"], _kills),
    Table(
        "Start, s",
        ["model", "weights", "first process to `ready`", "to `ready`", "first utterance", "tenth", "reload"],
        _starts,
    ),
    Table(
        "Speed",
        [
            *("model", "weights", "of", "load, s", "a token, ms"),
            *("real-time factor", "tower, ms", "prefill, ms", "MLX peak, MiB"),
        ],
        _speeds,
    ),
    Table(
        "Partials, s",
        ["model", "weights", "partials", "first partial p50, p95", "age p50, p95"],
        _partials,
    ),
    Table(
        "Stop to final",
        ["model", "weights", "audio, s", "`pause` before, ms", "p50, ms", "p95, ms", "ready before the end"],
        _finals,
    ),
    Table(
        "Memory and energy",
        [
            *("model", "weights", "measured", "utterances"),
            *("slope, MiB per thousand", "last, MiB", "J a minute"),
        ],
        _memories,
    ),
    Table(
        "The process",
        [
            *("model", "weights", "`ping` beside a decode p50, ms", "p99, ms"),
            *("idle, MiB", "idle CPU, ms a second", "RSS grown after requests, MiB"),
        ],
        _bridges,
    ),
)


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _table(heads: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]
