"""scripts/qwen3-asr-mlx-wyoming, asked by the client of the package wyoming: what it answers, and how it ends."""

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import wave
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import soundfile
import soxr
from conformance.player import engine_command
from support.client_children import child
from tools.test_score import launched
from tools.test_transcribe import family, pcm
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping, Pong

from qwen3_asr_mlx_runtime import __version__
from qwen3_asr_mlx_runtime.client import ClientError, EventsLost
from qwen3_asr_mlx_runtime.errors import OddPcmLength
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.limits import MAX_CONTEXT_CHARACTERS
from qwen3_asr_mlx_runtime.protocol.replies import Ready
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult, StreamStopped, UtteranceQueued
from qwen3_asr_mlx_runtime.tools.doors.service import Service
from qwen3_asr_mlx_runtime.tools.wyoming.audio import Format
from qwen3_asr_mlx_runtime.tools.wyoming.handler import Asked, Handler, Settings
from qwen3_asr_mlx_runtime.tools.wyoming.main import main
from qwen3_asr_mlx_runtime.tools.wyoming.reader import MAX_DATA_BYTES, MAX_HEADER_BYTES, Reader
from qwen3_asr_mlx_runtime.tools.wyoming.server import info
from qwen3_asr_mlx_runtime.tools.wyoming.utterance import Utterance

SEVEN = "Seven three one."
MONO = {"rate": 16_000, "width": 2, "channels": 1}
STREAMED = ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]


class Door:
    """The command as a process."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process, self._log = process, log
        while "listening on " not in self.log:
            assert process.poll() is None, self.log
        self.uri = self.log.partition("listening on ")[2].split()[0]

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.uri.removeprefix("tcp://").rpartition(":")
        return host, int(port)

    def play(self, conversation: Callable[[AsyncClient], object]) -> object:
        """What a conversation with a new connection returns."""

        async def play() -> object:
            async with connected(self.uri) as client:
                return await conversation(client)

        return asyncio.run(play())

    def ask(self, *events: Eventable) -> list[Event]:
        """All that comes for these events, up to the end of the transcript, or of the connection."""

        async def ask(client: AsyncClient) -> list[Event]:
            return await said(client, *events)

        return self.play(ask)


@asynccontextmanager
async def connected(uri: str) -> AsyncIterator[AsyncClient]:
    client = AsyncClient.from_uri(uri)
    await client.connect()
    try:
        yield client
    finally:
        with suppress(ConnectionError):  # the door has closed it first
            await client.disconnect()


async def said(client: AsyncClient, *events: Eventable) -> list[Event]:
    for event in events:
        await client.write_event(event.event())
    answers = []
    while (answer := await client.read_event()) is not None:
        answers.append(answer)
        if answer.type in ("transcript-stop", "info", "pong"):
            break
    return answers


def utterance(path: Path, samples: int = 1024) -> list[Eventable]:
    """As the package sends a file."""
    with wave.open(str(path)) as file:
        return [*wav_to_chunks(file, samples, start_event=True, stop_event=True)]


def spoken(audio: bytes = b"\1\0", **format: int) -> list[Eventable]:
    """An utterance in one chunk."""
    return [AudioStart(**{**MONO, **format}), AudioChunk(audio=audio, **{**MONO, **format}), AudioStop()]


def text_of(answers: Sequence[Event]) -> str:
    (transcript,) = [Transcript.from_event(each) for each in answers if Transcript.is_type(each.type)]
    return transcript.text


def chunks_of(answers: Sequence[Event]) -> list[str]:
    return [each.data["text"] for each in answers if each.type == "transcript-chunk"]


def code_of(answers: Sequence[Event]) -> str | None:
    """Of the one event, which is an error."""
    assert [each.type for each in answers] == ["error"]
    return Error.from_event(answers[0]).code


def started(repository: Path, *arguments: str, bridge: Sequence[str] | None = None, before: str = "") -> list[str]:
    start = (
        f"import sys; sys.path.insert(0, {str(repository / 'src')!r})\n"
        "from qwen3_asr_mlx_runtime.entry import leave_when_interrupted\nleave_when_interrupted()\n"
        f"from qwen3_asr_mlx_runtime.tools.wyoming import server\n{before}\n"
        "from qwen3_asr_mlx_runtime.tools.wyoming.main import main\n"
        f"sys.exit(main(sys.argv[1:], {None if bridge is None else [*bridge]!r}))"
    )
    demo = ["--bridge=--local-files-only"] if bridge is None else []
    return [sys.executable, "-I", "-c", start, "--model", "demo", *demo, *arguments]


@contextmanager
def opened(
    repository: Path, folder: Path, *arguments: str, bridge: Sequence[str] | None = None, before: str = "", **options
) -> Iterator[Door]:
    """On a free port, in `folder`. `bridge`: a stand-in, or the demonstration. `before`: lines of the process."""
    log = folder / "stderr"
    words = started(repository, "--uri", "tcp://127.0.0.1:0", *arguments, bridge=bridge, before=before)
    with log.open("w") as stderr:
        process = subprocess.Popen(words, cwd=folder, stderr=stderr, **{"stdin": subprocess.DEVNULL, **options})
    try:
        yield Door(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def bridge(on_message: str = "", text: str = SEVEN) -> list[str]:
    """A stand-in that runs this code for each message `asked`, and answers it unless the code has set that to None.
    `text`: of every utterance."""
    queued = msgspec.to_builtins(UtteranceQueued(stream_id="", utterance_id="u", samples=1, queued=1, batch_size=1))
    stopped = msgspec.to_builtins(StreamStopped(stream_id="", dropped_samples=0, queued=0, cancelled_utterances=[]))
    partial = msgspec.to_builtins(PartialResult(stream_id="", samples_buffered=1, chunks=1, revision=1))
    ready = msgspec.to_builtins(Ready(model="demo", model_dir="", load_seconds=0.1, load_profile={}, load="warm"))
    indented = "\n".join(f"    {line}" for line in on_message.splitlines())
    program = f"""
number = 0
QUEUED, ERROR = {queued!r}, {{"code": "decode_failed", "message": "why"}}
REFUSED = {{"type": "error", "retryable": False, "data": {{}}}}
DROPPED = {{**REFUSED, "type": "stream_error", "seq": 0, "dropped_samples": 1}}
def event(message, **members):
    global number
    number += 1
    say({{**message, "event": True, "n": number, **members}})
def partial(text):
    event({partial!r}, stream_id=asked["stream_id"], stable_text=text, text=text)
def final(text, **members):
    item = {{**FINAL["items"][0], "stream_id": asked["stream_id"], "text": text, "language": "English", **members}}
    event(FINAL, items=[item])
greet()
while True:
    asked = read()
    kind, name = asked["type"], asked.get("stream_id")
{indented}
    if asked is None or kind == "audio_chunk":
        continue
    if kind == "stop":
        say(STOPPED, id=asked["id"])
        sys.exit(0)
    replies = {{"start": {ready!r}, "start_stream": READY, "end_utterance": QUEUED, "stop_stream": {stopped!r}}}
    reply = replies.get(kind, PONG)
    say({{**reply, "stream_id": name}} if name else reply, id=asked["id"])
    if kind == "end_utterance":
        final({text!r})
"""
    return child(program)


def wait_for(door: Door, path: Path) -> None:
    while not path.exists():
        assert door.process.poll() is None, door.log


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with opened(repository, tmp_path_factory.mktemp("demo")) as door:
        yield door


@pytest.fixture
def stand_in(repository: Path, tmp_path: Path) -> Iterator[Door]:
    """Without a model."""
    with opened(repository, tmp_path, bridge=bridge()) as door:
        yield door


@pytest.fixture
def sample(repository: Path) -> Path:
    return repository / "examples/audio/sample.wav"


class TestTranscripts:
    def test_it_describes_one_model_of_thirty_languages(self, demo: Door) -> None:
        (answer,) = demo.ask(Describe())
        (program,) = Info.from_event(answer).asr
        (model,) = program.models
        assert (program.name, program.version, program.installed) == ("qwen3-asr-mlx", __version__, True)
        assert (model.name, model.installed) == ("demo", True)
        assert model.languages == [*LANGUAGE_CODES.values()]
        assert (program.supports_transcript_streaming, program.requires_external_vad) == (True, True)

    def test_a_folder_is_a_model_without_its_path(self, demo_checkpoint: Path) -> None:
        from qwen3_asr_mlx_runtime.tools.doors.options import public_name

        assert info(public_name(str(demo_checkpoint))).asr[0].models[0].name == "demo"

    def test_a_file_of_the_package_gets_a_transcript_between_the_events_that_stream_it(
        self, demo: Door, sample: Path
    ) -> None:
        answers = demo.ask(Transcribe(name="any"), *utterance(sample))
        assert [each.type for each in answers] == STREAMED
        assert Transcript.from_event(answers[2]) == Transcript(SEVEN, language="en")
        assert chunks_of(answers) == [SEVEN]
        assert answers[0].data == {"language": "en"}

    def test_every_example_has_its_text_and_several_clients_may_ask_at_once(self, demo: Door, repository: Path) -> None:
        folder = repository / "examples/audio"
        examples = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines()]

        async def ask(name: str) -> str:
            async with connected(demo.uri) as client:
                return text_of(await said(client, *utterance(folder / name)))

        async def ask_all() -> list[str]:
            return await asyncio.gather(*(ask(each["audio"]) for each in examples))

        assert asyncio.run(ask_all()) == [each["text"] for each in examples]

    @pytest.mark.parametrize(
        ("rate", "width", "channels"),
        [(8_000, 2, 1), (16_000, 3, 1), (22_050, 2, 2), (44_100, 4, 2), (48_000, 2, 6), (16_000, 1, 1)],
    )
    def test_any_rate_width_and_number_of_channels_will_do(
        self, demo: Door, sample: Path, tmp_path: Path, rate: int, width: int, channels: int
    ) -> None:
        samples = np.frombuffer(pcm(sample), "<i2") / 32768
        file = tmp_path / "sample.wav"
        subtype = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}[width]
        resampled = np.repeat(soxr.resample(samples, 16_000, rate)[:, None], channels, axis=1)
        soundfile.write(file, resampled, rate, subtype)
        sent = utterance(file, samples=333) if width != 3 else spoken(pcm(file), rate=rate, width=3, channels=channels)
        assert text_of(demo.ask(*sent)) == SEVEN

    def test_a_connection_may_have_several_utterances_and_needs_no_audio_start(self, demo: Door, sample: Path) -> None:
        async def twice(client: AsyncClient) -> list[str]:
            first = await said(client, *utterance(sample))
            second = await said(client, *utterance(sample)[1:])
            return [text_of(first), text_of(second)]

        assert demo.play(twice) == [SEVEN, SEVEN]

    def test_a_language_is_forced_by_code_or_name_for_one_utterance(self, demo: Door, repository: Path) -> None:
        arabic = utterance(repository / "examples/audio/arabic-one.wav")

        async def ask(client: AsyncClient) -> list[str]:
            found = []
            for asked in ([Transcribe(language="en")], [Transcribe(language="ENGLISH")], []):
                answers = await said(client, *asked, *arabic)
                found.append(Transcript.from_event(answers[-2]).language)
            return found

        assert demo.play(ask) == ["en", "en", "ar"]

    def test_without_audio_the_text_is_empty(self, demo: Door) -> None:
        for events in ([AudioStart(**MONO), AudioStop()], [AudioStop()], spoken(b"")):
            answers = demo.ask(*events)
            assert [each.type for each in answers] == ["transcript-start", "transcript", "transcript-stop"]
            assert text_of(answers) == ""

    def test_an_audio_start_in_an_utterance_begins_anew(self, demo: Door, repository: Path, sample: Path) -> None:
        other = utterance(repository / "examples/audio/english-five.wav")
        assert text_of(demo.ask(*other[:-1], *utterance(sample))) == SEVEN

    def test_a_ping_is_answered_and_unknown_events_are_dropped(self, demo: Door) -> None:
        answers = demo.ask(SelectProgram("other"), Ping("here"))
        assert [Pong.from_event(each) for each in answers] == [Pong("here")]

    def test_neither_text_nor_a_client_is_logged(self, demo: Door, sample: Path) -> None:
        demo.ask(Transcribe(transcript_names=["kettle"]), *utterance(sample))
        assert "even" not in demo.log
        assert "kettle" not in demo.log
        assert len(demo.log.splitlines()) == 2


def test_the_session_of_its_page_prints_what_is_shown(demo: Door, repository: Path, sample: Path) -> None:
    page = (repository / "docs/doors.md").read_text()
    (program,) = re.findall(r"<< 'END'\n(.*?)^END$", page, re.MULTILINE | re.DOTALL)
    words = [sys.executable, "-I", "-", demo.uri, str(sample)]
    ran = subprocess.run(words, input=program, capture_output=True, text=True, check=True)
    assert f"```text\n{ran.stdout}```" in page


class TestRequests:
    def test_what_a_client_asks_for_becomes_options_of_a_stream(self, repository: Path, tmp_path: Path) -> None:
        keep = "if kind == 'start_stream': open('asked.json', 'w').write(json.dumps([sys.argv[1:], asked]))"
        arguments = ["--keep-alive-seconds", "60", "--lazy", "--bridge", "--dtype float32"]
        with opened(repository, tmp_path, *arguments, bridge=bridge(keep)) as door:
            asked = Transcribe(language="de", transcript_names=["Ada", "Bo"], transcript_terms=["kettle"])
            assert text_of(door.ask(asked, *spoken(rate=48_000))) == SEVEN
        options, asked = json.loads((tmp_path / "asked.json").read_text())
        assert options[:7] == ["--model", "demo", "--keep-alive-seconds", "60", "--lazy", "--dtype", "float32"]
        assert (asked["language"], asked["context"], asked["sample_rate"]) == ("de", "Ada, Bo, kettle", 48_000)
        assert (asked["auto_flush"], asked["batch_size"], asked["partials"]) == (True, 1, False)

    def test_names_and_terms_go_into_the_context_as_far_as_they_fit(self) -> None:
        long = Asked(transcript_names=["Ada"], transcript_terms=["x" * 100] * 1000)
        assert MAX_CONTEXT_CHARACTERS - 102 <= len(long.background) <= MAX_CONTEXT_CHARACTERS
        assert set(long.background.split(", ")) == {"Ada", "x" * 100}
        assert Asked().background == ""

    def test_samples_become_16_bit_mono(self) -> None:
        values = np.array([0, 1, -32768, 32767, 12345], "<i2")
        for width, shift in ((3, 8), (4, 16)):
            wide = (values.astype("<i4") << shift).view("u1").reshape(-1, 4)[:, :width].tobytes()
            assert Format(8_000, width, 1).mono_pcm16(wide) == values.tobytes()
        assert Format(8_000, 1, 1).mono_pcm16(bytes([0, 128, 255])) == np.array([-32768, 0, 32512], "<i2").tobytes()
        pairs = np.array([[32767, -32767], [100, 300]], "<i2")
        assert Format(8_000, 2, 2).mono_pcm16(pairs.tobytes()) == np.array([0, 200], "<i2").tobytes()
        with pytest.raises(OddPcmLength):
            Format(8_000, 2, 2).mono_pcm16(bytes(6))


class TestPartials:
    """What a stand-in says is stable, and the text that it ends with."""

    def answers(self, repository: Path, folder: Path, final: str) -> list[Event]:
        command = bridge("if kind == 'audio_chunk': partial('Seven')", final)

        async def until_a_chunk(client: AsyncClient) -> list[Event]:
            chunk = AudioChunk(audio=b"\1\0", **MONO).event()
            reading = asyncio.create_task(read_until_chunk(client))
            while not reading.done():
                await client.write_event(chunk)
                await asyncio.sleep(0)
            return [*await reading, *await said(client, AudioStop())]

        with opened(repository, folder, "--partials", bridge=command) as door:
            return door.play(until_a_chunk)

    def test_stable_text_comes_while_audio_does_and_the_rest_with_the_final(
        self, repository: Path, tmp_path: Path
    ) -> None:
        answers = self.answers(repository, tmp_path, SEVEN)
        assert [each.type for each in answers] == [STREAMED[0], STREAMED[1], *STREAMED[1:]]
        assert chunks_of(answers) == ["Seven", " three one."]

    def test_a_final_that_takes_stable_text_back_comes_as_the_transcript_alone(
        self, repository: Path, tmp_path: Path
    ) -> None:
        answers = self.answers(repository, tmp_path, "Eleven.")
        assert [each.type for each in answers] == STREAMED
        assert (chunks_of(answers), text_of(answers)) == (["Seven"], "Eleven.")

    def test_the_chunks_of_the_demonstration_are_its_transcript(self, repository: Path, tmp_path: Path) -> None:
        with opened(repository, tmp_path, "--partials") as door:
            answers = door.ask(*utterance(repository / "examples/audio/english-ten.wav"))
        assert text_of(answers) == "Zero one two three four five six seven eight nine."
        assert "".join(chunks_of(answers)) == text_of(answers)


async def read_until_chunk(client: AsyncClient) -> list[Event]:
    answers: list[Event] = []
    while not answers or answers[-1].type != "transcript-chunk":
        answer = await client.read_event()
        assert answer is not None
        answers.append(answer)
    return answers


class TestErrors:
    @pytest.mark.parametrize(
        ("events", "code"),
        [
            ([Transcribe(language="Klingon"), *spoken()], "invalid_params"),
            ([Transcribe(language=7), *spoken()], "invalid_params"),
            (spoken(rate=7_999), "invalid_params"),
            (spoken(rate="16000"), "invalid_params"),
            (spoken(width=5), "invalid_params"),
            (spoken(channels=0), "invalid_params"),
            ([AudioStart(**MONO), *spoken(rate=48_000)[1:]], "invalid_params"),
            (spoken(b"\1\0\1"), "odd_pcm_length"),
            ([AudioStart(**MONO), AudioStart(rate=1, width=2, channels=1), AudioStop()], "invalid_params"),
        ],
        ids=str,
    )
    def test_what_is_wrong_has_a_code_and_its_audio_stop_ends_the_connection(
        self, stand_in: Door, events: list[Eventable], code: str
    ) -> None:
        assert code_of(stand_in.ask(*events)) == code

    def test_behind_an_error_a_new_request_begins_anew(self, stand_in: Door) -> None:
        answers = stand_in.ask(Transcribe(language="Klingon"), *spoken()[:2], Transcribe(language="de"), *spoken())
        assert [each.type for each in answers] == ["error", *STREAMED]

    def test_audio_that_is_too_long_is_refused_as_it_comes(self, repository: Path, tmp_path: Path) -> None:
        with opened(repository, tmp_path, "--max-audio-seconds", "1", bridge=bridge()) as door:
            assert text_of(door.ask(*spoken(bytes(32_000)))) == SEVEN
            assert text_of(door.ask(*spoken(bytes(48_000), rate=24_000))) == SEVEN
            assert code_of(door.ask(*spoken(bytes(32_002)))) == "audio_too_long"

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "invalid_json"),
            (b"\xff\xfe\n", "invalid_json"),
            (b"[]\n", "invalid_json"),
            (b'"describe"\n', "invalid_json"),
            (b'{"type":"describe"', None),
            (b'{"data":{}}\n', "invalid_json"),
            (b'{"type":"x","data":[],"data_length":2}\n{}', "invalid_json"),
            (b'{"type":"x","data_length":"2"}\n{}', "invalid_json"),
            (b'{"type":"x","data_length":3}\n[1]', "invalid_json"),
            (b"[" * 100_000 + b"\n", "invalid_json"),
            (b'{"type":"' + b"x" * MAX_HEADER_BYTES + b'"}\n', "invalid_json"),
            (b'{"type":"x","payload_length":10000000000}\n', "limit_exceeded"),
            (b'{"type":"x","data_length":10000000000}\n', "limit_exceeded"),
            (b'{"type":"audio-start"}\n{"type":"audio-stop"}\n', "invalid_params"),
            (b'{"type":"audio-start","data":null}\n{"type":"audio-stop"}\n', "invalid_params"),
            (b'{"type":"transcribe","data":7}\n{"type":"audio-stop"}\n', "invalid_params"),
            (b'{"type":"ping","data":[1]}\n{"type":"audio-stop"}\n', "invalid_params"),
            (b'{"type":"ping","data":{"text":"\\ud800"}}\n{"type":"audio-stop"}\n', "invalid_params"),
            (b'{"type":"transcribe","data":{"language":"\\ud800"}}\n{"type":"audio-stop"}\n', "invalid_params"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_bytes_that_are_no_event_end_the_connection_and_no_other(
        self, stand_in: Door, data: bytes, code: str | None
    ) -> None:
        with socket.create_connection(stand_in.address) as client:
            client.sendall(data)
            if code is None:
                client.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: client.recv(1 << 16), b""))
        assert (f'"code": "{code}"'.encode() in got) == (code is not None)
        assert text_of(stand_in.ask(*spoken())) == SEVEN
        assert "bug" not in stand_in.log

    def test_a_payload_of_the_largest_size_is_taken(self, stand_in: Door) -> None:
        assert text_of(stand_in.ask(*spoken(bytes(MAX_DATA_BYTES)))) == SEVEN

    def test_one_more_client_than_allowed_is_asked_to_come_again(self, repository: Path, tmp_path: Path) -> None:
        with opened(repository, tmp_path, "--max-connections", "1", bridge=bridge()) as door:

            async def ask(client: AsyncClient) -> list[Event]:
                await said(client, Ping())
                async with connected(door.uri) as other:
                    return await said(other)

            assert code_of(door.play(ask)) == "busy"
            while [each.type for each in door.ask(Ping())] != ["pong"]:  # the first client leaves
                assert door.process.poll() is None

    def test_a_model_that_is_not_there_is_an_error_and_the_door_stays(self, repository: Path, tmp_path: Path) -> None:
        """The engine of the tests fails to load once."""
        with opened(repository, tmp_path, "--lazy", bridge=engine_command("no_model")) as door:
            assert code_of(door.ask(*spoken())) == "model_not_found"
            assert door.ask(Describe())[0].type == "info"
            assert text_of(door.ask(*spoken())) != ""

    @pytest.mark.parametrize(
        "fails",
        [
            "if kind == 'end_utterance': say(QUEUED, id=asked['id']); final(None, error=ERROR); asked = None",
            "if kind == 'end_utterance': say({**REFUSED, **ERROR}, id=asked['id']); asked = None",
            "if kind == 'start_stream': say({**REFUSED, **ERROR}, id=asked['id']); asked = None",
            "if kind == 'audio_chunk': event({**DROPPED, **ERROR}, stream_id=name)",
            "if kind == 'audio_chunk': event({**DROPPED, **ERROR}, stream_id=name)\n"
            "if kind == 'end_utterance': say({**REFUSED, **ERROR, 'code': 'empty'}, id=asked['id']); asked = None",
        ],
    )
    def test_what_the_bridge_fails_at_or_refuses_is_an_error(
        self, repository: Path, tmp_path: Path, fails: str
    ) -> None:
        with opened(repository, tmp_path, bridge=bridge(fails)) as door:
            (error,) = door.ask(*spoken())
            assert Error.from_event(error) == Error("why", "decode_failed")

    def test_audio_that_the_bridge_refuses_is_an_error_before_the_utterance_ends(
        self, repository: Path, tmp_path: Path
    ) -> None:
        fails = "if kind == 'audio_chunk': event({**DROPPED, **ERROR}, stream_id=name)"

        async def until_an_error(client: AsyncClient) -> Event | None:
            reading = asyncio.create_task(client.read_event())
            while not reading.done():
                await client.write_event(AudioChunk(audio=b"\1\0", **MONO).event())
                await asyncio.sleep(0)
            return await reading

        with opened(repository, tmp_path, bridge=bridge(fails)) as door:
            assert code_of([door.play(until_an_error)]) == "decode_failed"


def handler(service: object, idle_seconds: float | None = None) -> tuple[Handler, Reader, "Written"]:
    reader, writer = Reader(), Written()
    settings = Settings(info("demo"), 60.0, False, idle_seconds)
    return Handler(reader, writer, service, settings, ends_with_input=True), reader, writer


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    def writelines(self, lines: Sequence[bytes]) -> None:
        self.data += b"".join(lines)

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass


def test_a_client_that_sends_nothing_is_told_so_in_the_end() -> None:
    async def run() -> bytes:
        made, _, written = handler(None, idle_seconds=0.01)
        await made.run()
        return written.data

    assert b'"code": "audio_read_timeout"' in asyncio.run(run())


def test_no_event_is_read_before_the_bridge_has_taken_the_one_before() -> None:
    class Slow:
        def __init__(self) -> None:
            self.taken, self.may_go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)
            self.count = 0

        async def open_stream(self, *_: object, **__: object) -> "Slow":
            return self

        async def append(self, _: bytes) -> None:
            self.count += 1
            self.taken.release()
            await self.may_go_on.acquire()

        def close_stream(self, _: object) -> None:
            pass

    async def run() -> None:
        slow = Slow()
        made, reader, _ = handler(slow)
        fed = Written()
        for _ in range(3):
            await async_write_event(AudioChunk(audio=b"\1\0", **MONO).event(), fed)
        reader.feed_data(fed.data)
        task = asyncio.create_task(made.run())
        for count in (1, 2, 3):
            await slow.taken.acquire()
            assert slow.count == count
            slow.may_go_on.release()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_client_that_sends_much_leaves_other_tasks_their_turn() -> None:
    class Fast:
        async def open_stream(self, *_: object, **__: object) -> "Fast":
            return self

        async def append(self, _: bytes) -> None:
            seen.append(turns)

        def close_stream(self, _: object) -> None:
            pass

    seen: list[int] = []
    turns = 0

    async def run() -> None:
        nonlocal turns
        made, reader, _ = handler(Fast())
        fed = Written()
        for _ in range(5):
            await async_write_event(AudioChunk(audio=b"\1\0", **MONO).event(), fed)
        reader.feed_data(fed.data)
        task = asyncio.create_task(made.run())
        while len(seen) < 5:
            turns += 1
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert len({*seen}) == 5


class TestBridge:
    def test_a_client_that_goes_away_cancels_its_utterance(self, repository: Path, tmp_path: Path) -> None:
        keep = (
            "if kind == 'stop_stream': open('part', 'w').write(json.dumps(asked)); os.rename('part', 'stopped')\n"
            "if kind == 'end_utterance': open('begun', 'w').close(); say(QUEUED, id=asked['id']); asked = None"
        )
        with opened(repository, tmp_path, bridge=bridge(keep)) as door:

            async def leave(client: AsyncClient) -> None:
                for event in spoken():
                    await client.write_event(event.event())
                while not (tmp_path / "begun").exists():
                    await asyncio.sleep(0)

            door.play(leave)
            wait_for(door, tmp_path / "stopped")
            assert json.loads((tmp_path / "stopped").read_text())["mode"] == "discard"

    def test_one_that_goes_away_before_the_end_of_its_audio_does_too(self, repository: Path, tmp_path: Path) -> None:
        keep = (
            "if kind == 'stop_stream': open('stopped', 'w').close()\n"
            "if kind == 'audio_chunk': open('begun', 'w').close()"
        )
        with opened(repository, tmp_path, bridge=bridge(keep)) as door:

            async def leave(client: AsyncClient) -> None:
                for event in spoken()[:-1]:
                    await client.write_event(event.event())
                while not (tmp_path / "begun").exists():
                    await asyncio.sleep(0)

            door.play(leave)
            wait_for(door, tmp_path / "stopped")

    def test_a_bridge_that_is_killed_in_an_utterance_costs_no_word(
        self, repository: Path, tmp_path: Path, sample: Path
    ) -> None:
        with opened(repository, tmp_path) as door:
            events = utterance(sample)

            async def kill(client: AsyncClient) -> list[Event]:
                for event in events[:10]:
                    await client.write_event(event.event())
                (process, *_) = [each for each in family(door.process) if each.ppid() == door.process.pid]
                process.kill()
                return await said(client, *events[10:])

            assert text_of(door.play(kill)) == SEVEN
            assert "qwen3-asr-mlx-wyoming: the bridge was lost: bridge_exited" in door.log
            assert text_of(door.ask(*events)) == SEVEN

    def test_an_utterance_that_crashes_it_again_and_again_is_an_error_and_the_next_tries_again(
        self, repository: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "bad").touch()
        crash = "if kind == 'end_utterance' and os.path.exists('bad'): os._exit(9)"
        with opened(repository, tmp_path, bridge=bridge(crash)) as door:
            assert code_of(door.ask(*spoken())) in ("bridge_exited", "restart_limit")
            (tmp_path / "bad").unlink()
            assert text_of(door.ask(*spoken())) == SEVEN

    def test_a_bridge_that_cannot_start_ends_the_door(self, capsys: pytest.CaptureFixture) -> None:
        broken = [sys.executable, "-I", "-S", "-c", "import sys; sys.exit(2)"]
        assert main(["--uri", "tcp://127.0.0.1:0", "--model", "demo"], broken) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith("qwen3-asr-mlx-wyoming: bridge_exited: ")

    def test_where_events_of_the_bridge_are_lost_no_utterance_waits_for_ever(self) -> None:
        async def run() -> None:
            async with Service(bridge(), os.environ, program="door", loads=False, resend=True) as service:
                utterance = await Utterance.begun(service)
                service._bridge._session.events.put(EventsLost(1))
                await utterance._result

        with pytest.raises(ClientError):
            asyncio.run(run())


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--uri", "tcp://0.0.0.0:10300"], "--uri is open to other machines, and Wyoming knows no password"),
            (["--uri", "tcp://studio.local:1"], "it needs --allow-network"),
            (["--uri", "tcp://127.0.0.1"], "expected stdio:// or tcp://HOST:PORT"),
            (["--uri", "tcp://127.0.0.1:x"], "expected stdio:// or tcp://HOST:PORT"),
            (["--uri", "tcp://[::1:1"], "expected stdio:// or tcp://HOST:PORT"),
            (["--uri", "tcp://127.0.0.1:1/a"], "expected stdio:// or tcp://HOST:PORT"),
            (["--uri", "unix:///tmp/x"], "expected stdio:// or tcp://HOST:PORT"),
            (["--max-audio-seconds", "1201"], "expected 0.1 to 1200 seconds"),
        ],
    )
    def test_one_that_is_wrong(self, arguments: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
        with pytest.raises(SystemExit, match=r"^2$"):
            main(arguments)
        assert said in capsys.readouterr().err

    def test_an_address_that_is_taken_is_one_line(self, capsys: pytest.CaptureFixture) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert main(["--uri", f"tcp://127.0.0.1:{port}", "--model", "demo"], bridge()) == 1
        assert capsys.readouterr().err == f"qwen3-asr-mlx-wyoming: Address already in use: 127.0.0.1:{port}\n"

    def test_an_open_address_is_said_to_be_open(self, repository: Path, tmp_path: Path) -> None:
        arguments = ["--uri", "tcp://0.0.0.0:0", "--allow-network"]
        with opened(repository, tmp_path, *arguments, bridge=bridge()) as door:
            assert "whoever reaches this address can have audio transcribed" in door.log

    def test_the_launcher_starts_it_and_help_shows_examples(self, repository: Path, tmp_path: Path) -> None:
        output = launched(repository, tmp_path, "qwen3-asr-mlx-wyoming", "--help", groups="")
        assert (output.returncode, output.stderr) == (0, "")
        assert "qwen3-asr-mlx-wyoming --model demo --uri stdio://" in output.stdout


CLIENT = """
import asyncio, sys, wave
from wyoming.asr import Transcript
from wyoming.audio import wav_to_chunks
from wyoming.client import AsyncClient

async def main():
    async with AsyncClient.from_uri("stdio://") as client:
        with wave.open(sys.argv[1]) as file:
            for event in wav_to_chunks(file, 1024, start_event=True, stop_event=True):
                await client.write_event(event.event())
        while not Transcript.is_type((event := await client.read_event()).type):
            pass
        sys.stderr.write(event.data["text"])

asyncio.run(main())
"""


class TestStdio:
    def events(self, sample: Path) -> bytes:
        written = Written()

        async def write() -> None:
            for event in utterance(sample):
                await async_write_event(event.event(), written)

        asyncio.run(write())
        return written.data

    def test_the_client_of_the_package_talks_to_it(self, repository: Path, sample: Path) -> None:
        words = started(repository, "--uri", "stdio://")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, **pipes) as door:
            bridges = family(door)
            client = [sys.executable, "-I", "-c", CLIENT, str(sample)]
            ran = subprocess.run(client, stdin=door.stdout, stdout=door.stdin, stderr=subprocess.PIPE, check=True)
            assert ran.stderr.decode() == SEVEN
            door.stdin.close()
            assert door.wait() == 0
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    @pytest.mark.parametrize("is_file", [False, True])
    def test_what_came_before_the_end_of_input_has_its_transcript_and_nothing_else_is_written(
        self, repository: Path, tmp_path: Path, sample: Path, is_file: bool
    ) -> None:
        words = started(repository, "--uri", "stdio://")
        if is_file:
            (tmp_path / "in").write_bytes(self.events(sample))
            with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as target:
                ran = subprocess.run(words, stdin=source, stdout=target, stderr=subprocess.PIPE, check=True)
            output = (tmp_path / "out").read_bytes()
        else:
            ran = subprocess.run(words, input=self.events(sample), capture_output=True, check=True)
            output = ran.stdout

        async def read() -> list[Event]:
            reader, answers = Reader(), []
            reader.feed_data(output)
            reader.feed_eof()
            while (event := await reader.event()) is not None:
                answers.append(event)
            return answers

        answers = asyncio.run(read())
        assert [each.type for each in answers] == STREAMED
        assert text_of(answers) == SEVEN
        assert len(ran.stderr.splitlines()) == 1

    def test_what_is_closed_is_an_end_of_input(self, repository: Path) -> None:
        words = started(repository, "--uri", "stdio://", bridge=bridge())
        shell = ["/bin/sh", "-c", 'exec "$0" "$@" <&- >&-', *words]
        assert subprocess.run(shell, check=False).returncode == 0

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda n: str(n)
    )
    def test_a_signal_leaves_no_bridge(self, repository: Path, number: int, code: int) -> None:
        words = started(repository, "--uri", "stdio://")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, **pipes) as door:
            bridges = family(door)
            door.stdin.write(b'{"type":"ping"}\n')
            door.stdin.flush()
            assert b"pong" in door.stdout.readline()
            door.send_signal(number)
            assert door.wait() == code
        assert psutil.wait_procs(bridges, timeout=60)[1] == []


class TestEnds:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda n: str(n)
    )
    def test_a_signal_leaves_no_bridge_although_a_client_is_connected(
        self, repository: Path, tmp_path: Path, number: int, code: int
    ) -> None:
        with opened(repository, tmp_path) as door:
            bridges = family(door.process)

            async def end(client: AsyncClient) -> Event | None:
                await said(client, Ping())
                door.process.send_signal(number)
                return await client.read_event()

            assert door.play(end) is None
            assert door.process.wait() == code
        assert psutil.wait_procs(bridges, timeout=60)[1] == []
        assert len(door.log.splitlines()) == 2

    def test_an_open_utterance_ends_before_the_door_does(self, repository: Path, tmp_path: Path) -> None:
        """And its connection with it: there is no end of the grace to wait for."""
        with opened(repository, tmp_path, bridge=bridge(), before="server.GRACE_SECONDS = 3600") as door:

            async def end(client: AsyncClient) -> list[Event]:
                start, chunk, stop = spoken()
                await client.write_event(start.event())
                await said(client, Ping())  # it is open
                door.process.terminate()
                while _accepts(door):
                    assert door.process.poll() is None
                answers = await said(client, chunk, stop)
                assert await client.read_event() is None
                return answers

            assert [each.type for each in door.play(end)] == STREAMED
            assert door.process.wait() == 143

    @pytest.mark.parametrize(("signals", "grace_seconds"), [(1, 1), (2, 3600)])
    def test_the_end_of_the_grace_and_a_second_signal_end_open_utterances_too(
        self, repository: Path, tmp_path: Path, signals: int, grace_seconds: int
    ) -> None:
        held = bridge("if kind == 'end_utterance': open('begun', 'w').close(); asked = None")
        with opened(repository, tmp_path, bridge=held, before=f"server.GRACE_SECONDS = {grace_seconds}") as door:

            async def end(client: AsyncClient) -> Event | None:
                for event in spoken():
                    await client.write_event(event.event())
                wait_for(door, tmp_path / "begun")
                door.process.terminate()
                while signals == 2 and _accepts(door):  # the first is not done yet
                    assert door.process.poll() is None
                if signals == 2:
                    door.process.terminate()
                return await client.read_event()

            bridges = psutil.Process(door.process.pid).children(recursive=True)
            assert door.play(end) is None
            assert door.process.wait() == 143
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    def test_it_ends_with_its_terminal_and_leaves_no_bridge(self, repository: Path, tmp_path: Path) -> None:
        master, slave = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        options = {"stdin": slave, "stdout": slave, "preexec_fn": take_terminal}
        with opened(repository, tmp_path, **options) as door:
            os.close(slave)
            bridges = family(door.process)
            os.close(master)
            assert door.process.wait() == 129
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    def test_it_ends_with_the_parent_that_is_named(self, repository: Path, tmp_path: Path) -> None:
        parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
        with opened(repository, tmp_path, "--parent-pid", str(parent.pid), bridge=bridge()) as door:
            bridges = psutil.Process(door.process.pid).children(recursive=True)
            parent.communicate(b"\n")
            assert door.process.wait() == 5
        assert psutil.wait_procs(bridges, timeout=60)[1] == []

    def test_a_kill_leaves_no_bridge(self, repository: Path, tmp_path: Path) -> None:
        with opened(repository, tmp_path) as door:
            bridges = family(door.process)
            door.process.kill()
        assert psutil.wait_procs(bridges, timeout=60)[1] == []


def _accepts(door: Door) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(door.address) == 0
