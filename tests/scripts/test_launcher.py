"""The launcher makes its environment once, whole or not at all, and hands the process over to Python.

Everything is real, the interpreter, venv and pip too, except what is installed: a wheel of one line.
"""

import dataclasses
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_mlx_runtime.tools.install.environment import reason

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("cat", "dirname", "id", "openssl", "printf", "readlink", "sed", "sha256sum", "shasum", "sh", "uname")

MAC = 'case ${1:-} in -sm) echo "Darwin arm64" ;; -m) echo arm64 ;; *) echo Darwin ;; esac'

BRIDGE = """
import json, os, sys
import spoken

def main():
    report = {"launched": os.environ["QWEN3_ASR_MLX_LAUNCHED"], "arguments": sys.argv[1:], "pid": os.getpid(),
              "spoken": spoken.VERSION, "stdin": sys.stdin.read(),
              "isolated": sys.flags.isolated, "source": sys.path[0], "folder": os.getcwd()}
    print(json.dumps(report))
    return 0
"""

# A package that must be built, whose build says that it has begun and then waits for as long as it is listened to.
ENDLESS_BUILD = """
import os, socket
connection = socket.create_connection(("127.0.0.1", int(os.environ["BUILD_PORT"])))
connection.recv(1)
"""


@dataclass(frozen=True)
class Checkout:
    """A small project with the launcher, the structure of pyproject.toml and the lock of the real one."""

    root: Path
    home: Path
    wheels: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def launcher(self) -> Path:
        return self.root / "scripts" / "qwen3-asr-mlx-bridge"

    @property
    def cache(self) -> Path:
        folder = "Library/Caches" if sys.platform == "darwin" else ".cache"
        return self.home / folder / "qwen3-asr-mlx-runtime"

    def environments(self) -> list[Path]:
        return sorted(path for path in (self.cache / "environments").glob("*") if path.is_dir())

    def start(
        self, *arguments: str, launcher: Path | str = "", environ: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        options |= dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [str(launcher or self.launcher), *arguments]
        return subprocess.Popen(command, env={**self.environ, **(environ or {})}, text=True, **options)

    def run(self, *arguments: str, stdin: str = "", **options: Any) -> "Outcome":
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(stdin, timeout=300)
        return Outcome(process.pid, process.returncode, stdout, stderr)


@dataclass(frozen=True)
class Outcome:
    pid: int
    code: int
    stdout: str
    stderr: str

    def line(self) -> dict[str, Any]:
        """The one line of stdout."""
        lines = self.stdout.splitlines()
        assert len(lines) == 1, (lines, self.stderr)
        message: dict[str, Any] = json.loads(lines[0])
        return message


def log_of(checkout: Checkout) -> str:
    (log,) = (checkout.cache / "environments").glob("*.log")
    return log.read_text()


def fatal_code(outcome: Outcome) -> str:
    assert outcome.code == 2, outcome
    assert outcome.line()["type"] == "fatal"
    assert outcome.stderr.strip(), "nobody who reads stderr was told"
    return str(outcome.line()["code"])


def project_file(real: str) -> str:
    """The real pyproject.toml with one dependency in it."""
    text = re.sub(r"(?ms)^dependencies = \[.*?^\]", 'dependencies = [\n    "spoken",\n]', real)
    return re.sub(
        r"(?ms)^(cpu|cuda13|vad|media|transcribe|serve|wyoming|remote|completion) = \[.*?\]$", r'\1 = ["spoken"]', text
    )


def write_wheel(folder: Path, platform: str = "any", native: bytes = b"") -> None:
    tag, about = f"py3-none-{platform}", "spoken-1.0.dist-info"
    files: dict[str, str | bytes] = {
        "spoken.py": f"VERSION = '1.0'\nPLATFORM = {platform!r}\n",
        "libspoken.dylib": native,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: spoken\nVersion: 1.0\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"spoken-1.0-{tag}.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def write_endless_source(folder: Path) -> None:
    project = '[build-system]\nrequires = []\nbuild-backend = "endless"\nbackend-path = ["."]\n'
    files = {"pyproject.toml": project, "endless.py": ENDLESS_BUILD, "PKG-INFO": "Name: spoken\nVersion: 1.0\n"}
    with tarfile.open(folder / "spoken-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"spoken-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, BytesIO(text.encode()))


def make_checkout(repository: Path, folder: Path) -> Checkout:
    root, home, wheels = folder / "a check out", folder / "a home", folder / "wheels"
    package = root / "src" / "qwen3_asr_mlx_runtime"
    for path in (package, home, wheels):
        path.mkdir(parents=True)
    shutil.copytree(repository / "scripts" / "lib", root / "scripts" / "lib")
    shutil.copy2(repository / "scripts" / "qwen3-asr-mlx-bridge", root / "scripts")
    (root / "pyproject.toml").write_text(project_file((repository / "pyproject.toml").read_text()))
    (root / "constraints.txt").write_text("spoken==1.0\n")
    shutil.copy2(repository / "src" / "qwen3_asr_mlx_runtime" / "__init__.py", package)
    for name in ("command.py", "command_line.py", "entry.py", "errors.py", "packages.py", "start.py"):
        shutil.copy2(repository / "src" / "qwen3_asr_mlx_runtime" / name, package)
    shutil.copytree(repository / "src" / "qwen3_asr_mlx_runtime" / "tools" / "install", package / "tools" / "install")
    (package / "__main__.py").write_text(BRIDGE)
    environ = {"PATH": os.defpath, "HOME": str(home), "QWEN3_ASR_MLX_PYTHON": sys.executable}
    environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    return Checkout(root, home, wheels, environ)


@pytest.fixture
def fresh(repository: Path, tmp_path: Path) -> Checkout:
    checkout = make_checkout(repository, tmp_path)
    write_wheel(checkout.wheels)
    return checkout


@pytest.fixture(scope="module")
def first_start(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Outcome]:
    checkout = make_checkout(repository, tmp_path_factory.mktemp("launcher"))
    write_wheel(checkout.wheels)
    return checkout, checkout.run("demo", "--context", "a 'b' \"c\" $HOME", "", stdin='{"type":"stop"}\n')


@pytest.fixture
def installed(first_start: tuple[Checkout, Outcome]) -> Checkout:
    return first_start[0]


# The first start


def test_the_first_start_installs_on_stderr_and_then_runs_the_bridge(first_start: tuple[Checkout, Outcome]) -> None:
    checkout, outcome = first_start
    assert outcome.code == 0, outcome.stderr
    report = outcome.line()
    assert report["spoken"] == "1.0"
    assert report["source"] == str(checkout.root / "src")
    begun, done = outcome.stderr.splitlines()
    assert begun.startswith("making the Python environment ")
    assert done == "installed: 1 of 1 packages"
    assert "Successfully installed spoken-1.0" in log_of(checkout)


def test_commands_waiting_on_stdin_and_odd_arguments_survive_the_installation(
    first_start: tuple[Checkout, Outcome],
) -> None:
    report = first_start[1].line()
    assert report["stdin"] == '{"type":"stop"}\n'
    assert report["arguments"] == ["demo", "--context", "a 'b' \"c\" $HOME", ""]


def test_the_process_that_was_started_becomes_the_bridge(first_start: tuple[Checkout, Outcome]) -> None:
    assert first_start[1].line()["pid"] == first_start[1].pid


def test_the_bridge_learns_which_parent_its_launcher_had(first_start: tuple[Checkout, Outcome]) -> None:
    assert first_start[1].line()["launched"] == f"{first_start[1].pid} {os.getpid()}"


def test_the_environment_lies_in_the_users_cache_folder_and_holds_no_copy_of_the_package(installed: Checkout) -> None:
    (environment,) = installed.environments()
    assert (environment / "bin" / "python").exists()
    assert list(environment.rglob("spoken.py"))
    assert not list(environment.rglob("qwen3_asr*"))


# Later starts


def test_a_later_start_installs_nothing(installed: Checkout) -> None:
    outcome = installed.run("--no-install")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.line()["pid"] == outcome.pid
    assert outcome.line()["arguments"] == ["--no-install"]


def test_it_starts_from_any_folder_through_links(installed: Checkout, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bridge").symlink_to(os.path.relpath(installed.launcher, tmp_path / "bin"))
    (tmp_path / "link").symlink_to("bin/bridge")
    for launcher, folder in ((tmp_path / "link", "/"), ("./link", tmp_path), ("bin/bridge", tmp_path)):
        outcome = installed.run(launcher=launcher, cwd=folder)
        assert outcome.line()["folder"] == str(folder)


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "scripts").glob("qwen3-asr-mlx-*"))])
def test_every_command_finds_the_checkout_through_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT / "scripts" / name)
    environ = {**os.environ, "QWEN3_ASR_MLX_HOME": str(tmp_path / "home"), "QWEN3_ASR_MLX_NO_INSTALL": "1"}
    environ["QWEN3_ASR_MLX_PYTHON"] = sys.executable
    ran = subprocess.run([tmp_path / "link", "--help"], env=environ, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith(("usage:", '{"type":"fatal","code":"environment_missing"'))


def test_variables_and_the_working_folder_put_nothing_in_front_of_our_modules(
    installed: Checkout, tmp_path: Path
) -> None:
    for name in ("json.py", "spoken.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    outcome = installed.run(environ={"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/none"}, cwd=tmp_path)
    assert outcome.line()["isolated"] == 1


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("constraints.txt", "spoken==1.0", "spoken==2.0"),
        ("pyproject.toml", '    "spoken",\n', '    "spoken>=2",\n'),
        ("pyproject.toml", 'cpu = ["spoken"]', 'cpu = ["spoken>=2"]'),
    ],
)
def test_changed_dependencies_ask_for_another_environment(
    installed: Checkout, file: str, before: str, after: str
) -> None:
    path = installed.root / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    try:
        assert fatal_code(installed.run("--no-install")) == "environment_missing"
    finally:
        path.write_text(text)


def test_another_line_of_the_project_file_does_not(installed: Checkout) -> None:
    path = installed.root / "pyproject.toml"
    text = path.read_text()
    path.write_text(text.replace("line-length = 120", "line-length = 100").replace("Typing :: Typed", "Topic :: Other"))
    assert path.read_text() != text
    try:
        assert installed.run("--no-install").code == 0
    finally:
        path.write_text(text)


def test_another_python_or_backend_asks_for_another_environment(installed: Checkout, tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    changes = [{"QWEN3_ASR_MLX_PYTHON": str(tmp_path / "python")}]
    if sys.platform == "linux":
        changes.append({"QWEN3_ASR_MLX_BACKEND": "cuda13"})
    for change in changes:
        assert fatal_code(installed.run("--no-install", environ=change)) == "environment_missing"


# No installation


@pytest.mark.parametrize(
    ("arguments", "environ"), [(["--no-install", "demo"], {}), ([], {"QWEN3_ASR_MLX_NO_INSTALL": "1"})]
)
def test_a_missing_environment_is_one_line_and_exit_2(
    fresh: Checkout, arguments: list[str], environ: dict[str, str]
) -> None:
    assert fatal_code(fresh.run(*arguments, environ=environ)) == "environment_missing"
    assert list(fresh.home.iterdir()) == []


def test_without_home_or_any_other_variable_it_still_answers(fresh: Checkout) -> None:
    process = subprocess.run([fresh.launcher, "--no-install"], env={}, capture_output=True, text=True, check=False)
    assert fatal_code(Outcome(0, process.returncode, process.stdout, process.stderr)) == "environment_missing"


@pytest.mark.linux("mlx brings its only backend")
def test_an_unknown_backend_is_refused(fresh: Checkout) -> None:
    assert fatal_code(fresh.run(environ={"QWEN3_ASR_MLX_BACKEND": "abacus"})) == "environment_failed"


# Failures


def failure(outcome: Outcome) -> str:
    """What the app reads on the wire and the user, once, on stderr."""
    assert fatal_code(outcome) == "environment_failed"
    message = str(outcome.line()["message"])
    assert [line for line in outcome.stderr.splitlines() if not line.startswith("making ")] == [message]
    return message


def test_a_package_that_cannot_be_had_is_named_and_leaves_nothing_but_the_log(fresh: Checkout) -> None:
    shutil.rmtree(fresh.wheels)
    message = failure(fresh.run())
    assert "ERROR: " in log_of(fresh)
    assert "spoken" in message
    assert str(fresh.cache) in message
    assert fresh.environments() == []


def test_without_a_network_one_sentence_says_what_to_do(fresh: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # which nobody listens at, in a moment
    offline = {"PIP_INDEX_URL": f"http://127.0.0.1:{port}/simple", "PIP_RETRIES": "1", "PIP_FIND_LINKS": ""}
    environ = {name: value for name, value in fresh.environ.items() if name != "PIP_NO_INDEX"} | offline
    assert "connect to a network" in failure(dataclasses.replace(fresh, environ=environ).run())
    assert "Connection refused" in log_of(fresh)


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        (
            "ERROR: an OSError: [Errno 28] No space left on device\n",
            "free some space",
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))\nERROR: none\n", "PIP_CERT"),
        ("ProxyError('Cannot connect to proxy.')\nERROR: No matching distribution\n", "HTTPS_PROXY"),
        ("Collecting x\nERROR: x is odd\nERROR: so is y\n", "pip says: x is odd"),
    ],
)
def test_why_pip_failed_is_reported_with_what_to_do(written: str, remedy: str) -> None:
    assert remedy in reason(written.splitlines(keepends=True))


def test_a_home_that_cannot_be_written_names_the_variable_for_another(fresh: Checkout) -> None:
    blocked = fresh.home / "file"
    blocked.touch()
    message = failure(fresh.run(environ={"QWEN3_ASR_MLX_HOME": str(blocked)}))
    assert str(blocked) in message
    assert "QWEN3_ASR_MLX_HOME" in message


def test_on_a_terminal_one_line_shows_how_many_of_how_many_packages_are_there(fresh: Checkout) -> None:
    ours, theirs = pty.openpty()
    command = [fresh.launcher]
    with subprocess.Popen(
        command, env=fresh.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while block := os.read(ours, 1 << 16):
                shown += block
    os.close(ours)
    assert process.returncode == 0
    begun, progress, *_ = shown.decode().split("\r\n")
    assert begun.endswith("this happens once")
    assert progress.split("\r\x1b[K")[1:] == [
        "finding packages, 1 so far: spoken",
        "1 of 1 packages: spoken",
        "installed: 1 of 1 packages",
    ]


@pytest.mark.parametrize("name", ["sh", "./sh", "below/sh"])
def test_a_home_that_is_no_whole_path_lies_in_the_working_directory(fresh: Checkout, name: str) -> None:
    """Also where a program has that name."""
    shutil.rmtree(fresh.wheels)
    outcome = fresh.run(environ={"QWEN3_ASR_MLX_HOME": name}, cwd=fresh.home)
    assert fatal_code(outcome) == "environment_failed"
    assert (fresh.home / name / "environments").is_dir()


def test_two_launchers_at_once_make_one_environment_and_both_run(fresh: Checkout) -> None:
    both = [fresh.start() for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [json.loads(stdout)["spoken"] for stdout, _ in outputs] == ["1.0", "1.0"]
    assert sum("making the Python environment" in stderr for _, stderr in outputs) == 1
    assert len(fresh.environments()) == 1


@contextmanager
def stopped_in_the_middle(checkout: Checkout) -> Iterator[subprocess.Popen[str]]:
    """A launcher whose pip is building a package, and goes no further."""
    (checkout.wheels / "spoken-1.0-py3-none-any.whl").unlink()
    write_endless_source(checkout.wheels)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)
        environ = {"BUILD_PORT": str(server.getsockname()[1])}
        process = checkout.start(environ=environ, start_new_session=True)
        with process, server.accept()[0]:
            yield process


def test_a_crash_in_the_middle_leaves_no_environment_in_use_and_the_next_start_makes_it_whole(fresh: Checkout) -> None:
    with stopped_in_the_middle(fresh) as process:
        os.killpg(process.pid, signal.SIGKILL)
        assert process.communicate()[0] == ""
    (half,) = fresh.environments()
    assert fatal_code(fresh.run("--no-install")) == "environment_missing"

    half.rename(half.with_name("of-other-packages.part"))
    write_wheel(fresh.wheels)
    assert fresh.run().line()["spoken"] == "1.0"
    (whole,) = fresh.environments()
    assert whole.name == half.stem


def test_a_signal_in_the_middle_ends_it_and_removes_the_half(fresh: Checkout) -> None:
    with stopped_in_the_middle(fresh) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 128 + signal.SIGTERM
        assert process.stdout
        assert process.stdout.read() == ""
    assert fresh.environments() == []


def test_an_environment_whose_python_was_uninstalled_is_made_again(installed: Checkout, fresh: Checkout) -> None:
    (whole,) = installed.environments()
    environment = fresh.cache / "environments" / whole.name  # the same packages have the same stamp
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to("/uninstalled/python")
    assert fatal_code(fresh.run("--no-install")) == "environment_missing"
    assert fresh.run().line()["spoken"] == "1.0"
    assert fresh.environments() == [environment]


def test_ctrl_c_while_the_launcher_still_looks_around_is_one_line(fresh: Checkout, tmp_path: Path) -> None:
    put(tmp_path / "bin" / "sha256sum", "kill -INT 0; cat")  # as a terminal: to the whole process group
    path = f"{tmp_path / 'bin'}:{os.defpath}"
    process = fresh.start(environ={"PATH": path}, start_new_session=True)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\n")


def test_ctrl_c_in_the_middle_of_the_installation_removes_the_half(fresh: Checkout) -> None:
    with stopped_in_the_middle(fresh) as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr
    assert fresh.environments() == []


# The search for a Python


@pytest.fixture
def search(fresh: Checkout, tmp_path: Path) -> Checkout:
    """A machine with no Python but those that a test puts on it: what is always looked into lies below `tmp_path`."""
    script = fresh.root / "scripts" / "lib" / "environment.sh"
    text, count = re.subn(
        r"(?<=[\s\":])/(?=opt/homebrew/|usr/local/|usr/bin/python3|home/linuxbrew/|Library/)",
        f"{tmp_path}/",
        script.read_text(),
    )
    assert count >= 8
    script.write_text(text)
    environ = {name: value for name, value in fresh.environ.items() if name != "QWEN3_ASR_MLX_PYTHON"}
    return Checkout(fresh.root, fresh.home, fresh.wheels, environ | {"PATH": str(put_tools(tmp_path))})


@pytest.fixture
def mac(search: Checkout) -> Checkout:
    put(Path(search.environ["PATH"]) / "uname", MAC)
    return search


def put_tools(folder: Path) -> Path:
    """What the launcher needs of a PATH, and no Python."""
    tools = folder / "tools"
    tools.mkdir()
    for tool in TOOLS:
        if real := shutil.which(tool):
            (tools / tool).symlink_to(real)
    return tools


def put(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # what it links to is the system's
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def put_python(path: Path, version: str) -> None:
    """An interpreter that tells its version, and says so when it is the one that makes the environment."""
    made = 'case ${5-} in make_environment) echo "chosen: $0" >&2; exit 9 ;; esac'
    put(path, f'{made}\necho "{version} $(uname -m)"')


def chosen(outcome: Outcome) -> str:
    assert outcome.code == 9, outcome
    assert outcome.stdout == ""
    return outcome.stderr.rpartition("chosen: ")[2].strip()


def test_a_shim_that_leads_nowhere_and_other_versions_are_passed_over(search: Checkout) -> None:
    folder = Path(search.environ["PATH"])
    put(folder / "python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    put(folder / "python3.12", "exit 0")
    put_python(folder / "python3.11", "3.10")
    put_python(folder / "python3", "3.12")
    assert chosen(search.run()) == str(folder / "python3")


def test_a_python_without_venv_does_not_count(search: Checkout) -> None:
    put(Path(search.environ["PATH"]) / "python3.12", "echo '3.12 x86_64'; exit 1")
    assert fatal_code(search.run()) == "python_missing"


def test_a_python_of_pyenv_is_found(search: Checkout, tmp_path: Path) -> None:
    put_python(tmp_path / "pyenv" / "versions" / "3.9.1" / "bin" / "python", "3.9")
    put_python(tmp_path / "pyenv" / "versions" / "3.13.2" / "bin" / "python", "3.13")
    outcome = search.run(environ={"PYENV_ROOT": str(tmp_path / "pyenv")})
    assert chosen(outcome) == str(tmp_path / "pyenv/versions/3.13.2/bin/python")


def test_uv_is_asked_last_and_may_install_one(search: Checkout, tmp_path: Path) -> None:
    python = tmp_path / "managed" / "python3.12"
    put_python(tmp_path / "prepared", "3.12")
    tell = f'if [ -e "{python}" ]; then echo "{python}"; else exit 2; fi'
    install = f'mkdir -p "{python.parent}"; cp "{tmp_path}/prepared" "{python}"; echo installed'
    uv = f'PATH=/usr/bin:/bin; case "$2" in find) {tell} ;; install) {install} ;; *) exit 3 ;; esac'
    put(search.home / ".local" / "bin" / "uv", uv)
    outcome = search.run()
    assert chosen(outcome) == str(python)
    assert "installed" in outcome.stderr


def test_a_chosen_python_that_does_not_suit_is_an_error_and_not_replaced(search: Checkout, tmp_path: Path) -> None:
    put_python(Path(search.environ["PATH"]) / "python3.12", "3.12")
    put_python(tmp_path / "old", "3.10")
    for name in (str(tmp_path / "old"), str(tmp_path / "missing"), "nowhere"):
        assert fatal_code(search.run(environ={"QWEN3_ASR_MLX_PYTHON": name})) == "python_unsuitable"
    assert chosen(search.run(environ={"QWEN3_ASR_MLX_PYTHON": "python3.12"})).endswith("python3.12")


def test_no_python_at_all_is_reported(search: Checkout) -> None:
    assert fatal_code(search.run()) == "python_missing"


# Which environments there are


def test_the_commands_for_users_share_two_environments(repository: Path) -> None:
    """The bridge's, with what brings text to people and programs, and that of the tools, which has their extras: all
    but the backends, the aligner's Japanese, the references of the tests, and those of the bridge's."""
    asked = r"(?m)^ensure_environment (\S+) "
    texts = [path.read_text() for path in (repository / "scripts").glob("qwen3-asr-mlx-*")]
    assert {group for text in texts for group in re.findall(asked, text)} == {"''", "tools"}
    ask = f'root="{repository}"; . "$root/scripts/lib/environment.sh"; make_environment() {{ :; }}; '
    shell = ["sh", "-c", f'{ask} ensure_environment tools; printf %s "$groups"']
    groups = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split()
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    others = {"cpu", "cuda13", "japanese", "reference", "transcribe", "serve", "wyoming", "remote"}
    assert set(groups) == extras.keys() - others


def test_of_the_pythons_in_one_place_the_newest_is_taken(search: Checkout, tmp_path: Path) -> None:
    for minor in (11, 12, 13):
        put_python(tmp_path / "usr" / "local" / "bin" / f"python3.{minor}", f"3.{minor}")
    put_python(tmp_path / "opt" / "homebrew" / "bin" / "python3.11", "3.11")
    put_python(tmp_path / "opt" / "homebrew" / "opt" / "python@3.12" / "bin" / "python3.12", "3.12")
    assert chosen(search.run()) == str(tmp_path / "usr/local/bin/python3.13")
    (tmp_path / "usr/local/bin/python3.13").unlink()
    assert chosen(search.run()) == str(tmp_path / "opt/homebrew/opt/python@3.12/bin/python3.12")


# On a Mac, which `uname` alone decides


def test_on_a_mac_the_environment_lies_in_library_caches_and_mlx_needs_no_backend(mac: Checkout) -> None:
    tell = 'case $5 in make_environment) echo "[$7] [$8]" >&2; exit 9 ;; esac'
    put(Path(mac.environ["PATH"]) / "python3.12", f"{tell}\necho '3.12 arm64'")
    outcome = mac.run(environ={"QWEN3_ASR_MLX_BACKEND": "cuda13", "XDG_CACHE_HOME": "/elsewhere"})
    assert outcome.code == 9
    folder = mac.home / "Library" / "Caches" / "qwen3-asr-mlx-runtime" / "environments"
    assert re.fullmatch(rf"\[{re.escape(str(folder))}/[0-9a-f]{{16}}\] \[\]\n", outcome.stderr)


def test_on_a_mac_a_python_for_intel_is_passed_over(mac: Checkout) -> None:
    folder = Path(mac.environ["PATH"])
    put(folder / "python3.13", "echo '3.13 x86_64'")
    put_python(folder / "python3.11", "3.11")
    assert chosen(mac.run()) == str(folder / "python3.11")


def test_on_a_mac_the_system_s_python_is_not_even_started(mac: Checkout, tmp_path: Path) -> None:
    """It opens a window that offers the developer tools."""
    put(tmp_path / "usr" / "bin" / "python3", f": >'{tmp_path}/started'\necho '3.12 arm64'")
    path = f"{mac.environ['PATH']}:{tmp_path}/usr/bin"
    assert fatal_code(mac.run(environ={"PATH": path})) == "python_missing"
    assert not (tmp_path / "started").exists()


def test_without_sha256sum_the_environment_has_the_same_name_and_no_perl_is_started(
    installed: Checkout, tmp_path: Path
) -> None:
    tools = put_tools(tmp_path)
    if not (tools / "openssl").exists():
        pytest.skip("no openssl")
    (tools / "sha256sum").unlink(missing_ok=True)
    put(tools / "shasum", f": >'{tmp_path}/started'\nexit 1")
    outcome = installed.run("--no-install", environ={"PATH": str(tools)})
    assert outcome.line()["spoken"] == "1.0"
    assert not (tmp_path / "started").exists()
