"""Transcripts, names and paths appear nowhere but on the wire: not on stderr, not on disk.

A marker word stands in file names, ids, contexts, transcripts, model names and in the texts of exceptions, through
sessions that end well, end by a signal, and crash. Afterwards nothing the process could write to holds it.
"""

import base64
import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from e2e.client import Client
from rows.bridge import command
from rows.scenarios import MARKER
from support.fake_hub import FakeHub
from support.marks import rest_once
from support.tiny_checkpoint import write_tiny_checkpoint

PCM = base64.b64encode(np.zeros(100, "<i2").tobytes()).decode()
OPTIONS = ("--context", MARKER, "--local-files-only")


class Rooms:
    """A working folder, a home, a cache, a state and a temporary folder, all empty, and recordings beside them."""

    def __init__(self, root: Path, speech: str) -> None:
        self.root = root / "rooms"
        self.recordings = root / "recordings"
        names = ("home", "temporary", "cache", "state", "runtime", "hub")
        for name in names:
            (self.root / name).mkdir(parents=True)
        self.recordings.mkdir()
        self.recording = str(self.recordings / f"{MARKER} recording.wav")
        shutil.copy(speech, self.recording)
        (self.recordings / f"{MARKER}.m4a").write_bytes(b"junk" * 100)
        (self.recordings / f"{MARKER} folder").mkdir()
        self.environment = {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "temporary"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "HF_HOME": str(self.root / "hub"),
            "QWEN3_ASR_MLX_HOME": str(self.root / "runtime"),
            "PATH": "/usr/bin:/bin",
        }
        self.options = (*OPTIONS, "--cache-dir", str(self.root / "cache"), "--state-dir", str(self.root / "state"))

    def holding_the_marker(self) -> list[str]:
        """Every file or folder whose name or content holds it."""
        return [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if MARKER in path.name or (path.is_file() and MARKER.encode() in path.read_bytes())
        ]


@pytest.fixture
def rooms(tmp_path: Path, speech: str) -> Rooms:
    return Rooms(tmp_path, speech)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "models" / MARKER)


def requests(rooms: Rooms) -> Iterator[dict]:
    """Everything a client can say, the marker in every place that takes a word."""
    files = [rooms.recording, *map(str, rooms.recordings.iterdir()), f"/nowhere/{MARKER}", f"~/{MARKER}", f"{MARKER}\0"]
    yield {"type": "hello", "want": ["events", "progress", MARKER], "client": {"name": MARKER}}
    yield {"type": "start"}
    yield from ({"type": "transcribe", "audio": path, "context": MARKER} for path in files)
    yield {"type": "batch_transcribe", "audio": files, "context": MARKER, "decoder_mode": MARKER}
    yield {"type": "batch_transcribe", "audio": files}
    yield {"type": "transcribe", "audio": rooms.recording, "language": MARKER, MARKER: MARKER}
    yield {"type": MARKER}
    stream = {"stream_id": MARKER, "utterance_id": MARKER}
    yield {"type": "start_stream", **stream, "batch_size": 2, "context": MARKER}
    yield {"type": "start_stream", **stream}
    yield {"type": "audio_chunk", **stream, "seq": 1, "pcm16": PCM}
    yield {"type": "audio_chunk", **stream, "seq": 9, "pcm16": MARKER + "!"}
    yield {"type": "audio_chunk", "stream_id": f"{MARKER} unknown", "pcm16": PCM}
    yield {"type": "end_utterance", **stream}
    yield {"type": "end_utterance", **stream, "audio": rooms.recording}
    yield {"type": "flush"}
    yield {"type": "cancel", "target": MARKER, **stream}
    yield {"type": "stop_stream", **stream}
    yield {"type": "stop_stream", "stream_id": f"{MARKER} unknown"}
    yield {"type": "status"}


def converse(bridge: Client, rooms: Rooms) -> None:
    for number, request in enumerate(requests(rooms)):
        bridge.send(**request, id=f"{MARKER}-{number}")
    for line in (MARKER.encode(), b'{"type":"transcribe","audio":"%s' % MARKER.encode(), b"\xff" + MARKER.encode()):
        bridge.write(line)


def assert_nothing_holds_the_marker(bridge: Client, rooms: Rooms) -> None:
    assert MARKER not in bridge.stderr()
    assert rooms.holding_the_marker() == []


@pytest.mark.parametrize("scenario", ["canary", "speak", "third"])
def test_a_session_that_ends_well(rooms: Rooms, scenario: str) -> None:
    with Client(command(scenario, "--model", MARKER, *rooms.options), env=rooms.environment) as bridge:
        converse(bridge, rooms)
        assert bridge.wait() == 0
        assert MARKER in json.dumps(bridge.monitor.replies)
        assert_nothing_holds_the_marker(bridge, rooms)


@pytest.mark.parametrize(
    ("scenario", "code"), [("hold", 143), ("hang", 143), ("broken", 1), ("abort", -6)], ids=lambda value: str(value)
)
def test_a_session_that_ends_in_the_middle(rooms: Rooms, scenario: str, code: int) -> None:
    with Client(command(scenario, "--model", MARKER, *rooms.options), env=rooms.environment) as bridge:
        bridge.monitor.signalled()
        bridge.ask("start")
        bridge.send("transcribe", audio=rooms.recording, id=MARKER)
        if code == 143:
            bridge.send("status", id="s")
            bridge.read()
            bridge.signal(signal.SIGTERM)
        assert bridge.wait(close=False) == code
        assert_nothing_holds_the_marker(bridge, rooms)


EXCEPTIONS = f"""
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
from qwen3_asr_mlx_runtime.engine import prepare as preparation
_prepare, _read, _calls = preparation.Preparation.prepare, audio_reader.read_segments, []
def _raise(self, segments):
    _calls.append(1)
    if len(_calls) % 2 == 0:
        raise RuntimeError("{MARKER} came out of a library")
    return _prepare(self, segments)
def _fail(path, *limits, **options):
    if "folder" in path:
        raise RuntimeError(f"a library says {{path}}")
    return _read(path, *limits, **options)
preparation.Preparation.prepare, audio_reader.read_segments = _raise, _fail
"""


@pytest.mark.parametrize("before", ["", EXCEPTIONS], ids=["sound", "exceptions"])
def test_the_real_engine_and_its_exceptions(rooms: Rooms, model: Path, before: str) -> None:
    argv = command(None, "--model", str(model), "--max-new-tokens", "3", *rooms.options, before=before)
    with Client(argv, env=rooms.environment) as bridge:
        converse(bridge, rooms)
        assert bridge.wait() == 0
        assert_nothing_holds_the_marker(bridge, rooms)


ESCAPES = {
    "stdin": "from qwen3_asr_mlx_runtime.bridge import line_reader; place, name = line_reader.LineReader, '_take'",
    "stdout": "from qwen3_asr_mlx_runtime.bridge import line_writer as w; place, name = w.LineWriter, '_write_whole'",
    "engine": "from qwen3_asr_mlx_runtime.engine import loop; place, name = loop.EngineLoop, '_count'",
}
ESCAPING = """
{place}
_sound, _calls = getattr(place, name), []
def _raise(*arguments):
    _calls.append(1)
    if len(_calls) == 2:
        raise ZeroDivisionError("{marker}")
    return _sound(*arguments)
setattr(place, name, _raise)
"""


@pytest.mark.parametrize("thread", ESCAPES)
def test_an_exception_that_escapes_a_thread_ends_the_process_and_is_not_quoted(
    rooms: Rooms, model: Path, thread: str
) -> None:
    before = ESCAPING.format(place=ESCAPES[thread], marker=MARKER)
    with Client(command(None, "--model", str(model), *rooms.options, before=before), env=rooms.environment) as bridge:
        bridge.monitor.signalled()
        bridge.ask("transcribe", audio=rooms.recording, max_new_tokens=1)
        with contextlib.suppress(BrokenPipeError):  # it may have ended already
            bridge.send("transcribe", audio=rooms.recording, max_new_tokens=1)
        if thread == "engine":  # the worker's, which is started again
            assert bridge.wait() == 0
        else:
            assert bridge.wait(close=False) in (1, 5)
        assert_nothing_holds_the_marker(bridge, rooms)


@pytest.mark.parametrize("damage", rest_once(["missing", "junk"]))
def test_a_model_that_cannot_be_loaded(rooms: Rooms, model: Path, damage: str) -> None:
    (model / "model.safetensors").unlink()
    if damage == "junk":
        (model / "model.safetensors").write_bytes(MARKER.encode() * 100)
    for name in (str(model), f"{MARKER}/{MARKER}"):
        with Client(command(None, "--model", name, *rooms.options), env=rooms.environment) as bridge:
            assert bridge.ask("start")["type"] == "error"
            converse(bridge, rooms)
            assert bridge.wait() == 0
            assert_nothing_holds_the_marker(bridge, rooms)


AT_ONCE = "import time; time.sleep = lambda _: None"  # the library waits longer before each of its retries


@pytest.mark.parametrize(
    ("part", "status"), rest_once([("tokenizer", 503), ("tokenizer", 429), ("/api/", 503), ("config", 401)])
)
def test_a_hub_that_refuses(rooms: Rooms, model: Path, part: str, status: int) -> None:
    hub = FakeHub(model)
    hub.status = {part: status}
    environment = {**rooms.environment, "HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1"}
    with Client(command(None, "--model", f"{MARKER}/{MARKER}", before=AT_ONCE), env=environment) as bridge:
        assert bridge.ask("start")["code"] == "download_failed"
        assert bridge.wait() == 0
        assert any(MARKER in asked.path for asked in hub.asked)
        assert MARKER not in bridge.stderr()
        assert "127.0.0.1" not in bridge.stderr()
    hub.close()


LIBRARY = f"""
import logging, warnings
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
_read = audio_reader.read_segments
def _complain(path, *limits, **options):
    logging.getLogger("some_library").error("cannot cope with %s", path)
    warnings.warn(f"{{path}} of {MARKER} looks odd", stacklevel=1)
    return _read(path, *limits, **options)
audio_reader.read_segments = _complain
"""


def test_what_libraries_log_and_warn_of_is_not_quoted(rooms: Rooms) -> None:
    with Client(command("speak", *rooms.options, before=LIBRARY), env=rooms.environment) as bridge:
        converse(bridge, rooms)
        assert bridge.wait() == 0
        assert "UserWarning" in bridge.stderr()
        assert_nothing_holds_the_marker(bridge, rooms)


SABOTAGE = {
    "stderr": """
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
from qwen3_asr_mlx_runtime.diagnostics import diagnose
_read = audio_reader.read_segments
def _log(path, *limits, **options):
    diagnose(f"audio.loaded path={path}")
    return _read(path, *limits, **options)
audio_reader.read_segments = _log
""",
    "disk": """
import tempfile
from qwen3_asr_mlx_runtime.bridge import file_reader as audio_reader
_read = audio_reader.read_segments
def _keep(path, *limits, **options):
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        file.write(path)
    return _read(path, *limits, **options)
audio_reader.read_segments = _keep
""",
}


@pytest.mark.parametrize("place", SABOTAGE)
def test_a_leak_that_is_planted_is_found(rooms: Rooms, place: str) -> None:
    with Client(command("speak", *rooms.options, before=SABOTAGE[place]), env=rooms.environment) as bridge:
        converse(bridge, rooms)
        assert bridge.wait() == 0
        assert (MARKER in bridge.stderr()) is (place == "stderr")
        assert (rooms.holding_the_marker() != []) is (place == "disk")
