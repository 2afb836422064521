"""One stage, one file; imports point one way; the conversation half knows no tensors."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "qwen3_asr_mlx_runtime"

# The listing is the data flow: a module imports only from above it. A name stands for a package's modules too.
COMMON = (
    "packages",
    "entry",
    "start",
    "errors",
    "shortage",
    "command",
    "languages",
    "utterance",
    "process_memory",
    "telemetry",
    "transcript",
    "jobs",
    "option_values",
    "model_name",
    "settings",
)
CONVERSATION = (
    "wire.descriptors",
    "wire.allowance",
    "wire.reader",
    "wire.writer",
    "wire",
    "protocol.json_text",
    "protocol.commands",
    "protocol.requests",
    "protocol.replies",
    "protocol.transcripts",
    "protocol.streams",
    "protocol.capabilities",
    "protocol.schema",
    "protocol",
    "client.exits",
    "client.errors",
    "client.messages",
    "client.child",
    "client.events",
    "client.life",
    "client.outgoing",
    "client.pipes",
    "client.requests",
    "client.connection",
    "client.options",
    "client.chunks",
    "client.answers",
    "client.session",
    "client.properties",
    "client.bridge",
    "client.waiting",
    "client.aio",
    "client",
    "audio.regular_file",
    "audio.byte_window",
    "audio.data_chunk",
    "audio.refusal",
    "audio.sound_file",
    "audio.mpeg",
    "audio.links",
    "audio.resampling",
    "audio.recording",
    "audio.pcm_buffer",
    "audio",
    "conversation.line_source",
    "conversation.effects",
    "conversation.audio_reader",
    "conversation.tasks",
    "conversation.turns",
    "conversation.reading",
    "conversation.occupancy",
    "conversation.work",
    "conversation.results",
    "conversation.outbox",
    "conversation.files",
    "conversation.loading",
    "conversation.starting",
    "conversation.spoken",
    "conversation.batcher",
    "conversation.telling",
    "conversation.finals",
    "conversation.naming",
    "conversation.streams",
    "conversation.stability",
    "conversation.partials",
    "conversation.intake",
    "conversation.decoding",
    "conversation.batches",
    "conversation.speech",
    "conversation.ending",
    "conversation.vitals",
    "conversation.parts",
    "conversation.reception",
    "conversation.session",
    "conversation.watchdog",
    "conversation",
)
NUMERIC = (
    "model.device",
    "model.control_groups",
    "model.features",
    "model.blocks",
    "model.tokenizer",
    "model.prompt",
    "model.config",
    "model.checkpoint",
    "model.integrity",
    "model.progress",
    "model.hub",
    "model.transfer",
    "model.download",
    "model.snapshot",
    "model.activations",
    "model.audio_tower",
    "model.skinny",
    "model.splice",
    "model.decoder",
    "model.job_memory",
    "model.memory",
    "model.qwen3_asr",
    "model.quantization",
    "model.shapes",
    "model.weights",
    "model.saving",
    "model.generate",
    "model.batch",
    "model.drift",
    "model.live_drift",
    "model.verify",
    "model",
    "recognition.pieces",
    "recognition.preparation",
    "recognition.recognition",
    "recognition.line",
    "recognition.sequential",
    "recognition.batching",
    "recognition.live_audio",
    "recognition.live_piece",
    "recognition.live",
    "recognition.listening",
    "recognition.schedule",
    "recognition",
    "engine",
    "engine_thread",
    "quantize_command",
)
TOOLS = (
    "tools.command",
    "tools.manifest",
    "tools.score.predictions",
    "tools.score.matching",
    "tools.score.normalization",
    "tools.score.alignment",
    "tools.score.bootstrap",
    "tools.score.scoring",
    "tools.score.comparison",
    "tools.score.table",
    "tools.score.main",
    "tools.score",
    "tools.progress_bar",
    "tools.stages",
    "tools.perftest.performance",
    "tools.perftest.report",
    "tools.perftest.table",
    "tools.perftest.main",
    "tools.perftest",
    "tools.doctor.finding",
    "tools.doctor.machine_check",
    "tools.doctor.self_check",
    "tools.doctor.main",
    "tools.doctor",
    "tools.machine",
    "tools.evaluate.configuration",
    "tools.evaluate.measurement",
    "tools.evaluate.evaluation",
    "tools.evaluate.table",
    "tools.evaluate.plotting",
    "tools.evaluate.charts",
    "tools.evaluate.report",
    "tools.evaluate.recipes",
    "tools.evaluate.noise",
    "tools.evaluate.main",
    "tools.evaluate",
    "tools.distribution",
    "tools.monitor.record",
    "tools.monitor.watch",
    "tools.monitor.figures",
    "tools.monitor.relay",
    "tools.monitor.screen",
    "tools.monitor.stderr_pane",
    "tools.monitor.session",
    "tools.monitor.main",
    "tools.monitor",
    "tools.live.record",
    "tools.live.screen",
    "tools.live.session",
    "tools.live.main",
    "tools.live",
    "tools",
)
MEETING = ("lifecycle", "daemon", "__main__")
ORDER = (*COMMON, *CONVERSATION, *NUMERIC, *TOOLS, *MEETING)
EXTRA = {"jiwer", "rich", "whisper_normalizer"}
EVALUATION = {  # the extras report and recipes
    "tools.evaluate.charts": {"matplotlib"},
    "tools.evaluate.plotting": {"matplotlib"},
    "tools.evaluate.report": {"jinja2"},
    "tools.evaluate.recipes": {"datasets"},
}
REFERENCES = {"torch", "qwen_asr", "mlx_lm", "transformers"}


def modules(source: Path) -> dict[str, ast.Module]:
    """Every module of the package by its name inside it, parsed."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), path)
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports anywhere in it, functions included: a module, or a name in one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def own_imports(name: str, tree: ast.Module) -> Iterator[str]:
    """The modules of the package that `name` imports, the longest name of the order that fits each."""
    for imported in imports(tree):
        inside = imported.removeprefix(f"{PACKAGE}.")
        if inside == imported:
            continue
        fitting = [known for known in ORDER if f"{inside}.".startswith(f"{known}.")]
        if fitting:
            yield max(fitting, key=len)


def upward_imports(found: dict[str, ast.Module]) -> list[str]:
    """`batcher imports engine` for every import from below."""
    place = {name: position for position, name in enumerate(ORDER)}
    return [
        f"{name} imports {imported}"
        for name, tree in found.items()
        if name in place
        for imported in own_imports(name, tree)
        if place[imported] >= place[name]
    ]


def imports_of(found: dict[str, ast.Module], libraries: set[str]) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, tree in found.items()
        for imported in imports(tree)
        if imported.split(".")[0] in libraries
    ]


def prints(tree: ast.Module) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "print"]


@pytest.fixture(scope="module")
def found(repository: Path) -> dict[str, ast.Module]:
    return modules(repository / "src" / PACKAGE)


def test_every_module_has_its_place_in_the_order(found: dict[str, ast.Module]) -> None:
    assert [name for name in found if name and name not in ORDER] == []
    assert [name for name in ORDER if name not in found] == []


def test_a_module_imports_only_from_above_it(found: dict[str, ast.Module]) -> None:
    assert upward_imports(found) == []


def mutual_imports(found: dict[str, ast.Module]) -> list[tuple[str, str]]:
    """Pairs of folders of which each imports the other."""
    seen = {
        (name.split(".")[0], own.split(".")[0])
        for name, tree in found.items()
        if "." in name
        for own in own_imports(name, tree)
    }
    return sorted((one, other) for one, other in seen if one < other and (other, one) in seen)


def test_of_two_folders_only_one_imports_the_other(found: dict[str, ast.Module]) -> None:
    assert mutual_imports(found) == []
    back = ast.parse(f"from {PACKAGE}.recognition.live import Live")
    assert mutual_imports(found | {"model.memory": back}) == [("model", "recognition")]


def test_imports_are_absolute(found: dict[str, ast.Module]) -> None:
    assert [
        f"{name}: {imported}" for name, tree in found.items() for imported in imports(tree) if imported[0] == "."
    ] == []


@pytest.mark.parametrize(
    "line",
    [
        f"from {PACKAGE}.engine import Engine",
        f"from {PACKAGE} import engine",
        f"import {PACKAGE}.engine",
        f"def late():\n    import {PACKAGE}.engine as e",
    ],
)
def test_an_import_from_below_is_named(line: str) -> None:
    assert upward_imports({"conversation.session": ast.parse(line)}) == ["conversation.session imports engine"]
    assert upward_imports({"daemon": ast.parse(line)}) == []


def test_the_conversation_half_never_imports_mlx(found: dict[str, ast.Module]) -> None:
    half = {name: found[name] for name in (*COMMON, *CONVERSATION) if name in found}
    assert imports_of(half, {"mlx", "mlx_lm", "transformers"}) == []
    assert imports_of({"session": ast.parse("from mlx import core as mx")}, {"mlx"}) == ["session imports mlx.core"]


def test_the_numeric_half_never_sees_a_message(found: dict[str, ast.Module]) -> None:
    seen = {(name, own) for name in NUMERIC if name in found for own in own_imports(name, found[name])}
    doors = {"audio.recording"}  # long audio is cut where the pieces are decoded
    assert [f"{name} imports {own}" for name, own in sorted(seen) if own in set(CONVERSATION) - doors] == []


def test_nothing_but_the_tools_needs_their_extra_or_imports_them(found: dict[str, ast.Module]) -> None:
    others = {name: tree for name, tree in found.items() if name not in TOOLS}
    assert imports_of(others, EXTRA) == []
    assert [f"{name} imports {own}" for name in others for own in own_imports(name, others[name]) if own in TOOLS] == []
    tools = {name: found[name] for name in TOOLS}
    assert {line.split(" imports ")[1].split(".")[0] for line in imports_of(tools, EXTRA)} == EXTRA


def test_nothing_but_the_report_and_the_recipes_needs_their_extras(found: dict[str, ast.Module]) -> None:
    libraries = set.union(*EVALUATION.values())
    used = {
        name: {line.split(" imports ")[1].split(".")[0] for line in imports_of({name: tree}, libraries)}
        for name, tree in found.items()
    }
    assert {name: needed for name, needed in used.items() if needed} == EVALUATION


def test_the_tests_have_what_the_tools_need(repository: Path) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in ("tools", "report", "recipes", "vad", "reference"):
        assert set(tables["project"]["optional-dependencies"][extra]) <= set(tables["dependency-groups"]["dev"])


def test_the_reference_implementations_are_never_imported(found: dict[str, ast.Module]) -> None:
    assert imports_of(found, REFERENCES) == []
    assert imports_of({"engine": ast.parse("import torch.nn")}, REFERENCES) == ["engine imports torch.nn"]


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", name)[0].replace("_", "-") for name in requirements}


def test_what_the_runtime_depends_on_is_what_it_imports(repository: Path, found: dict[str, ast.Module]) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = {name: tree for name, tree in found.items() if name not in TOOLS}
    imported = {name.split(".")[0].replace("_", "-") for tree in runtime.values() for name in imports(tree)}
    declared = distributions(tables["dependencies"])
    assert declared - imported == set()
    assert distributions(tables["optional-dependencies"]["reference"]) & (declared | imported) == set()


def test_nothing_prints(found: dict[str, ast.Module]) -> None:
    assert {name: lines for name, tree in found.items() if (lines := prints(tree))} == {}
    assert prints(ast.parse("x = 1\nprint(x)")) == [2]


def imported_by(repository: Path, *arguments: str) -> set[str]:
    """Every module that a fresh, isolated interpreter imports, up to its end, however it ends."""
    start = f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
    command = [sys.executable, "-I", "-X", "importtime", "-c", start + arguments[0], *arguments[1:]]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in process.stderr.splitlines() if "|" in line}


def test_the_conversation_half_and_the_daemon_load_no_model_library(repository: Path) -> None:
    modules = [*COMMON, *CONVERSATION, *MEETING]
    loaded = imported_by(repository, "; ".join(f"import {PACKAGE}.{name}" for name in modules))
    assert PACKAGE in loaded
    assert loaded & {"mlx", "mlx_lm", "transformers", "tokenizers", "torch"} == set()


@pytest.mark.parametrize("option", ["--print-capabilities", "--help"])
def test_telling_what_it_can_do_costs_no_numerics(repository: Path, option: str) -> None:
    start = f"from {PACKAGE}.__main__ import main; sys.exit(main())"
    loaded = imported_by(repository, start, option)
    assert PACKAGE in loaded
    assert loaded & {"mlx", "mlx_lm", "transformers", "torch", "numpy", "soundfile"} == set()


def test_the_lock_pins_every_dependency_and_knows_no_reference_and_no_address(repository: Path) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    extras = tables["project"]["optional-dependencies"].values()
    wanted = sum([*extras, tables["dependency-groups"]["dev"]], tables["project"]["dependencies"])
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if re.match(r"[a-z0-9-]+==", line)}
    assert distributions(wanted) <= pinned
    assert pinned.isdisjoint({"torch", "qwen-asr", "nagisa"})
    assert [line for line in lines if "://" in line or "index" in line] == []
