"""The whole bridge with a remote engine: recorded answers of a real vLLM, or one itself."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.player import Player, scenario_files
from e2e.client import Client, command
from engines.remote.conftest import new_front
from support.schema_check import check_lines
from support.vllm_front import EXAMPLES, HOLD, Front
from support.wave_file import write_silence

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engines.remote.wav import wav_bytes

EXPECTED = [json.loads(line) for line in (EXAMPLES / "expected.jsonl").read_text("utf-8").splitlines()]
DEMO_SCENARIOS = [path for path in scenario_files() if '"engine": "demo"' in path.read_text(encoding="utf-8")]
SAMPLE = str(EXAMPLES / "sample.wav")
TEXT = "Seven three one."
CHUNK = 2 * 8000  # bytes of half a second


@pytest.fixture
def front() -> Iterator[Front]:
    front = new_front()
    yield front
    front.release.set()
    front.stop()


def bridge(*fronts: Front, options: tuple[str, ...] = (), **environment: str) -> Client:
    urls = ",".join(front.url for front in fronts)
    return Client(command(None, "--engine", urls, *options), env={**os.environ, **environment})


def pcm(name: str) -> bytes:
    return wav_bytes(read_file(str(EXAMPLES / name)).samples)[44:]


def test_every_example_has_its_text(front: Front) -> None:
    with bridge(front) as client:
        files = [str(EXAMPLES / each["audio"]) for each in EXPECTED]
        reply = client.ask("batch_transcribe", audio=files, decoder_mode="batched", logprobs=True)
        assert [item["text"] for item in reply["items"]] == [each["text"] for each in EXPECTED]
        assert [item["language"] for item in reply["items"]] == [each["language"] for each in EXPECTED]
        assert all(item["confidence"]["mean"] > 0.5 for item in reply["items"])
        assert client.wait() == 0
        check_lines(client.monitor.replies)


@pytest.mark.parametrize("path", DEMO_SCENARIOS, ids=lambda path: path.stem)
def test_the_scenarios_of_the_demonstration_checkpoint_are_played(front: Front, path: Path, tmp_path: Path) -> None:
    speech = write_silence(tmp_path / "speech.wav", 8_000)
    scenario = json.loads(path.read_text(encoding="utf-8"))
    with bridge(front, options=("--aligner", "demo", "--local-files-only")) as client:
        player = Player(client, speech)
        player.play(scenario["steps"])
        check_lines(player.lines)


def test_it_says_what_decodes_and_that_speech_leaves(front: Front) -> None:
    with bridge(front) as client:
        before = client.ask("capabilities")
        assert before["engine"] == {
            "kind": "remote",
            "server": None,
            "version": None,
            "model": None,
            "exact": False,
            "features": ["logprobs"],
            "forced_language": None,
        }
        assert before["aligner"] is None
        ready = client.ask("start")
        assert (ready["model"], ready["load"], ready["engine"]["server"]) == ("demo", "none", "vllm")
        after = client.ask("capabilities")
        assert after["engine"] == ready["engine"]
        assert "language" in {*after["features"]} - {*before["features"]}
        assert {"words", "align", "languages", "drift_guard"}.isdisjoint(after["features"])
        status = client.ask("status")
        assert (status["memory"]["process"]["worker"], status["engine_restarts"]) == (None, 0)
        assert client.wait() == 0
        assert "speech is sent to the servers of the engine: it leaves this machine" in client.stderr()
        check_lines(client.monitor.replies)


def test_it_imports_no_mlx_and_no_model(front: Front) -> None:
    code = "import sys, qwen3_asr_mlx_runtime.engines.remote.engine; print([m for m in sys.modules if 'mlx.' in m])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [Path("src").resolve()]))}
    argv = command(None)
    loaded = subprocess.check_output([argv[0], "-c", code], env=environment, text=True, cwd=EXAMPLES.parents[1])
    assert loaded == "[]\n"
    with bridge(front) as client:
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0  # and no process is left


def test_a_stream_has_partials_and_a_final(front: Front) -> None:
    with bridge(front) as client:
        client.ask("hello", want=["events"])
        client.ask("start")
        client.ask("start_stream", stream_id="mic", partials=True, auto_flush=True, batch_size=1)
        audio = pcm("english-ten.wav")
        chunks = [audio[place : place + CHUNK] for place in range(0, len(audio), CHUNK)]
        seen: list[dict] = []
        for chunk in chunks:
            client.send("audio_chunk", stream_id="mic", pcm16=base64.b64encode(chunk).decode())
            if not seen:
                seen.append(client.read())  # however slow the server is, there is one
        client.send("end_utterance", stream_id="mic", id="end")
        while seen[-1]["type"] != "realtime_batch_final":
            seen.append(client.read())
        partials = [line for line in seen if line["type"] == "partial_result"]
        [final] = seen[-1]["items"]
        assert final["text"] == next(each["text"] for each in EXPECTED if each["audio"] == "english-ten.wav")
        assert partials
        assert all(line["interval_ms"] >= 500 and line["verified_tokens"] == 0 for line in partials)
        assert client.wait() == 0
        check_lines(client.monitor.replies)


def test_words_have_a_reason_or_an_aligner(front: Front) -> None:
    with bridge(front) as client:
        reply = client.ask("transcribe", audio=SAMPLE, words=True)
        assert (reply["text"], reply["words"], reply["warnings"]) == (TEXT, None, ["words_unavailable: engine"])
        error = client.ask("align", audio=SAMPLE, text=TEXT, language="en")
        assert (error["code"], error["data"]) == ("unsupported_by_engine", {"feature": "words"})
        assert client.wait() == 0
    with bridge(front, options=("--aligner", "demo", "--local-files-only")) as client:
        assert {"words", "align"} <= {*client.ask("capabilities")["features"]}
        reply = client.ask("transcribe", audio=SAMPLE, words=True)
        assert [word["text"] for word in reply["words"]] == TEXT.split()
        assert all(word["confidence"] > 0.5 for word in reply["words"])
        assert client.wait() == 0
        check_lines(client.monitor.replies)


def test_nothing_is_lost_where_the_server_ends_in_the_middle(front: Front) -> None:
    with bridge(front) as client:
        client.ask("start")
        front.faults.extend([HOLD] * 2)
        for number in range(4):
            client.send("transcribe", id=number, audio=SAMPLE)
        client.ask("ping", id="ping")
        for _ in range(2):
            assert front.held.acquire(timeout=60)
        front.stop()
        assert client.ask("ping", id="again")["state"] == "busy"
        front.start()
        replies = [client.read() for _ in range(4)]
        assert {reply["id"]: reply["text"] for reply in replies} == dict.fromkeys(range(4), TEXT)
        assert client.wait() == 0


def test_files_leave_room_for_a_stream(front: Front) -> None:
    with bridge(front) as client:
        client.ask("hello", want=["events"])
        client.ask("start_stream", stream_id="mic", auto_flush=True, batch_size=1)
        front.faults.extend([HOLD] * 2)
        for number in range(4):
            client.send("transcribe", id=number, audio=SAMPLE)
        for _ in range(2):
            assert front.held.acquire(timeout=60)
        client.ask("end_utterance", stream_id="mic", pcm16=base64.b64encode(pcm("sample.wav")).decode())
        assert client.read()["items"][0]["text"] == TEXT  # the files are still held
        front.release.set()
        assert {client.read()["text"] for _ in range(4)} == {TEXT}
        assert client.wait() == 0


def test_a_cancel_and_a_time_out_close_their_request(front: Front) -> None:
    with bridge(front) as client:
        client.ask("start")
        front.faults.extend([HOLD, HOLD])
        client.send("transcribe", id="a", audio=SAMPLE)
        assert front.held.acquire(timeout=60)
        assert client.ask("cancel", id="c", target="a")["state"] == "cancelling"
        assert client.read()["code"] == "cancelled"
        assert front.given_up.acquire(timeout=60)
        assert client.ask("transcribe", audio=SAMPLE, timeout_ms=500)["code"] == "timeout"
        assert front.given_up.acquire(timeout=60)
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0


def test_a_server_that_is_not_there_costs_the_request_and_may_come(front: Front) -> None:
    front.models = {"data": [{"id": "Qwen/Qwen3-0.6B"}]}
    with bridge(front, options=("--model", "demo")) as client:
        error = client.ask("start")
        assert (error["code"], error["retryable"]) == ("engine_incompatible", False)
        front.models = None
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        client.ask("unload")
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0


def test_without_its_package_the_last_line_names_the_extra() -> None:
    argv = command(None, "--engine", "http://127.0.0.1:1", before="import sys; sys.modules['httpx2'] = None")
    ran = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    fatal = json.loads(ran.stdout)
    assert (ran.returncode, fatal["type"], fatal["code"]) == (2, "fatal", "environment_missing")
    assert "qwen3-asr-mlx-runtime[remote]" in fatal["message"]


@pytest.mark.parametrize("way", ["environment", "option"])
def test_a_command_in_front_of_the_bridge_takes_the_model_of_the_servers_and_says_that_speech_leaves(
    front: Front, way: str
) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from qwen3_asr_mlx_runtime.tools.transcribe.main import main"
    )
    argv = [command(None)[0], "-I", "-c", f"{code}; sys.exit(main())", str(EXAMPLES.parents[1] / "src"), "--stdout"]
    given = ["--bridge", f"--engine {front.url}"] if way == "option" else []
    environment = {"QWEN3_ASR_MLX_ENGINE": front.url} if way == "environment" else {}
    ran = subprocess.run(
        [*argv, *given, SAMPLE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{TEXT}\n"
    assert "it leaves this machine" in ran.stderr


def test_the_environment_names_the_servers_and_the_token(front: Front) -> None:
    front.token = "a secret of the server"
    environment = {"QWEN3_ASR_MLX_ENGINE": front.url, "QWEN3_ASR_MLX_ENGINE_TOKEN": front.token}
    with Client(command(None), env={**os.environ, **environment}) as client:
        assert client.ask("transcribe", audio=SAMPLE)["text"] == TEXT
        assert client.wait() == 0
        assert front.token not in client.stderr()


@pytest.mark.parametrize(
    "url", ["vllm:8000", "http://", "http://a b", "http://user:secret@host", "http://host?x=1", "ftp://h"]
)
def test_an_address_that_is_none_ends_it_in_one_line(url: str) -> None:
    for argv, environment in ((["--engine", url], {}), ([], {"QWEN3_ASR_MLX_ENGINE": url})):
        ran = subprocess.run(
            command(None, *argv), env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert "secret" not in ran.stderr
