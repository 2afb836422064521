"""What scripts/test-swift says where there is no Swift, and that its status is the tests'."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "swift"
TOOLS = ("sh", "dirname", "sed", "uname", "id", "cat", "shasum", "sha256sum")
MAC = "#!/bin/sh\necho Darwin\n"
STAND_IN = """#!/bin/sh
echo "$PWD: swift $*, $QWEN3_ASR_MLX_TEST_PYTHON"
exit 3
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH that holds what the script itself needs, and no Swift."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = [Path(place) / name for place in ("/bin", "/usr/bin") if (Path(place) / name).exists()]
        for path in found[:1]:
            (folder / name).symlink_to(path)
    return folder


def run(tools: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    env: Mapping[str, str] = {"PATH": str(tools), "HOME": os.environ.get("HOME", "/"), **more}
    script = str(ROOT / "scripts" / "test-swift")
    return subprocess.run([script, *arguments], capture_output=True, text=True, env=env, check=False)


def test_without_swift_nothing_is_run_and_that_is_no_failure(tools: Path) -> None:
    ran = run(tools)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "0 tests run: no swift on PATH\n", "")


def test_with_swift_the_status_is_that_of_the_tests(tools: Path, tmp_path: Path) -> None:
    put(tools / "swift", STAND_IN)
    put(tools / "xcode-select", "#!/bin/sh\n")  # which a Mac is asked for
    environment = made_environment(tools, tmp_path)
    ran = run(tools, "--filter", "Scenarios", QWEN3_ASR_MLX_HOME=str(tmp_path / "home"))
    assert ran.stdout == f"{ROOT}: swift test --filter Scenarios, {environment}/bin/python\n"
    assert ran.returncode == 3


@pytest.mark.parametrize(("status", "ran"), [(2, "0 tests run: the developer tools are not installed\n"), (0, "swift")])
def test_a_mac_without_developer_tools_is_not_asked_for_swift(
    tools: Path, tmp_path: Path, status: int, ran: str
) -> None:
    put(tools / "uname", MAC)
    put(tools / "xcode-select", f"#!/bin/sh\nexit {status}\n")
    put(tools / "swift", "#!/bin/sh\nprintf swift\n")
    made_environment(tools, tmp_path)
    assert run(tools, QWEN3_ASR_MLX_HOME=str(tmp_path / "home")).stdout == ran


def test_help_says_what_it_does(tools: Path) -> None:
    ran = run(tools, "--help")
    assert ran.returncode == 0
    assert "scripts/test-swift --filter Scenarios" in ran.stdout


def test_the_examples_of_the_readmes_are_those_that_the_tests_run() -> None:
    test = (PACKAGE / "Tests" / "Qwen3ASRBridgeTests" / "ReadmeTests.swift").read_text(encoding="utf-8")
    display, listen = test[test.index("func display(") :].rstrip().split("\n\nfunc ")
    assert f"```swift\n{display}\n```" in (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert f"```swift\nfunc {listen}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_needs_nothing_but_foundation() -> None:
    manifest = (ROOT / "Package.swift").read_text(encoding="utf-8")
    assert ".package(" not in manifest
    sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / "Sources").rglob("*.swift")]
    imports = {line for source in sources for line in source.splitlines() if line.startswith("import ")}
    assert imports == {"import Foundation", "import Qwen3ASRBridge"}


def test_the_manifest_at_the_top_has_a_target_for_every_folder_of_sources() -> None:
    manifest = (ROOT / "Package.swift").read_text(encoding="utf-8")
    targets = re.findall(r"[tT]arget\(\s*name: \"([\w-]+)\".*?path: \"([\w/-]+)\"", manifest, re.DOTALL)
    folders = {path for folder in ("Sources", "Tests") for path in (PACKAGE / folder).iterdir() if path.is_dir()}
    assert {ROOT / path for _, path in targets} == folders
    assert all(Path(path).name == name and [*(ROOT / path).glob("*.swift")] for name, path in targets)
    assert re.findall(r"products: \[(.*)\]", manifest) == [
        '.library(name: "Qwen3ASRBridge", targets: ["Qwen3ASRBridge"])'
    ]
    assert [*PACKAGE.rglob("Package.swift")] == []


def put(path: Path, script: str) -> None:
    path.unlink(missing_ok=True)  # what it links to is the system's
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)


def made_environment(tools: Path, tmp_path: Path) -> Path:
    """An environment that is there already, so that the script makes none."""
    ask = f'root="{ROOT}"; . "$root/scripts/lib/environment.sh"; make_environment() {{ :; }}; ensure_environment ""'
    env = {"PATH": str(tools), "HOME": os.environ.get("HOME", "/"), "QWEN3_ASR_MLX_HOME": str(tmp_path / "home")}
    ran = subprocess.run(
        ["/bin/sh", "-euc", f'{ask}; echo "$environment"'], capture_output=True, text=True, env=env, check=True
    )
    environment = Path(ran.stdout.strip())
    python = environment / "bin" / "python"
    python.parent.mkdir(parents=True)
    put(python, "#!/bin/sh\n")
    return environment
