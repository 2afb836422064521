"""The doctor's findings about servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.remote.conftest import needs_recording, new_front
from support.vllm_front import Front, Reply, recorded

from qwen3_asr_mlx_runtime.tools.doctor.engine_check import check_servers
from qwen3_asr_mlx_runtime.tools.doctor.main import main


@pytest.fixture
def front() -> Iterator[Front]:
    front = new_front()
    yield front
    front.stop()


def test_a_server_that_is_well_has_its_name_its_ways_and_its_latency(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--engine", front.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 3
    assert "server 1 is vllm" in lines[0]
    assert "with the model demo" in lines[0]
    assert "a named language is forced" in lines[1]
    assert "answers about a second of audio in" in lines[2]


@needs_recording
def test_one_that_forces_no_language_gets_advice() -> None:
    front = Front(recorded(forces=None))
    levels = [finding.level for finding in check_servers([front.url], "demo", None)]
    front.stop()
    assert levels == ["ok", "warning", "ok"]


def test_what_is_wrong_is_a_failure(front: Front, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine", front.url, "--model", "other"]) == 1
    assert "expected the model other, the server has demo" in capsys.readouterr().out
    front.token = "12345678"
    assert main(["--engine", front.url]) == 1
    assert "engine_rejected" in capsys.readouterr().out
    (tmp_path / "token").write_text(front.token)
    assert main(["--engine", front.url, "--engine-token-file", str(tmp_path / "token")]) == 0
    assert front.token not in capsys.readouterr().out
    assert main(["--engine", front.url, "--engine-token-file", str(tmp_path / "none")]) == 1
    front.stop()
    assert main(["--engine", front.url]) == 1
    assert "gives no answer: it cannot be reached" in capsys.readouterr().out


def test_certificates_that_cannot_be_read_are_a_failure(
    front: Front, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    assert main(["--engine", front.url]) == 1
    assert "HTTP cannot be set up (SSLError): look at SSL_CERT_FILE" in capsys.readouterr().out


@needs_recording
def test_what_a_server_says_controls_no_terminal() -> None:
    front = Front(lambda *asked: Reply(200, b'{"version":"\\u001b[2J"}') if asked[1] == "/version" else answers(*asked))
    answers = recorded()
    found = [*check_servers([front.url], "demo", None)]
    front.stop()
    assert found[0].what == "server 1 is vllm  [2J, with the model demo"


@needs_recording
def test_servers_with_several_models_are_a_failure(front: Front) -> None:
    other = new_front()
    other.models = {"data": [{"id": "other", "owned_by": "vllm"}]}
    found = [*check_servers([front.url, other.url], "served", None)]
    other.stop()
    assert (found[-1].level, "demo, other" in found[-1].what) == ("failure", True)
