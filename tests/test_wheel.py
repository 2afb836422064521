"""The wheel and the sdist: what they hold, what PyPI shows of them, and that the wheel works without the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.entry import COMMANDS
from qwen3_asr_mlx_runtime.packages import EXTRAS

pytestmark = pytest.mark.once
PACKAGE = "qwen3_asr_mlx_runtime"
TEXTS = ("LICENSE", "NOTICE", "constraints.txt", "pyproject.toml")
MAX_BYTES = 12_000_000  # the two demonstration checkpoints take 11


@dataclass(frozen=True)
class Built:
    sdist: Path
    wheel: Path

    def metadata(self) -> Message:
        with zipfile.ZipFile(self.wheel) as archive:
            text = archive.read(f"{PACKAGE}-{__version__}.dist-info/METADATA").decode()
        return Parser().parsestr(text)


def build(source: Path, target: Path, *options: str) -> None:
    """With the backend that the tests have: nothing is downloaded."""
    command = ["build", "--no-isolation", "--outdir", str(target), *options, str(source)]
    ran = subprocess.run([sys.executable, "-I", "-m", *command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of the checkout, and the wheel that is built from it; or those in QWEN3_ASR_MLX_DIST."""
    given = os.environ.get("QWEN3_ASR_MLX_DIST")
    folder = Path(given) if given else tmp_path_factory.mktemp("dist")
    if not given:
        build(repository, folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


def kept_by_git(repository: Path, *folders: str) -> set[str]:
    """Files that git tracks or would."""
    if not (repository / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git, or no repository, to ask for its files")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in listed if name and (repository / name).exists()}


def test_the_wheel_holds_the_package_and_what_the_installer_takes_from_a_checkout(
    repository: Path, built: Built
) -> None:
    about = f"{PACKAGE}-{__version__}.dist-info"
    expected = {name.removeprefix("src/") for name in kept_by_git(repository, "src")}
    expected |= {f"{PACKAGE}/tools/install/source/{name}" for name in TEXTS}
    expected |= {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    expected |= {f"{about}/licenses/{name}" for name in ("LICENSE", "NOTICE")}
    assert set(zipfile.ZipFile(built.wheel).namelist()) == expected


def test_the_sdist_holds_what_builds_the_wheel_and_no_more(repository: Path, built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    texts = {"PKG-INFO", ".gitignore", "CHANGELOG.md", "README.md", *TEXTS}
    assert names == kept_by_git(repository, "src") | texts


def test_the_wheel_of_the_sdist_is_that_of_the_checkout(repository: Path, built: Built, tmp_path: Path) -> None:
    build(repository, tmp_path, "--wheel")
    (wheel,) = tmp_path.iterdir()
    assert wheel.name == built.wheel.name
    assert wheel.read_bytes() == built.wheel.read_bytes()


def test_neither_is_larger_than_the_checkpoints_explain(built: Built) -> None:
    sizes = {file.name: file.stat().st_size for file in (built.sdist, built.wheel)}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


@pytest.mark.parametrize("words", [("twine", "check", "--strict"), ("check_wheel_contents",)])
def test_the_checkers_of_distributions_find_nothing(repository: Path, built: Built, words: tuple[str, ...]) -> None:
    files = [built.wheel, built.sdist] if words[0] == "twine" else [built.wheel]
    command = [sys.executable, "-I", "-m", *words, *map(str, files)]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_metadata_name_versions_licences_and_commands(repository: Path, built: Built) -> None:
    metadata = built.metadata()
    assert (metadata["Name"], metadata["Version"]) == ("qwen3-asr-mlx-runtime", __version__)
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == (
        "Apache-2.0 AND CC-BY-SA-4.0",
        ["LICENSE", "NOTICE"],
    )
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(metadata.get_all("Provides-Extra") or ()) == project["optional-dependencies"].keys()
    entry_points = zipfile.ZipFile(built.wheel).read(f"{PACKAGE}-{__version__}.dist-info/entry_points.txt").decode()
    assert set(re.findall(r"^qwen3-asr-mlx-(\w+) = ", entry_points, re.MULTILINE)) == COMMANDS.keys()


def test_the_readme_on_pypi_is_that_of_the_repository_without_links_that_lead_nowhere(
    repository: Path, built: Built
) -> None:
    shown = str(built.metadata().get_payload())
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https?:)[^)]*\)", readme)
    assert re.findall(r"\]\((?!https?:)[^)]*\)", shown) == []
    without_pictures = re.sub(r"^!\[.*\n\n", "", readme, flags=re.MULTILINE)
    assert without_pictures != readme
    assert shown.strip() == re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", without_pictures).strip()


# Installed


@pytest.fixture(scope="module")
def wheelhouse() -> str:
    return os.environ.get("QWEN3_ASR_MLX_WHEELHOUSE") or pytest.skip(
        "no wheels: fill a folder by scripts/qwen3-asr-mlx-install --download-to, and name it in "
        "QWEN3_ASR_MLX_WHEELHOUSE"
    )


class Installed:
    """An environment of its own with the wheel and what it depends on, and no extra."""

    def __init__(self, folder: Path, wheel: Path, wheelhouse: str) -> None:
        self.folder, self._wheel = folder, wheel
        self._offline = ("--isolated", "--no-index", "--find-links", wheelhouse)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.install("", *self._offline)

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def add_backend(self) -> None:
        """Without a network; on a Mac it is there already."""
        if sys.platform == "linux":
            self.install("[cpu]", *self._offline)

    def install(self, extras: str, *options: str) -> None:
        pip = [self.python, "-I", "-m", "pip", "install", "--quiet", *options]
        subprocess.run([*pip, f"{self._wheel}{extras}"], check=True)

    def run(self, command: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.start(self.folder / "venv" / "bin" / f"qwen3-asr-mlx-{command}", *arguments, stdin=stdin)

    def start(self, program: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
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


@pytest.fixture
def installed(built: Built, wheelhouse: str, tmp_path: Path) -> Installed:
    return Installed(tmp_path, built.wheel, wheelhouse)


@pytest.fixture
def sample(repository: Path, tmp_path: Path) -> str:
    """A copy outside of the checkout."""
    return str(shutil.copy2(repository / "examples" / "audio" / "sample.wav", tmp_path))


def conversation(sample: str) -> str:
    return "".join(
        json.dumps(request) + "\n"
        for request in ({"type": "start"}, {"type": "transcribe", "audio": sample}, {"type": "stop"})
    )


def test_every_command_is_there_and_names_what_it_lacks(installed: Installed, sample: str) -> None:
    for command in COMMANDS:
        assert installed.run(command, "--version").stdout == f"qwen3-asr-mlx-{command} {__version__}\n"
    for command in ("bridge", "doctor", "install", "live", "monitor", "transcribe"):
        assert installed.run(command, "--help").returncode == 0, command
    assert "[completion]" in installed.run("bridge", "--print-completion", "bash").stderr
    for command in ("evaluate", "score", "monitor"):
        lacking = installed.run(command)
        assert (lacking.returncode, lacking.stdout) == (1, ""), command
        assert "[tools]" in lacking.stderr
        assert len(lacking.stderr.splitlines()) == 1

    if sys.platform == "linux":
        python = [installed.python, "-c", "import qwen3_asr_mlx_runtime.engine.recognizer"]
        library = subprocess.run(python, capture_output=True, text=True, check=False).stderr.splitlines()[-1]
        replies = installed.run("bridge", "--model", "demo", stdin=conversation(sample)).stdout.splitlines()
        (error, *_) = map(json.loads, replies)
        assert error["code"] == "engine_unavailable"
        doctor, quantize = installed.run("doctor").stdout, installed.run("quantize", "--help").stderr
        perftest = installed.run("perftest", "demo", sample).stderr
        for message in (library, error["message"], doctor, quantize, perftest):
            assert "qwen3-asr-mlx-runtime[cpu]" in message
    installed.add_backend()
    assert "[tools]" in installed.run("perftest", "demo", sample).stderr
    assert installed.run("quantize", "--help").returncode == 0


def test_the_demonstration_runs_from_the_wheel(installed: Installed, sample: str) -> None:
    installed.add_backend()
    assert "Seven three one." in installed.run("bridge", "--model", "demo", stdin=conversation(sample)).stdout
    assert "Seven three one." in installed.run("live", "--model", "demo", "--no-wait", sample).stdout
    assert installed.run("transcribe", "--model", "demo", "--stdout", sample).stdout == "Seven three one.\n"


def test_the_wheel_builds_the_folder_that_an_app_ships(installed: Installed, wheelhouse: str, sample: str) -> None:
    installed_here = installed.run("install", "--prefix", "asr", "--wheelhouse", wheelhouse)
    assert installed_here.returncode == 0, installed_here.stderr[-3000:]
    shutil.rmtree(installed.folder / "venv")
    launcher = Path(installed_here.stdout.strip())
    assert launcher == installed.folder / "asr" / "bin" / "qwen3-asr-mlx-bridge"
    assert "Seven three one." in installed.start(launcher, "--model", "demo", stdin=conversation(sample)).stdout
    for name in ("LICENSE", "NOTICE"):
        assert (installed.folder / "asr" / name).exists()


def extras() -> Iterator[str]:
    """Those that commands ask for, but for the data sets of recipes, which no help needs."""
    yield from {*EXTRAS.values()} - {"recipes"}
    if sys.platform == "linux":
        yield "cpu"


def test_every_command_with_its_extras_explains_itself(installed: Installed, repository: Path) -> None:
    """From the package index, in the versions of the lock."""
    installed.install(f"[{','.join(sorted(extras()))}]", "--constraint", str(repository / "constraints.txt"))
    for command in COMMANDS:
        shown = installed.run(command, "--help")
        assert (shown.returncode, shown.stderr) == (0, ""), command
        assert "example" in shown.stdout
        assert f"qwen3-asr-mlx-{command}" in installed.run(command, "--print-completion", "bash").stdout
