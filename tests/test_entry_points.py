"""The commands of a checkout are those of the wheel, and a missing package is one line that names what brings it."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime.entry import COMMANDS
from qwen3_asr_mlx_runtime.packages import EXTRAS, missing

NO_BACKEND = "libmlx.so: cannot open shared object file: No such file or directory"


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_command_of_a_checkout_is_one_of_the_wheel(repository: Path, project: dict) -> None:
    launchers = {path.name for path in (repository / "scripts").glob("qwen3-asr-mlx-*")}
    assert project["scripts"].keys() == launchers == {f"qwen3-asr-mlx-{name}" for name in COMMANDS}
    for target in project["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_extra_that_is_named_is_the_one_that_brings_the_module(project: dict) -> None:
    for module, extra in EXTRAS.items():
        wanted = project["optional-dependencies"][extra]
        assert [name for name in wanted if name.startswith(module.replace("_", "-"))], module


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ModuleNotFoundError("No module named 'rich.table'", name="rich.table"), "qwen3-asr-mlx-runtime[tools]"),
        (ModuleNotFoundError("No module named 'soxr'", name="soxr"), "qwen3-asr-mlx-runtime'"),
        (ImportError(NO_BACKEND, name="core"), "qwen3-asr-mlx-runtime[cpu]"),
        (ImportError(missing(ImportError(NO_BACKEND, name="core")), name="core"), "MLX has no backend: pip install"),
        (ImportError("libcudart.so.13 is broken", name="core"), "libcudart.so.13 is broken"),
        (ImportError("/qwen3-asr-mlx-runtime/x.so: failed to map segment", name="x"), "x cannot be imported: "),
        (ModuleNotFoundError("No module named 'qwen3_asr_mlx_runtime.x'", name="qwen3_asr_mlx_runtime.x"), "runtime.x"),
    ],
)
def test_what_is_missing_is_named_with_what_brings_it(error: ImportError, named: str) -> None:
    assert named in missing(error)
    assert "cannot be imported: MLX" not in missing(error)
    assert len(missing(error).splitlines()) == 1


@pytest.mark.parametrize(("command", "module", "extra"), [("score", "jiwer", "tools"), ("evaluate", "rich", "tools")])
def test_a_missing_extra_is_one_line_and_exit_1(repository: Path, command: str, module: str, extra: str) -> None:
    start = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r}); sys.modules[{module!r}] = None\n"
        f"from qwen3_asr_mlx_runtime.entry import {command}; {command}()"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", start, "--help"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"[{extra}]" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_evaluation_misses_its_report_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    from qwen3_asr_mlx_runtime.entry import evaluate

    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "qwen3_asr_mlx_runtime.tools.evaluate.report", raising=False)
    monkeypatch.setattr(sys, "argv", ["", "--manifest", str(tmp_path / "not looked at")])
    with pytest.raises(SystemExit, match=r"^1$"):
        evaluate()
    assert "[report]" in capsys.readouterr().err
