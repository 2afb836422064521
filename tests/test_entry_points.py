"""The commands of the wheel: all that a checkout has, and a missing package is one line that names what brings it."""

import json
import os
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


# The wheel itself


@pytest.fixture(scope="module")
def wheelhouse() -> str:
    return os.environ.get("QWEN3_ASR_MLX_WHEELHOUSE") or pytest.skip(
        "no wheels: fill a folder by scripts/qwen3-asr-mlx-install --download-to, and name it in "
        "QWEN3_ASR_MLX_WHEELHOUSE"
    )


class Installed:
    """An environment of its own with the wheel and what it depends on, and no extra."""

    def __init__(self, folder: Path, repository: Path, wheelhouse: str) -> None:
        self.folder, self._wheelhouse = folder, wheelhouse
        built = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder / "wheel"), str(repository)]
        subprocess.run([sys.executable, "-m", "pip", *built], check=True)
        (self.wheel,) = (folder / "wheel").glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.install("")

    def install(self, extra: str) -> None:
        offline = ["--quiet", "--no-index", "--find-links", self._wheelhouse]
        pip = [self.folder / "venv" / "bin" / "python", "-I", "-m", "pip", "--isolated", "install"]
        subprocess.run([*pip, *offline, f"{self.wheel}{extra}"], check=True)

    def run(self, command: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        program = self.folder / "venv" / "bin" / f"qwen3-asr-mlx-{command}"
        environ = {"PATH": os.defpath, "HOME": str(self.folder)}
        return subprocess.run(
            [program, *arguments],
            cwd=self.folder,
            env=environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.once
def test_the_wheel_has_every_command_and_names_what_each_lacks(
    repository: Path, wheelhouse: str, tmp_path: Path
) -> None:
    installed = Installed(tmp_path, repository, wheelhouse)
    sample = str(repository / "examples" / "audio" / "sample.wav")
    for command in ("bridge", "doctor", "live", "monitor"):
        assert installed.run(command, "--help").returncode == 0, command
    for command, *arguments in (("evaluate",), ("score",), ("monitor",)):
        lacking = installed.run(command, *arguments)
        assert (lacking.returncode, lacking.stdout) == (1, ""), command
        assert "[tools]" in lacking.stderr
        assert len(lacking.stderr.splitlines()) == 1

    requests = '{"type":"start"}\n' + json.dumps({"type": "transcribe", "audio": sample}) + '\n{"type":"stop"}\n'
    if sys.platform == "linux":
        python = [tmp_path / "venv" / "bin" / "python", "-c", "import qwen3_asr_mlx_runtime.engine.recognizer"]
        library = subprocess.run(python, capture_output=True, text=True, check=False).stderr.splitlines()[-1]
        (error, *_) = map(json.loads, installed.run("bridge", "--model", "demo", stdin=requests).stdout.splitlines())
        assert error["code"] == "engine_unavailable"
        doctor, quantize = installed.run("doctor").stdout, installed.run("quantize", "--help").stderr
        perftest = installed.run("perftest", "demo", sample).stderr
        for message in (library, error["message"], doctor, quantize, perftest):
            assert "qwen3-asr-mlx-runtime[cpu]" in message
        installed.install("[cpu]")
    assert "[tools]" in installed.run("perftest", "demo", sample).stderr
    assert installed.run("quantize", "--help").returncode == 0
    assert "Seven three one." in installed.run("bridge", "--model", "demo", stdin=requests).stdout
    assert "Seven three one." in installed.run("live", "--model", "demo", "--no-wait", sample).stdout
