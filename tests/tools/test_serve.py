"""scripts/qwen3-asr-mlx-serve: what it answers, whom it refuses, and how it ends."""

import asyncio
import fcntl
import http.client
import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import termios
import wave
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest
import srt
import webvtt
from conformance.player import engine_command
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from support.media_file import RATE, write
from tools.test_score import launched
from tools.test_transcribe import bridge, family, pcm

from qwen3_asr_mlx_runtime.client import BridgeClosed, BridgeExited, ClientError, RequestFailed
from qwen3_asr_mlx_runtime.client.results import TranscriptReply
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.tools.doors.life import listening
from qwen3_asr_mlx_runtime.tools.serve.answers import answer
from qwen3_asr_mlx_runtime.tools.serve.app import Access, App, application
from qwen3_asr_mlx_runtime.tools.serve.forms import Wanted
from qwen3_asr_mlx_runtime.tools.serve.main import _own_options, _parser, main
from qwen3_asr_mlx_runtime.tools.serve.metrics import Metrics
from qwen3_asr_mlx_runtime.tools.serve.problems import Problem, of_client
from qwen3_asr_mlx_runtime.tools.serve.upload import Uploads, upload_folder

TRANSCRIPTIONS = "/v1/audio/transcriptions"
SEVEN = "Seven three one."
TOKEN = "a-token-of-the-tests"
BOUNDARY = "boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
FOREVER = "while True: read()"


class Server:
    """The command as a process."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process, self._log, self._clients = process, log, list[openai.OpenAI]()
        while "listening on http://" not in self.log:
            assert process.poll() is None, self.log
        self.host, _, port = self.log.partition("listening on http://")[2].split()[0].rpartition(":")
        self.port = int(port)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, key: str = "unused", **options: object) -> openai.OpenAI:
        made = openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": key, "max_retries": 0, **options})
        self._clients.append(made)
        return made

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host.strip("[]"), self.port)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict, dict]:
        """Status, headers, and the object of the answer."""
        connection = self.connection()
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, dict(answer.headers.items()), json.loads(data) if is_json else {"body": data.decode()}

    def upload(self, body: bytes = b"", **headers: str) -> tuple[int, dict, dict]:
        return self.ask("POST", TRANSCRIPTIONS, form(body), **FORM, **headers)

    def code(self, method: str = "GET", path: str = "/v1/models", **headers: str) -> tuple[int, str]:
        """Status, and the code of an error."""
        status, _, members = self.ask(method, path, **headers)
        return status, members["error"]["code"] if "error" in members else ""


def failed(code: str, *, retryable: bool = False, **data: object) -> RequestFailed:
    return RequestFailed(ErrorReply(code=code, message="why", retryable=retryable, data=data))


def form(audio: bytes = b"RIFF", **fields: str) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    return b"".join([*parts, f'{head}"file"; filename="a"\r\n\r\n'.encode(), audio, f"\r\n--{BOUNDARY}--\r\n".encode()])


@contextmanager
def served(
    repository: Path,
    folder: Path,
    *arguments: str,
    bridge: Sequence[str] | None = None,
    grace_seconds: int = 60,
    **options: object,
) -> Iterator[Server]:
    """On a free port, in `folder`; a temporary folder is there too. `bridge`: a stand-in, or the demonstration.
    `grace_seconds`: for open requests at the end."""
    start = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        "from qwen3_asr_mlx_runtime.entry import leave_when_interrupted\nleave_when_interrupted()\n"
        "from qwen3_asr_mlx_runtime.tools.serve import server\n"
        f"server.GRACE_SECONDS = {grace_seconds}\n"
        "from qwen3_asr_mlx_runtime.tools.serve.main import main\n"
        f"sys.exit(main(sys.argv[1:], {None if bridge is None else [*bridge]!r}))"
    )
    (folder / "temporary").mkdir(exist_ok=True)
    log = folder / "stderr"
    demo = ["--bridge=--local-files-only"] if bridge is None else []
    words = [sys.executable, "-I", "-c", start, "--model", "demo", "--port", "0", *demo, *arguments]
    environ = {**os.environ, "TMPDIR": str(folder / "temporary"), **options.pop("env", {})}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            words, cwd=folder, env=environ, stderr=stderr, **{"stdin": subprocess.DEVNULL, **options}
        )
    try:
        server = Server(process, log)
        with closing(server):
            yield server
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def uploads(folder: Path) -> list[Path]:
    return [path for path in (folder / "temporary").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo(repository: Path, demo_folder: Path) -> Iterator[Server]:
    with served(repository, demo_folder) as server:
        yield server


@pytest.fixture
def sample(repository: Path) -> Path:
    return repository / "examples/audio/sample.wav"


class TestAnswers:
    def create(self, server: Server, file: object, **options: object) -> object:
        return server.client().audio.transcriptions.create(model="whisper-1", file=file, **options)

    def test_json_is_the_default_and_any_model_name_is_taken(self, demo: Server, sample: Path) -> None:
        got = self.create(demo, sample)
        assert (got.text, got.usage.type, got.usage.seconds) == (SEVEN, "duration", 1.7025)
        assert "warnings" not in got.model_extra

    def test_text_is_a_line(self, demo: Server, sample: Path) -> None:
        assert self.create(demo, sample, response_format="text") == f"{SEVEN}\n"

    def test_srt_and_vtt_have_the_times_of_words(self, demo: Server, sample: Path) -> None:
        (caption,) = srt.parse(self.create(demo, sample, response_format="srt"))
        assert (caption.content, caption.start.total_seconds()) == (SEVEN, 0.16)
        (cue,) = webvtt.from_string(self.create(demo, sample, response_format="vtt"))
        assert (cue.text, cue.start) == (SEVEN, "00:00:00.160")

    def test_verbose_json_has_segments_and_words_as_they_are_asked_for(self, demo: Server, sample: Path) -> None:
        got = self.create(demo, sample, response_format="verbose_json")
        assert (got.language, got.duration, got.text, got.words) == ("english", 1.7025, SEVEN, None)
        (segment,) = got.segments
        assert (segment.id, segment.start, segment.end, segment.text) == (0, 0.0, 1.702, SEVEN)
        assert (segment.seek, segment.tokens, segment.temperature) == (0, [], 0.0)
        assert (segment.avg_logprob, segment.no_speech_prob) == (0.0, 0.0)
        got = self.create(demo, sample, response_format="verbose_json", timestamp_granularities=["word"])
        assert ([word.word for word in got.words], got.segments) == (["Seven", "three", "one."], None)
        got = self.create(demo, sample, response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert (len(got.words), len(got.segments)) == (3, 1)

    def test_stream_sends_a_delta_for_each_segment_and_the_whole(
        self, demo: Server, sample: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "long.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(pcm(sample) * 40)
        *deltas, done = self.create(demo, path, stream=True)
        assert len(deltas) > 2
        assert {each.type for each in deltas} == {"transcript.text.delta"}
        assert done.type == "transcript.text.done"
        assert "".join(each.delta for each in deltas) == done.text
        assert done.text.lower().count("seven three one") == 40
        assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens

    def test_temperature_is_named_as_without_effect(self, demo: Server, sample: Path) -> None:
        got = self.create(demo, sample, temperature=0.2)
        assert got.model_extra["warnings"] == ["temperature has no effect"]

    def test_a_video_needs_no_suffix(self, demo: Server, sample: Path, tmp_path: Path) -> None:
        samples = np.frombuffer(pcm(sample), "<i2")
        write(tmp_path / "film.mp4", [np.repeat(samples, RATE // 16_000)[None]], video=True)
        assert self.create(demo, ("x", (tmp_path / "film.mp4").read_bytes())).text == SEVEN

    @pytest.mark.parametrize(
        ("options", "param", "code"),
        [
            ({"language": "Klingon"}, "language", "invalid_params"),
            ({"response_format": "diarized_json"}, "response_format", "invalid_params"),
            ({"response_format": "srt", "stream": True}, "stream", "invalid_params"),
            ({"timestamp_granularities": ["letter"]}, "timestamp_granularities[]", "invalid_params"),
            ({"prompt": "x" * 20_000}, "prompt", "invalid_params"),
            ({"file": ("x", b"no audio at all, but some bytes")}, "file", "audio_unsupported"),
            ({"file": ("x", b"")}, "file", "audio_empty"),
        ],
    )
    def test_what_is_wrong_is_an_error_in_the_form_of_openai(
        self, demo: Server, sample: Path, options: dict, param: str, code: str
    ) -> None:
        with pytest.raises(openai.BadRequestError) as failed:
            self.create(demo, **{"file": sample, **options})
        error = failed.value
        assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")

    @pytest.mark.parametrize(
        ("body", "headers"), [(b"", {}), (b"x", FORM), (b"{}", {"Content-Type": "application/json"})], ids=str
    )
    def test_a_request_without_a_file_is_an_error(self, demo: Server, body: bytes, headers: dict) -> None:
        status, _, members = demo.ask("POST", TRANSCRIPTIONS, body, **headers)
        assert (status, members["error"]["type"]) == (400, "invalid_request_error")

    def test_an_unknown_path_and_method_are_errors_in_that_form(self, demo: Server) -> None:
        assert demo.code("GET", "/v1/nothing") == (404, "not_found")
        assert demo.code("GET", TRANSCRIPTIONS) == (405, "method_not_allowed")

    def test_the_models_are_the_one(self, demo: Server) -> None:
        (model,) = demo.client().models.list().data
        assert (model.id, model.object) == ("demo", "model")

    def test_a_folder_is_a_model_without_its_path(
        self, repository: Path, tmp_path: Path, demo_checkpoint: Path
    ) -> None:
        with served(repository, tmp_path, "--model", str(demo_checkpoint), bridge=bridge("answer()")) as server:
            assert [model.id for model in server.client().models.list().data] == ["demo"]

    def test_health_says_ready(self, demo: Server, sample: Path) -> None:
        self.create(demo, sample)
        assert demo.ask("GET", "/health")[::2] == (200, {"status": "ready"})

    def test_metrics_can_be_read_by_prometheus_and_hold_no_path_of_a_request(self, demo: Server, sample: Path) -> None:
        self.create(demo, sample)
        demo.code("GET", "/secret-of-mine")
        text = demo.ask("GET", "/metrics")[2]["body"]
        samples = {
            (each.name, *each.labels.values()): each.value
            for found in text_string_to_metric_families(text)
            for each in found.samples
        }
        assert samples["qwen3_asr_mlx_requests_total", TRANSCRIPTIONS, "200"] >= 1
        assert samples["qwen3_asr_mlx_requests_total", "other", "404"] >= 1
        assert samples["qwen3_asr_mlx_audio_seconds_total",] >= 1.7
        assert samples["qwen3_asr_mlx_ready",] == 1
        assert "secret" not in text

    @pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
    def test_curl_gets_subtitles(self, demo: Server, sample: Path) -> None:
        words = ["curl", "-fsS", "-F", f"file=@{sample}", "-F", "response_format=srt", f"{demo.url}{TRANSCRIPTIONS}"]
        (caption,) = srt.parse(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        assert caption.content == SEVEN

    def test_neither_text_nor_a_file_is_left(self, demo: Server, demo_folder: Path, sample: Path) -> None:
        self.create(demo, sample, prompt="kettle")
        assert uploads(demo_folder) == []
        assert "even" not in demo.log
        assert "kettle" not in demo.log
        assert len(demo.log.splitlines()) == 2


def test_a_long_text_that_repeats_itself_has_a_high_compression_ratio() -> None:
    from tools.test_captions import result, segment

    reply: TranscriptReply = result(segment(0.0, 9.0, "no " * 50)).reply
    body = json.loads(answer(Wanted(response_format="verbose_json"), reply).body)
    assert body["segments"][0]["compression_ratio"] > 5


@pytest.mark.parametrize(
    ("error", "status", "param", "headers"),
    [
        (failed("audio_too_long"), 400, "file", {}),
        (failed("invalid_params", field="context"), 400, "prompt", {}),
        (failed("model_not_found"), 500, None, {"x-should-retry": "false"}),
        (failed("out_of_memory", retryable=True), 503, None, {"x-should-retry": "true", "retry-after": "1"}),
        (BridgeExited("gone", retryable=True), 500, None, {"x-should-retry": "false"}),
        (BridgeClosed("stopped"), 503, None, {"x-should-retry": "true", "retry-after": "1"}),
    ],
    ids=lambda each: getattr(each, "wire_code", None),
)
def test_an_error_of_the_bridge_says_whose_fault_it_is_and_whether_to_try_again(
    error: ClientError, status: int, param: str | None, headers: dict
) -> None:
    response = of_client(error).response()
    members = json.loads(response.body)["error"]
    assert (response.status_code, members["param"]) == (status, param)
    assert {
        name: response.headers[name] for name in ("x-should-retry", "retry-after") if name in response.headers
    } == headers


class TestRequests:
    def test_fields_become_members_of_the_request_and_the_file_is_private(
        self, repository: Path, tmp_path: Path
    ) -> None:
        keep = (
            "found = os.stat(asked['audio']).st_mode, open(asked['audio']).read(), dict(os.environ)\n"
            "open('asked.json', 'w').write(json.dumps([sys.argv[1:], asked, found])); answer()"
        )
        with served(repository, tmp_path, bridge=bridge(keep), env={"QWEN3_ASR_MLX_TOKEN": TOKEN}) as server:
            body = form(b"audio", language="en", prompt="kettle", response_format="srt")
            assert server.ask("POST", TRANSCRIPTIONS, body, **FORM, Authorization=f"Bearer {TOKEN}")[0] == 200
        options, asked, (mode, audio, environ) = json.loads((tmp_path / "asked.json").read_text())
        assert options[:4] == ["--model", "demo", "--max-audio-seconds", "14400"]
        assert (asked["language"], asked["context"], asked["words"]) == ("English", "kettle", True)
        assert (stat.S_IMODE(mode), audio) == (0o600, "audio")
        assert "QWEN3_ASR_MLX_TOKEN" not in environ
        assert not Path(asked["audio"]).exists()

    def test_options_of_the_bridge_are_passed_on(self, repository: Path, tmp_path: Path) -> None:
        keep = "open('asked.json', 'w').write(json.dumps(sys.argv[1:])); answer()"
        arguments = ["--keep-alive-seconds", "60", "--lazy", "--bridge", "--dtype float32"]
        with served(repository, tmp_path, *arguments, bridge=bridge(keep)) as server:
            assert server.upload()[0] == 200
        options = json.loads((tmp_path / "asked.json").read_text())
        assert options[6:11] == ["--keep-alive-seconds", "60", "--lazy", "--dtype", "float32"]


def test_the_bridge_may_have_a_stream_for_each_session() -> None:
    options = _parser().parse_args(["--model", "demo", "--max-requests", "65"])
    assert _own_options(options)[-2:] == ["--max-streams", "65"]


@pytest.fixture
def stand_in(repository: Path, tmp_path: Path) -> Iterator[Server]:
    """Without a model."""
    with served(repository, tmp_path, bridge=bridge("answer()")) as server:
        yield server


class TestGuard:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]", "[::1]:80", "192.168.0.7"])
    def test_an_address_or_localhost_is_a_host(self, stand_in: Server, host: str) -> None:
        assert stand_in.code(Host=host) == (200, "")

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", "a b"])
    def test_a_name_is_none_because_it_can_be_rebound(self, stand_in: Server, host: str) -> None:
        for path in ("/v1/models", "/health", "/metrics"):
            assert stand_in.code(path=path, Host=host) == (403, "host_not_allowed")

    def test_a_page_from_elsewhere_is_refused_and_gets_no_cors(self, stand_in: Server) -> None:
        for origin in ("http://evil.example", "null", stand_in.url):
            status, headers, members = stand_in.upload(Origin=origin)
            assert (status, members["error"]["code"]) == (403, "origin_not_allowed")
            assert not [name for name in headers if name.lower().startswith("access-control")]

    def test_names_and_pages_that_are_allowed_are_answered(self, repository: Path, tmp_path: Path) -> None:
        page = "http://localhost:3000"
        arguments = ["--allow-host", "studio.local", "--allow-origin", page]
        env = {"QWEN3_ASR_MLX_TOKEN": TOKEN}
        with served(repository, tmp_path, *arguments, bridge=bridge("answer()"), env=env) as server:
            key = f"Bearer {TOKEN}"
            assert server.code(Host="studio.local:8000", Authorization=key) == (200, "")
            status, headers, _ = server.upload(Origin=page, Authorization=key)
            assert (status, headers["access-control-allow-origin"]) == (200, page)
            asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
            status, headers, _ = server.ask("OPTIONS", TRANSCRIPTIONS, Origin=page, **asked)
            assert (status, headers["access-control-allow-origin"]) == (200, page)
            assert server.code(Origin="http://localhost:3001", Authorization=key) == (403, "origin_not_allowed")

    def test_a_token_is_needed_for_all_but_health(self, repository: Path, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        with served(repository, tmp_path, "--token-file", "token", bridge=bridge("answer()")) as server:
            for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                assert server.code(**wrong) == (401, "invalid_api_key")
                assert server.code(path="/metrics", **wrong) == (401, "invalid_api_key")
            assert server.ask("GET", "/health")[2]["status"] in ("loading", "ready")
            assert server.client(TOKEN).models.list().data[0].id == "demo"
            with pytest.raises(openai.AuthenticationError):
                server.client("wrong").audio.transcriptions.create(model="x", file=b"x")
            assert TOKEN not in " ".join(psutil.Process(server.process.pid).cmdline())

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--host", "0.0.0.0"], "--host 0.0.0.0 is open to other machines: it needs --token-file or QWEN3_"),
            (["--host", "studio.local"], "it needs --token-file"),
            (["--token-file", os.devnull], "expected a token of at least 8 visible ASCII characters"),
            (["--allow-origin", "localhost"], "expected an origin, as http://localhost:3000"),
            (["--port", "65536"], "expected a whole number from 0 to 65535"),
        ],
    )
    def test_a_command_line_that_is_wrong(self, arguments: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit, match=r"^2$"):
            main(arguments)
        assert said in capsys.readouterr().err


class TestLimits:
    @pytest.fixture
    def small(self, repository: Path, tmp_path: Path) -> Iterator[Server]:
        with served(repository, tmp_path, "--max-upload-mb", "1", bridge=bridge("answer()")) as server:
            yield server

    def test_an_upload_that_is_too_large_is_refused_before_it_is_read(self, small: Server) -> None:
        connection = small.connection()
        connection.putrequest("POST", TRANSCRIPTIONS)
        connection.putheader("Content-Length", str((1 << 20) + 1))
        connection.putheader("Content-Type", FORM["Content-Type"])
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "upload_too_large")
        connection.close()

    def test_one_that_names_no_length_is_cut_off(self, small: Server, tmp_path: Path) -> None:
        """The client still sends when it is refused, so it may not read the answer."""
        blocks = iter([form(bytes(1 << 20))[:-20], bytes(1 << 10)])
        status, _, members = small.ask("POST", TRANSCRIPTIONS, blocks, **FORM)
        assert (status, members["error"]["code"]) == (413, "upload_too_large")
        assert uploads(tmp_path) == []

    def test_the_official_client_reads_that_an_upload_is_too_large(self, small: Server) -> None:
        with pytest.raises(openai.APIStatusError) as failed:
            small.client().audio.transcriptions.create(model="x", file=("x", bytes(8 << 20)))
        assert (failed.value.status_code, failed.value.code) == (413, "upload_too_large")

    def test_a_client_that_sends_nothing_fails_in_the_end(self, tmp_path: Path) -> None:
        async def receive() -> dict:
            await asyncio.Event().wait()
            raise AssertionError

        async def upload() -> None:
            headers = [(b"content-type", FORM["Content-Type"].encode())]
            request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
            async with Uploads(tmp_path, 1 << 20, idle_seconds=0.01).received(request):
                raise AssertionError

        with pytest.raises(Problem) as failed:
            asyncio.run(upload())
        assert (failed.value.status, failed.value.code) == (408, "upload_timeout")

    def test_an_upload_lies_on_the_disk_and_waits_in_the_client(self, stand_in: Server) -> None:
        """What is sent is read, or still at the client, but for the buffers of a connection."""
        process = psutil.Process(stand_in.process.pid)
        before = process.memory_info().rss
        with socket.create_connection((stand_in.host, stand_in.port)) as client:
            head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {150 << 20}\r\n"
            client.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + form()[:-30])
            for _ in range(100):
                client.sendall(bytes(1 << 20))
            assert process.memory_info().rss - before < 32 << 20

    def test_one_more_request_than_allowed_is_asked_to_come_again(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, "--max-requests", "2", bridge=bridge(FOREVER)) as server:
            with ongoing(server), ongoing(server):
                wait_for(server, "qwen3_asr_mlx_transcriptions_in_progress", 2)
                status, headers, members = server.upload()
                assert (status, members["error"]["code"], headers["retry-after"]) == (503, "busy", "1")
                with pytest.raises(openai.APIStatusError) as failed:
                    server.client().audio.transcriptions.create(model="x", file=("x", bytes(8 << 20)))
                assert (failed.value.status_code, failed.value.code) == (503, "busy")
            wait_for(server, "qwen3_asr_mlx_transcriptions_in_progress", 0)

    def test_what_a_killed_server_has_left_is_deleted_by_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        ended = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
        ended.wait()
        kept, left = tmp_path / f"qwen3-asr-serve-{os.getpid()}-x", tmp_path / f"qwen3-asr-serve-{ended.pid}-x"
        for folder in (kept, left):
            folder.mkdir()
            (folder / "upload").touch()
        with upload_folder() as own:
            assert (kept.exists(), left.exists()) == (True, False)
            assert stat.S_IMODE(own.stat().st_mode) == 0o700
        assert [*tmp_path.iterdir()] == [kept]


@contextmanager
def ongoing(server: Server) -> Iterator[socket.socket]:
    """A request whose answer nobody has read; the client goes away at the end."""
    with socket.create_connection((server.host, server.port)) as client:
        body = form()
        head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        client.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + body)
        yield client


def wait_for(server: Server, name: str, value: float) -> None:
    while f"\n{name} {value:.1f}\n" not in server.ask("GET", "/metrics")[2]["body"]:
        assert server.process.poll() is None


class TestBridge:
    def test_a_client_that_goes_away_cancels_its_request(self, repository: Path, tmp_path: Path) -> None:
        keep = "open('begun', 'w').close(); said = read(); open('part', 'w').write(json.dumps([asked, said]))\n"
        keep += "os.rename('part', 'cancelled'); say(PONG, id=said['id'])"
        with served(repository, tmp_path, bridge=bridge(keep)) as server:
            with ongoing(server):
                while not (tmp_path / "begun").exists():
                    assert server.process.poll() is None
            while not (tmp_path / "cancelled").exists():
                assert server.process.poll() is None
            asked, said = json.loads((tmp_path / "cancelled").read_text())
            assert (said["type"], said["target"]) == ("cancel", asked["id"])
            wait_for(server, "qwen3_asr_mlx_transcriptions_in_progress", 0)
            assert uploads(tmp_path) == []
            assert (
                f'requests_total{{route="{TRANSCRIPTIONS}",status="499"}} 1.0'
                in server.ask("GET", "/metrics")[2]["body"]
            )

    def test_a_client_that_goes_away_in_its_upload_leaves_nothing(self, stand_in: Server, tmp_path: Path) -> None:
        with socket.create_connection((stand_in.host, stand_in.port)) as client:
            head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            client.sendall(f"{head}Content-Type: {FORM['Content-Type']}\r\n\r\n".encode() + form(bytes(1 << 21)))
            wait_for(stand_in, "qwen3_asr_mlx_transcriptions_in_progress", 1)
        wait_for(stand_in, "qwen3_asr_mlx_transcriptions_in_progress", 0)
        assert uploads(tmp_path) == []

    def test_a_request_that_is_lost_with_the_bridge_is_sent_once_more(self, repository: Path, tmp_path: Path) -> None:
        crash = "try: open('crashed', 'x').close()\nexcept FileExistsError: answer()\nelse: os._exit(9)"
        with served(repository, tmp_path, bridge=bridge(crash)) as server:
            status, _, members = server.upload()
            assert (status, members["text"]) == (200, SEVEN)
            wait_for(server, "qwen3_asr_mlx_retries_total", 1)
            wait_for(server, "qwen3_asr_mlx_bridge_restarts", 1)

    def test_one_that_crashes_it_again_is_an_error_that_no_client_tries_again(
        self, repository: Path, tmp_path: Path
    ) -> None:
        crash = "os._exit(9) if 'bad' in open(asked['audio']).read() else answer()"
        with served(repository, tmp_path, bridge=bridge(crash)) as server:
            with pytest.raises(openai.InternalServerError) as failed:
                server.client(max_retries=2).audio.transcriptions.create(model="x", file=b"bad")
            assert (failed.value.code, failed.value.type) == ("bridge_exited", "server_error")
            wait_for(server, "qwen3_asr_mlx_retries_total", 1)
            for _ in range(3):  # more losses than an app would let pass
                assert server.upload(b"bad")[0] == 500
            assert server.upload(b"good")[0] == 200
            assert uploads(tmp_path) == []

    def test_a_bridge_that_is_lost_while_idle_loads_its_model_again(self, stand_in: Server) -> None:
        wait_for(stand_in, "qwen3_asr_mlx_ready", 1)
        (child,) = psutil.Process(stand_in.process.pid).children()
        child.kill()
        wait_for(stand_in, "qwen3_asr_mlx_bridge_restarts", 1)
        wait_for(stand_in, "qwen3_asr_mlx_ready", 1)
        assert "qwen3-asr-mlx-serve: the bridge was lost: bridge_exited" in stand_in.log

    def test_health_says_loading_until_the_model_is_there(self, repository: Path, tmp_path: Path) -> None:
        held = bridge("answer()")
        program = held[held.index("-c") + 1]
        held[held.index("-c") + 1] = program.replace("greet()\nwhile", "greet()\nheld = read()\nhold()\nwhile")
        pipe = tmp_path / "held"
        os.mkfifo(pipe)
        held.append(str(pipe))
        with served(repository, tmp_path, bridge=held) as server:
            assert server.ask("GET", "/health")[::2] == (503, {"status": "loading"})
            pipe.open("w").close()

    def test_a_model_that_is_not_there_is_said_and_the_next_request_tries_again(
        self, repository: Path, tmp_path: Path, sample: Path
    ) -> None:
        """The engine of the tests fails to load once."""
        with served(repository, tmp_path, bridge=engine_command("no_model")) as server:
            while server.ask("GET", "/health")[2]["status"] == "loading":
                assert server.process.poll() is None
            assert server.ask("GET", "/health")[::2] == (503, {"status": "failed", "code": "model_not_found"})
            assert "the model cannot be loaded: model_not_found: " in server.log
            assert server.upload(sample.read_bytes())[0] == 200
            assert server.ask("GET", "/health")[::2] == (200, {"status": "ready"})

    @pytest.mark.parametrize(("losses", "status"), [(2, "ready"), (3, "failed")])
    def test_a_load_whose_bridge_is_lost_is_tried_again_but_not_for_ever(
        self, repository: Path, tmp_path: Path, losses: int, status: str
    ) -> None:
        """Without a request."""
        lossy = bridge("answer()")
        program = lossy[lossy.index("-c") + 1]
        die = f"with open('starts', 'a+') as f: f.write('x'); f.seek(0); f.read()[{losses}:] or os._exit(9)"
        die = f"    asked = read()\n    if asked['type'] == 'start':\n        {die}\n"
        lossy[lossy.index("-c") + 1] = program.replace("    asked = read()\n", die)
        with served(repository, tmp_path, bridge=lossy) as server:
            while (health := server.ask("GET", "/health")[2])["status"] == "loading":
                assert server.process.poll() is None
            assert health == {"status": status, **({"code": "bridge_exited"} if status == "failed" else {})}
            assert server.upload()[0] == 200
            assert server.ask("GET", "/health")[2] == {"status": "ready"}
        assert (tmp_path / "starts").read_text() == "xxx"

    def test_a_bridge_that_refuses_to_start_is_told_by_its_own_code(self, capsys: pytest.CaptureFixture) -> None:
        fatal = 'print(\'{"type":"fatal","code":"model_not_found","message":"why","retryable":false}\'); exit(2)'
        assert main(["--port", "0", "--model", "demo"], [sys.executable, "-I", "-S", "-c", fatal]) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith("qwen3-asr-mlx-serve: model_not_found: why")

    def test_a_bridge_that_cannot_start_ends_the_server(self, capsys: pytest.CaptureFixture) -> None:
        assert (
            main(["--port", "0", "--model", "demo"], [sys.executable, "-I", "-S", "-c", "import sys; sys.exit(2)"]) == 1
        )
        assert capsys.readouterr().err.splitlines()[-1].startswith("qwen3-asr-mlx-serve: bridge_exited: ")

    def test_an_address_that_is_taken_is_one_line(self, capsys: pytest.CaptureFixture) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert main(["--port", str(port), "--model", "demo"], bridge("answer()")) == 1
        assert capsys.readouterr().err == f"qwen3-asr-mlx-serve: Address already in use: 127.0.0.1:{port}\n"


def test_no_answer_waits_for_the_acknowledgement_of_its_head() -> None:
    """asyncio sets TCP_NODELAY on what is accepted from a socket that names its protocol."""
    with listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_bug_is_answered_and_logged_without_its_message(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Broken:
        @property
        def health(self) -> None:
            raise ValueError(SEVEN)

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    async def send(message: dict) -> None:
        sent.append(message)

    sent: list[dict] = []
    metrics = Metrics(bool, int)
    app = App(Broken(), metrics, Uploads(tmp_path, 1), model="demo", started=0, max_requests=1)
    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(b"host", b"localhost")]}
    asyncio.run(application(app, metrics, Access())(scope, receive, send))
    assert (sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]) == (500, "internal_error")
    assert capsys.readouterr().err.startswith("qwen3-asr-mlx-serve: a bug: ValueError in health, line ")


class TestEnds:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda n: str(n)
    )
    def test_a_signal_leaves_no_bridge_and_no_file(
        self, repository: Path, tmp_path: Path, number: int, code: int
    ) -> None:
        with served(repository, tmp_path) as server:
            bridges = family(server.process)
            server.process.send_signal(number)
            assert server.process.wait() == code
        assert psutil.wait_procs(bridges, timeout=60)[1] == []
        assert [*(tmp_path / "temporary").iterdir()] == []
        assert len(server.log.splitlines()) == 2

    def test_an_open_request_ends_before_the_server_does(self, repository: Path, tmp_path: Path) -> None:
        pipe = tmp_path / "held"
        os.mkfifo(pipe)
        with (
            served(repository, tmp_path, bridge=bridge("open('held').close(); answer()")) as server,
            ongoing(server) as client,
        ):
            with pipe.open("w"):  # the bridge has it
                server.process.terminate()
                while _accepts(server):
                    assert server.process.poll() is None
            assert b"200 OK" in client.recv(1000)
            assert server.process.wait() == 143

    @pytest.mark.parametrize(("signals", "grace_seconds"), [(1, 1), (2, 3600)])
    def test_the_end_of_the_grace_and_a_second_signal_end_open_requests_too(
        self, repository: Path, tmp_path: Path, signals: int, grace_seconds: int
    ) -> None:
        keep = bridge(f"open('begun', 'w').close()\n{FOREVER}")
        with served(repository, tmp_path, bridge=keep, grace_seconds=grace_seconds) as server, ongoing(server):
            while not (tmp_path / "begun").exists():
                assert server.process.poll() is None
            bridges = psutil.Process(server.process.pid).children(recursive=True)
            server.process.terminate()
            if signals == 2:
                while _accepts(server):  # the first is not done yet
                    assert server.process.poll() is None
                server.process.terminate()
            assert server.process.wait() == 143
        assert psutil.wait_procs(bridges, timeout=60)[1] == []
        assert uploads(tmp_path) == []

    def test_it_ends_with_its_terminal_and_leaves_no_bridge(self, repository: Path, tmp_path: Path) -> None:
        master, slave = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        options = {"stdin": slave, "stdout": slave, "preexec_fn": take_terminal}
        with served(repository, tmp_path, **options) as server:
            os.close(slave)
            bridges = family(server.process)
            os.close(master)
            assert server.process.wait() == 129
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    def test_it_ends_with_the_parent_that_is_named(self, repository: Path, tmp_path: Path) -> None:
        parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
        with served(repository, tmp_path, "--parent-pid", str(parent.pid), bridge=bridge("answer()")) as server:
            bridges = psutil.Process(server.process.pid).children(recursive=True)
            parent.communicate(b"\n")
            assert server.process.wait() == 5
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    def test_a_kill_leaves_no_bridge(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path) as server:
            bridges = family(server.process)
            server.process.kill()
        assert psutil.wait_procs(bridges, timeout=60)[1] == []


def _accepts(server: Server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((server.host, server.port)) == 0


def test_the_launcher_starts_it_and_help_shows_examples(repository: Path, tmp_path: Path) -> None:
    output = launched(repository, tmp_path, "qwen3-asr-mlx-serve", "--help", groups="")
    assert (output.returncode, output.stderr) == (0, "")
    assert "qwen3-asr-mlx-serve --host 0.0.0.0 --token-file TOKEN" in output.stdout
