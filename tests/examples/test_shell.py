"""examples/shell: every script is run, against the bridge with the embedded checkpoint and against none."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e.client import WAIT, command
from support.client_children import child

DEMO = command(None, "--model", "demo", "--local-files-only")
CONVERSATIONS = ["conversation.sh", "coproc.bash"]


def run(repository: Path, name: str, *arguments: str, bridge: list[str] = DEMO) -> subprocess.CompletedProcess[str]:
    shell = "bash" if name.endswith(".bash") else "sh"
    if shell == "bash" and not _has_coproc():
        pytest.skip("coproc needs bash 4 or later")
    argv = [shell, str(repository / "examples" / "shell" / name), *arguments]
    environment = {**os.environ, "BRIDGE": shlex.join(bridge)}
    return subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT, check=False
    )


def _has_coproc() -> bool:
    bash = shutil.which("bash")
    if bash is None:
        return False
    reported = subprocess.run([bash, "-c", "echo ${BASH_VERSINFO[0]}"], capture_output=True, text=True, check=True)
    return int(reported.stdout) >= 4


@pytest.fixture(scope="module")
def sample(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "sample.wav")


def test_printf_and_a_pipe_are_enough(repository: Path) -> None:
    ran = run(repository, "smoke.sh", *DEMO)
    lines = ran.stdout.splitlines()
    assert (ran.returncode, len(lines)) == (0, 6)
    assert all(line.startswith("ok - ") for line in lines)


def test_the_smoke_test_sees_a_bridge_that_does_not_work(repository: Path) -> None:
    ran = run(repository, "smoke.sh", *child('say(PONG, type="nothing")'))
    assert ran.returncode == 1
    assert {line[:8] for line in ran.stdout.splitlines()} == {"not ok -"}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_over_two_pipes(repository: Path, sample: str, name: str) -> None:
    ran = run(repository, name, sample, "/nowhere.wav", sample)
    assert (ran.returncode, ran.stdout) == (0, "Seven three one.\n" * 2)
    assert "/nowhere.wav: audio_not_found" in ran.stderr.splitlines()


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_megabyte_on_stderr_holds_up_nothing(repository: Path, sample: str, name: str) -> None:
    flood = 'for _ in range(16): os.write(2, b"x" * 65535 + b"\\n")\n'
    answers = 'read(); say({"type": "ready"}); read(); say({"type": "transcript", "text": "Yes."})\n'
    ran = run(repository, name, sample, bridge=child(flood + answers + 'say({"type": "stopped"})\nread()'))
    assert (ran.returncode, ran.stdout) == (0, "Yes.\n")


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_text_with_quotation_marks_is_shown_and_not_the_line_that_holds_it(
    repository: Path, sample: str, name: str
) -> None:
    transcript = '{"type": "transcript", "text": "Say \\"five\\" \\\\ six.", "language": "English"}'
    answers = f'read(); say({{"type": "ready"}}); read(); say({transcript}); say({{"type": "stopped"}})\nread()'
    ran = run(repository, name, sample, bridge=child(answers))
    assert (ran.returncode, ran.stdout) == (0, 'Say \\"five\\" \\\\ six.\n')


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("program", ["sys.exit(3)", 'read(); say({"type": "ready"}); sys.exit(3)'])
def test_a_bridge_that_ends_is_reported(repository: Path, sample: str, name: str, program: str) -> None:
    ran = run(repository, name, sample, bridge=child(f'os.write(2, b"oops\\n"); {program}'))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "oops" in ran.stderr
    assert "the bridge ended with exit code 3" in ran.stderr


def test_nothing_is_left_behind(repository: Path, sample: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run(repository, "conversation.sh", sample).returncode == 0
    assert [*tmp_path.iterdir()] == []
