"""scripts/qwen3-asr-mlx-install builds a folder that runs by itself, whole or not at all.

Everything is real, the interpreter, venv, pip and the wheelhouse too, except what is installed: a wheel of one line,
and a bridge that says what it sees.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from scripts.test_launcher import Checkout, Outcome, make_checkout, write_endless_source, write_wheel
from support.relocatable_python import make_relocatable

from qwen3_asr_mlx_runtime.tools.install.environment import Failed
from qwen3_asr_mlx_runtime.tools.install.folder import Source, check_macos, is_native, verify
from qwen3_asr_mlx_runtime.tools.install.folder import install as build
from qwen3_asr_mlx_runtime.tools.install.mach_o import oldest_macos
from qwen3_asr_mlx_runtime.tools.install.place import part_of, replace
from qwen3_asr_mlx_runtime.tools.install.wheelhouse import OLDEST_MACOS, download, install_packages

BRIDGE = """
import json, os, sys
import spoken

def main():
    if "--print-capabilities" in sys.argv:
        print('{"type":"capabilities"}')
        return 0
    report = {"arguments": sys.argv[1:], "pid": os.getpid(), "spoken": spoken.VERSION, "isolated": sys.flags.isolated,
              "path": sys.path, "folder": os.getcwd(), "utf8": sys.flags.utf8_mode, "stdin": sys.stdin.read()}
    print(json.dumps(report))
    return 7
"""


def make(repository: Path, folder: Path) -> Checkout:
    """A checkout whose bridge can be installed, and a wheelhouse with the one package that it needs."""
    checkout = make_checkout(repository, folder)
    shutil.copy2(repository / "scripts" / "qwen3-asr-mlx-install", checkout.root / "scripts")
    package = checkout.root / "src" / "qwen3_asr_mlx_runtime"
    (package / "__main__.py").write_text(BRIDGE)
    for module in ("bridge/loop.py", "engine/recognizer.py"):
        (package / module).parent.mkdir()
        (package / module).write_text("import spoken\n")
    for text in ("LICENSE", "NOTICE"):
        (checkout.root / text).touch()
    write_wheel(checkout.wheels)
    environ = {name: value for name, value in checkout.environ.items() if not name.startswith("PIP_")}
    return dataclasses.replace(checkout, environ=environ)


def install(checkout: Checkout, *arguments: object, **options: Path) -> Outcome:
    command = checkout.root / "scripts" / "qwen3-asr-mlx-install"
    return checkout.run(*(str(one) for one in arguments), launcher=command, **options)


def refused(outcome: Outcome) -> str:
    """The one line that says why; nothing on stdout, no traceback."""
    assert outcome.code == 1, outcome
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("qwen3-asr-mlx-install: ")]
    assert outcome.stderr.splitlines()[-1] == line
    return line


@pytest.fixture
def fresh(repository: Path, tmp_path: Path) -> Checkout:
    return make(repository, tmp_path)


@pytest.fixture(scope="module")
def first(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Path, Outcome]:
    """A checkout, the folder that it built, and what the command said."""
    checkout = make(repository, tmp_path_factory.mktemp("install"))
    prefix = checkout.home / "an app" / "asr"
    return checkout, prefix, install(checkout, "--prefix", prefix, "--wheelhouse", checkout.wheels)


def start(launcher: Path | str, *arguments: str, environ: dict[str, str] | None = None, cwd: str | Path = "/") -> dict:
    process = subprocess.run(
        [launcher, *arguments], input="a line", env=environ or {}, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert process.returncode == 7, process.stderr
    report: dict = json.loads(process.stdout)
    return report


def content(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_size) for file in folder.rglob("*") if file.is_file()}


# What is built


def test_it_prints_the_launcher_which_runs_the_bridge_alone(first: tuple[Checkout, Path, Outcome]) -> None:
    checkout, prefix, outcome = first
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == f"{prefix}/bin/qwen3-asr-mlx-bridge\n"
    report = start(outcome.stdout.strip(), "--model", "a b", "")
    assert (report["spoken"], report["arguments"], report["stdin"]) == ("1.0", ["--model", "a b", ""], "a line")
    assert (report["isolated"], report["utf8"], report["folder"]) == (1, 1, "/")
    assert [place for place in report["path"] if place.startswith(str(checkout.root))] == []


def test_the_variables_of_an_app_put_nothing_in_front_of_it(
    first: tuple[Checkout, Path, Outcome], tmp_path: Path
) -> None:
    for name in ("json.py", "spoken.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    poisoned = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/none", "PATH": "/none", "PYTHONSTARTUP": "/none"}
    report = start(first[1] / "bin" / "qwen3-asr-mlx-bridge", environ=poisoned, cwd=tmp_path)
    assert report["spoken"] == "1.0"


def test_the_interpreter_may_be_started_without_the_launcher(first: tuple[Checkout, Path, Outcome]) -> None:
    prefix = first[1]
    assert start(prefix / "python/bin/python3", "-I", "-B", str(prefix / "runtime"), "x")["arguments"] == ["x"]


def test_links_to_the_launcher_work(first: tuple[Checkout, Path, Outcome], tmp_path: Path) -> None:
    launcher = first[1] / "bin" / "qwen3-asr-mlx-bridge"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bridge").symlink_to(os.path.relpath(launcher, tmp_path / "bin"))
    (tmp_path / "link").symlink_to("bin/bridge")
    for link in (str(tmp_path / "link"), "./link", "bin/bridge"):
        assert start(link, cwd=tmp_path)["spoken"] == "1.0"


def test_starting_it_changes_no_file_of_a_folder_that_may_be_signed(first: tuple[Checkout, Path, Outcome]) -> None:
    prefix = first[1]
    before = content(prefix)
    start(prefix / "bin" / "qwen3-asr-mlx-bridge")
    assert content(prefix) == before
    assert list((prefix / "runtime").rglob("*.pyc")), "nothing was compiled at build time"


def test_it_says_what_it_is_and_which_files_are_to_be_signed(first: tuple[Checkout, Path, Outcome]) -> None:
    prefix = first[1]
    record = json.loads((prefix / "installed.json").read_text())
    assert record["packages"] == {"spoken": "1.0"}
    assert record["python_is_inside"] is False
    assert record["macos"] == (OLDEST_MACOS if sys.platform == "darwin" else None)
    assert (prefix / "native-files.txt").read_text() == "", "a venv holds links and no machine code"
    assert "no folder to ship" in first[2].stderr


def test_a_second_call_changes_nothing(first: tuple[Checkout, Path, Outcome]) -> None:
    checkout, prefix, _ = first
    before = content(prefix)
    outcome = install(checkout, "--prefix", prefix, "--wheelhouse", checkout.wheels)
    assert (outcome.code, outcome.stdout) == (0, first[2].stdout)
    assert "is up to date" in outcome.stderr
    assert content(prefix) == before


def by_entry_point(checkout: Checkout, *arguments: object, **environ: str) -> Outcome:
    """The command as pip installs it, in the Python of the tests."""
    start = f"import sys; sys.path.insert(0, {str(checkout.root / 'src')!r})\n"
    start += "from qwen3_asr_mlx_runtime.entry import install; install()"
    words = ("-I", "-c", start, *map(str, arguments))
    return checkout.run(*words, launcher=sys.executable, environ={"QWEN3_ASR_MLX_PYTHON": "", **environ})


def test_the_command_that_pip_installs_builds_the_same_folder(first: tuple[Checkout, Path, Outcome]) -> None:
    checkout, prefix, _ = first
    outcome = by_entry_point(checkout, "--prefix", prefix, "--wheelhouse", checkout.wheels)
    assert (outcome.code, outcome.stdout) == (0, first[2].stdout)
    assert outcome.stderr == f"{prefix} is up to date\n"


def test_the_command_that_pip_installs_refuses_the_same(fresh: Checkout, tmp_path: Path) -> None:
    asked = ("--prefix", fresh.home / "asr", "--wheelhouse", fresh.wheels)
    for python in ("/nowhere/python3", tmp_path, "true"):
        assert "--python must name" in refused(by_entry_point(fresh, *asked, "--python", python))
    if sys.platform == "linux":
        assert "cpu or cuda13" in refused(by_entry_point(fresh, *asked, QWEN3_ASR_MLX_BACKEND="abacus"))
    assert by_entry_point(fresh, "--force").code == 2
    assert list(fresh.home.iterdir()) == []


def test_no_part_is_left_beside_it(first: tuple[Checkout, Path, Outcome]) -> None:
    assert [path.name for path in first[1].parent.iterdir()] == ["asr"]


@pytest.mark.once
def test_a_changed_source_is_rebuilt(fresh: Checkout, first: tuple[Checkout, Path, Outcome]) -> None:
    prefix = fresh.home / "asr"
    shutil.copytree(first[1], prefix, symlinks=True)
    (fresh.root / "src/qwen3_asr_mlx_runtime/__main__.py").write_text(BRIDGE.replace('"pid"', '"changed"'))
    assert install(fresh, "--prefix", prefix, "--wheelhouse", fresh.wheels).code == 0
    assert "changed" in start(prefix / "bin/qwen3-asr-mlx-bridge")
    assert [path.name for path in prefix.parent.iterdir() if path.name.startswith("asr")] == ["asr"]


# A Python of its own


@pytest.fixture
def relocatable(tmp_path: Path) -> Path:
    return make_relocatable(tmp_path / "relocatable") or pytest.skip("this Python cannot be made relocatable")


@pytest.mark.once
def test_with_a_relocatable_python_the_folder_needs_nothing_else_wherever_it_is_moved(
    fresh: Checkout, relocatable: Path, tmp_path: Path
) -> None:
    prefix = fresh.home / "asr"
    outcome = install(fresh, "--prefix", prefix, "--python", relocatable, "--wheelhouse", fresh.wheels)
    assert outcome.code == 0, outcome.stderr
    moved = tmp_path / "Applications" / "An App.app"
    moved.parent.mkdir()
    prefix.rename(moved)
    for gone in (relocatable, fresh.root, fresh.wheels):
        shutil.rmtree(gone)
    report = start(moved / "bin" / "qwen3-asr-mlx-bridge")
    assert report["spoken"] == "1.0"
    assert [place for place in report["path"] if not place.startswith(str(moved))] == []
    native = (moved / "native-files.txt").read_text().splitlines()
    assert f"python/bin/python{sys.version_info.major}.{sys.version_info.minor}" in native
    assert not [name for name in native if not (moved / name).is_file()]


def test_a_python_that_goes_on_using_its_origin_is_refused(fresh: Checkout) -> None:
    base = Path(sys.base_prefix)
    if not any(base.glob("lib/libpython3.*")) or base == Path("/usr"):
        pytest.skip("this Python has no library of its own to go on using")
    environ = {name: value for name, value in fresh.environ.items() if name != "QWEN3_ASR_MLX_PYTHON"}
    outcome = install(dataclasses.replace(fresh, environ=environ), "--prefix", fresh.home / "asr", "--python", base)
    assert "is not relocatable" in refused(outcome)
    assert list(fresh.home.iterdir()) == []
    (fresh.home / "sh").symlink_to(base)  # a folder, though a command on PATH has its name
    outcome = install(fresh, "--prefix", "asr", "--python", "sh", cwd=fresh.home)
    assert "is not relocatable" in refused(outcome)
    assert "is not relocatable" in refused(by_entry_point(fresh, "--prefix", fresh.home / "asr", "--python", base))


# Refusals


@pytest.mark.once
def test_a_package_that_the_wheelhouse_lacks_is_named_and_the_folder_stays_as_it_was(fresh: Checkout) -> None:
    prefix = fresh.home / "asr"
    prefix.mkdir()
    (prefix / "installed.json").write_text('{"stamp": "of another"}')
    (fresh.wheels / "spoken-1.0-py3-none-any.whl").rename(fresh.wheels / "heard-1.0-py3-none-any.whl")
    reason = refused(install(fresh, "--prefix", prefix, "--wheelhouse", fresh.wheels))
    assert "spoken" in reason
    assert content(fresh.home).keys() == {str(prefix / "installed.json")}


def test_a_wheel_that_is_not_what_its_digest_says_is_refused(fresh: Checkout) -> None:
    wheel = fresh.wheels / "spoken-1.0-py3-none-any.whl"
    (fresh.wheels / "SHA256SUMS").write_text(f"{hashlib.sha256(b'another').hexdigest()}  {wheel.name}\n")
    reason = refused(install(fresh, "--prefix", fresh.home / "asr", "--wheelhouse", fresh.wheels))
    assert wheel.name in reason
    assert not (fresh.home / "asr").exists()


def test_a_wheel_that_is_missing_from_a_wheelhouse_that_names_it_is_refused(fresh: Checkout) -> None:
    (fresh.wheels / "SHA256SUMS").write_text(f"{'0' * 64}  gone-1.0-py3-none-any.whl\n")
    assert "gone-1.0" in refused(install(fresh, "--prefix", fresh.home / "asr", "--wheelhouse", fresh.wheels))


@pytest.mark.parametrize("wheels", ["missing", "empty"])
def test_a_wheelhouse_without_wheels_is_refused(fresh: Checkout, tmp_path: Path, wheels: str) -> None:
    (tmp_path / "empty").mkdir()
    reason = refused(install(fresh, "--prefix", fresh.home / "asr", "--wheelhouse", tmp_path / wheels))
    assert "--download-to" in reason


@pytest.mark.parametrize("record", ["novel.txt", "installed.json"])
def test_a_folder_of_somebody_else_is_not_touched_and_none_beside_it(fresh: Checkout, record: str) -> None:
    prefix = fresh.home / "Documents"
    for folder in (prefix, prefix.with_name("Documents.old"), prefix.with_name("Documents.part")):
        folder.mkdir()
        (folder / record).write_text('["chapter one"]')
    before = content(fresh.home)
    assert "was not made by this command" in refused(install(fresh, "--prefix", prefix, "--wheelhouse", fresh.wheels))
    assert content(fresh.home) == before


def test_a_folder_and_what_it_is_made_of_may_not_lie_in_one_another(fresh: Checkout) -> None:
    package = fresh.root / "src" / "qwen3_asr_mlx_runtime"
    before = content(fresh.home.parent)
    for prefix in ("/", fresh.root, package / "build", fresh.wheels, fresh.wheels / "build"):
        reason = refused(install(fresh, "--prefix", prefix, "--wheelhouse", fresh.wheels))
        assert "lie in one another" in reason, prefix
    assert content(fresh.home.parent) == before


def test_links_that_go_round_are_an_error_of_one_line(fresh: Checkout, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    refused(install(fresh, "--prefix", tmp_path / "round" / "asr", "--wheelhouse", fresh.wheels))


@pytest.mark.parametrize("name", ["spoken-1.0-99-py3-none-any.whl", "index.html"])
def test_a_wheelhouse_that_holds_more_than_its_sums_name_is_refused(fresh: Checkout, name: str) -> None:
    (wheel,) = fresh.wheels.glob("*.whl")
    (fresh.wheels / "SHA256SUMS").write_text(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n")
    shutil.copy2(wheel, fresh.wheels / name)
    assert name in refused(install(fresh, "--prefix", fresh.home / "asr", "--wheelhouse", fresh.wheels))


@pytest.mark.once
def test_settings_of_the_machine_say_where_packages_come_from_and_not_where_they_go(fresh: Checkout) -> None:
    elsewhere = fresh.home / "elsewhere"
    machine = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(fresh.wheels), "PIP_USER": "1", "PIP_TARGET": str(elsewhere)}
    odd = dataclasses.replace(fresh, environ=fresh.environ | machine | {"PIP_REQUIRE_VIRTUALENV": "1"})
    outcome = install(odd, "--prefix", fresh.home / "asr")
    assert outcome.code == 0, outcome.stderr
    assert not elsewhere.exists()


@pytest.mark.once
def test_a_runtime_that_does_not_start_is_never_put_in_place(fresh: Checkout) -> None:
    (fresh.root / "src/qwen3_asr_mlx_runtime/__main__.py").write_text("import nothing_of_that_name\n")
    reason = refused(install(fresh, "--prefix", fresh.home / "asr", "--wheelhouse", fresh.wheels))
    assert "nothing_of_that_name" in reason
    assert list(fresh.home.iterdir()) == []


def test_a_package_that_does_not_load_is_found_at_build_time(first: tuple[Checkout, Path, Outcome]) -> None:
    engine = first[1] / "runtime/qwen3_asr_mlx_runtime/engine/recognizer.py"
    text, compiled = engine.read_text(), list(engine.parent.glob("__pycache__/recognizer.*"))
    kept = [(file, file.read_bytes()) for file in compiled]
    for file in compiled:
        file.unlink()
    engine.write_text("raise ImportError('libmlx.so is broken')\n")
    try:
        with pytest.raises(Failed, match=r"libmlx\.so is broken"):
            verify(first[1])
    finally:
        engine.write_text(text)
        for file, data in kept:
            file.write_bytes(data)


@pytest.mark.parametrize("python", ["/nowhere/python3", "folder"])
def test_a_python_that_does_not_suit_is_refused(fresh: Checkout, tmp_path: Path, python: str) -> None:
    (tmp_path / "folder").mkdir()
    outcome = install(fresh, "--prefix", fresh.home / "asr", "--python", tmp_path / python)
    assert "--python" in refused(outcome)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--wheelhouse", "w", "--download-to", "d"),
        ("--prefix",),
        ("--force",),
        ("--prefix", "p", "--macos", "Sonoma"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(fresh: Checkout, arguments: tuple[str, ...]) -> None:
    outcome = install(fresh, *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert len(outcome.stderr.splitlines()) == 1


def test_help_has_an_example(fresh: Checkout) -> None:
    assert "qwen3-asr-mlx-install --prefix" in install(fresh, "--help").stdout


# The macOS it is for


def mach_o(version: tuple[int, int], command: int = 0x32) -> bytes:
    """A file for arm64 whose only load command says the oldest macOS it runs on."""
    number = version[0] << 16 | version[1] << 8
    fields = (1, number) if command == 0x32 else (number, 0)
    header = struct.pack("<4s7I", b"\xcf\xfa\xed\xfe", 0x0100000C, 0, 6, 2, 40, 0, 0)
    return header + struct.pack("<4I", 0x2, 16, 0, 0) + struct.pack("<6I", command, 24, *fields, 0, 0)


def fat(*slices: bytes) -> bytes:
    places = [8 + 20 * len(slices) + sum(map(len, slices[:number])) for number in range(len(slices))]
    entries = [struct.pack(">5I", 0, 0, place, len(one), 0) for place, one in zip(places, slices, strict=True)]
    return b"".join([struct.pack(">II", 0xCAFEBABE, len(slices)), *entries, *slices])


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (mach_o((14, 0)), (14, 0)),
        (mach_o((10, 13), command=0x24), (10, 13)),
        (fat(mach_o((11, 0)), mach_o((26, 2))), (26, 2)),
        (b"\xca\xfe\xba\xbe\0\0\0\x34 a class of Java", None),
        (b"\x7fELF", None),
    ],
)
def test_the_oldest_macos_of_a_file_is_read_from_its_load_commands(
    tmp_path: Path, data: bytes, version: tuple[int, int] | None
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert oldest_macos(tmp_path / "file") == version


@pytest.mark.parametrize(("macos", "taken"), [("14", "macosx_14_0_arm64"), ("26.2", "macosx_26_0_arm64")])
def test_wheels_for_the_chosen_macos_are_taken_and_not_the_newest(tmp_path: Path, macos: str, taken: str) -> None:
    for platform in ("macosx_14_0_arm64", "macosx_26_0_arm64"):
        write_wheel(tmp_path, platform)
    (tmp_path / "constraints.txt").write_text("spoken==1.0\n")
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    site_packages.mkdir(parents=True)
    install_packages(python, ["spoken"], tmp_path / "constraints.txt", tmp_path, macos)
    assert taken in (site_packages / "spoken.py").read_text()


@pytest.mark.once
def test_a_file_that_needs_a_newer_macos_than_its_wheel_promises_is_refused(fresh: Checkout) -> None:
    """As the wheel of MLX for 26.0 does, which needs 26.2."""
    for wheel in fresh.wheels.iterdir():
        wheel.unlink()
    write_wheel(fresh.wheels, "macosx_26_0_arm64", mach_o((26, 2)))
    source = Source("", None, "26", package=fresh.root / "src" / "qwen3_asr_mlx_runtime")
    prefix = fresh.home / "asr"
    with pytest.raises(Failed, match=r"libspoken\.dylib needs macOS 26\.2"):
        build(source, prefix, fresh.wheels)
    assert list(fresh.home.iterdir()) == []
    build(dataclasses.replace(source, macos="26.2"), prefix, fresh.wheels)
    assert json.loads((prefix / "installed.json").read_text())["macos"] == "26.2"


@pytest.mark.once
def test_every_package_that_is_pinned_has_a_wheel_for_the_oldest_macos(tmp_path: Path) -> None:
    if "QWEN3_ASR_MLX_WHEELHOUSE" not in os.environ:
        pytest.skip("set QWEN3_ASR_MLX_WHEELHOUSE where packages may be downloaded")
    source = Source("", None, OLDEST_MACOS)
    wanted = [*source.requirements(), "mlx-metal"]  # which mlx asks for only where pip runs on a Mac
    download(wanted, source.constraints, tmp_path / "wheels", OLDEST_MACOS)
    for wheel in (tmp_path / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "content")
    native = [str(path.relative_to(tmp_path)) for path in (tmp_path / "content").rglob("*") if is_native(path)]
    assert len(native) > 10
    check_macos(tmp_path, native, OLDEST_MACOS)
    with pytest.raises(Failed):
        download(wanted, source.constraints, tmp_path / "older", str(int(OLDEST_MACOS) - 1))


# What a killed installation leaves


@pytest.mark.once
def test_a_signal_in_the_middle_ends_it_at_once_and_leaves_what_was_there(fresh: Checkout) -> None:
    prefix = fresh.home / "asr"
    prefix.mkdir()
    (prefix / "installed.json").write_text('{"stamp": "of another"}')
    (fresh.wheels / "spoken-1.0-py3-none-any.whl").unlink()
    write_endless_source(fresh.wheels)
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(fresh.wheels)}
    command = fresh.root / "scripts" / "qwen3-asr-mlx-install"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(300)
        environ["BUILD_PORT"] = str(server.getsockname()[1])
        process = fresh.start("--prefix", str(prefix), launcher=command, environ=environ)
        with process, server.accept()[0] as build:  # its pip builds a package, and would for ever
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 128 + signal.SIGTERM
            build.settimeout(60)
            assert build.recv(1) == b"", "the build goes on without it"
    assert content(fresh.home).keys() == {str(prefix / "installed.json")}


def test_a_signal_while_one_folder_replaces_another_is_handled_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "asr"
    for folder in (prefix, part_of(prefix)):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        signal.raise_signal(signal.SIGTERM)  # to this thread, as in a program that has no other
        return renamed

    monkeypatch.setattr(Path, "rename", interrupted)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with pytest.raises(SystemExit):
            replace(prefix)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (prefix / "name").read_text() == part_of(prefix).name


def test_the_old_folder_comes_back_if_no_new_one_took_its_place(first: tuple[Checkout, Path, Outcome]) -> None:
    checkout, prefix, _ = first
    prefix.rename(prefix.with_name(".asr.qwen3-asr-mlx.old"))
    part_of(prefix).mkdir()
    outcome = install(checkout, "--prefix", prefix, "--wheelhouse", checkout.wheels)
    assert "is up to date" in outcome.stderr
    assert [path.name for path in prefix.parent.iterdir()] == ["asr"]


def test_a_python_that_was_removed_is_reported_on_the_wire(
    first: tuple[Checkout, Path, Outcome], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "qwen3-asr-mlx-bridge"
    shutil.copy2(first[1] / "bin" / "qwen3-asr-mlx-bridge", launcher)
    process = subprocess.run([launcher], capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert json.loads(process.stdout)["code"] == "environment_missing"
