"""One conversation made from bytes: splitter, parser and session under the monitor, with the engine's part played here.

Every byte string is a conversation. Some bytes become lines as they stand, some choose a request and spoil a field of
it, some let the load, a file, a job or the clock go on, or end the engine. Whatever it is, no promise may break, and
all must end.
"""

import json

from support.conversation import Conversation
from support.fake_engine import repaired_of

from qwen3_asr_mlx_runtime.bridge.line_reader import Line, LineReader, LongLine
from qwen3_asr_mlx_runtime.bridge.stdin_reader import _decode
from qwen3_asr_mlx_runtime.errors import (
    DecodeFailed,
    EngineUnavailable,
    EngineUnreachable,
    ModelNotFound,
    UnsupportedByEngine,
)
from qwen3_asr_mlx_runtime.protocol.decode import Rejected
from qwen3_asr_mlx_runtime.settings import Settings

LIMIT = 8192
MAX_STEPS = 200
SETTINGS = Settings(max_streams=3, max_pending_requests=5, max_pending_audio_seconds=1.0, max_utterance_seconds=0.1)
PCM = "AAAAAAAAAAAAAAAAAAAAAAAA"
TENTH = "A" * 4267 + "="  # of a second
OFTEN = {"partial_interval_ms": 100}
LONG = "/long"  # of several segments
FAILURES = (DecodeFailed("planted"), UnsupportedByEngine("planted", feature="language"), EngineUnreachable("planted"))
LOAD_FAILURES = (ModelNotFound("planted"), EngineUnreachable("planted"))
REQUESTS: tuple[dict, ...] = (
    {"type": "hello", "want": ["events", "progress"]},
    {"type": "hello", "want": []},
    {"type": "capabilities"},
    {"type": "ping"},
    {"type": "status"},
    {"type": "start"},
    {"type": "start_stream", "stream_id": "a", "batch_size": 2, "auto_flush": True},
    {"type": "start_stream", "stream_id": "b", "batch_size": 1, "restart": True, "on_limit": "split"},
    {"type": "start_stream"},
    {"type": "start_stream", "stream_id": "a", "restart": True, "max_batch_delay_ms": 1000},
    {"type": "start_stream", "stream_id": "a", "restart": True, "auto_flush": True, "max_batch_delay_ms": 0},
    {"type": "audio_chunk", "stream_id": "a", "pcm16": PCM},
    {"type": "audio_chunk", "stream_id": "a", "pcm16": PCM * 60},
    {"type": "audio_chunk", "pcm16": PCM},
    {"type": "audio_chunk", "stream_id": "b", "pcm16": PCM * 60},
    {"type": "end_utterance", "stream_id": "a", "utterance_id": "u"},
    {"type": "end_utterance", "stream_id": "a", "pcm16": PCM, "timeout_ms": 50},
    {"type": "end_utterance", "stream_id": "b", "audio": "/a"},
    {"type": "vad_boundary", "pcm16": PCM, "language": "en"},
    {"type": "flush"},
    {"type": "flush", "stream_id": "a"},
    {"type": "stop_stream", "stream_id": "a"},
    {"type": "stop_stream", "stream_id": "a", "mode": "discard"},
    {"type": "transcribe", "audio": "/a", "timeout_ms": 500},
    {"type": "batch_transcribe", "audio": ["/a", "/b", "/a"]},
    {"type": "cancel", "target": 0},
    {"type": "cancel", "stream_id": "a", "utterance_id": "u"},
    {"type": "stop"},
    {"type": "stop", "mode": "abort"},
    {"type": "stop", "deadline_ms": 100},
    {"type": "start_stream", "stream_id": "a", "restart": True, "partials": True, **OFTEN},
    {"type": "start_stream", "stream_id": "c", "partials": True, "auto_flush": True, **OFTEN},
    {"type": "start_stream", "stream_id": "b", "partials": True, "on_limit": "split", **OFTEN},
    {"type": "audio_chunk", "stream_id": "c", "utterance_id": "u", "pcm16": TENTH},
    {"type": "audio_chunk", "stream_id": "c", "utterance_id": "v", "pcm16": TENTH},
    {"type": "audio_chunk", "stream_id": "a", "pcm16": TENTH},
    {"type": "audio_chunk", "stream_id": "b", "pcm16": TENTH},
    {"type": "end_utterance", "stream_id": "c"},
    {"type": "end_utterance", "stream_id": "b"},
    {"type": "cancel", "stream_id": "c", "utterance_id": "u"},
    {"type": "stop_stream", "stream_id": "c"},
)
MEMORY: tuple[dict, ...] = (
    {"type": "unload"},
    {"type": "unload", "mode": "abort"},
    {"type": "unload", "timeout_ms": 500},
    {"type": "start", "keep_alive_seconds": 0},
    {"type": "start", "keep_alive_seconds": 1},
    {"type": "cancel", "target": "memory 3"},
)
WORDS: tuple[dict, ...] = (
    {"type": "start", "words": True},
    {"type": "start_stream", "stream_id": "a", "restart": True, "words": True, "auto_flush": True},
    {"type": "start_stream", "stream_id": "b", "restart": True, "words": True, "segments": True},
    {"type": "end_utterance", "stream_id": "a", "pcm16": TENTH, "words": True, "timeout_ms": 500},
    {"type": "end_utterance", "stream_id": "b", "pcm16": TENTH},
    {"type": "flush", "words": True},
    {"type": "flush", "words": False},
    {"type": "stop_stream", "stream_id": "b", "mode": "discard"},
    {"type": "transcribe", "audio": "/a", "words": True, "timeout_ms": 500},
    {"type": "batch_transcribe", "audio": ["/a", "/b"], "words": True, "segments": True},
    {"type": "align", "audio": "/a", "text": "one", "language": "en"},
    {"type": "align", "audio": "/a", "text": "", "language": "auto", "timeout_ms": 500},
    {"type": "cancel", "target": "words 3"},
    {"type": "pause", "stream_id": "a"},
    {"type": "pause", "stream_id": "b", "samples": 12},
    {"type": "pause", "stream_id": "c"},
    {"type": "end_utterance", "stream_id": "a", "samples": 12, "rest": "drop"},
    {"type": "end_utterance", "stream_id": "b", "samples": 12},
    {"type": "vad_boundary", "stream_id": "c", "samples": 1600},
    {"type": "transcribe", "audio": "/a", "languages": ["en", "ar"]},
    {"type": "batch_transcribe", "audio": ["/a", "/b"], "languages": ["yue"], "decoder_mode": "batched"},
    {"type": "start_stream", "stream_id": "c", "restart": True, "partials": True, "languages": ["zh", "en"], **OFTEN},
    {"type": "end_utterance", "stream_id": "c", "languages": ["ar"]},
    {"type": "flush", "language": "en", "languages": ["ar"]},
    {"type": "transcribe", "audio": "/a", "terms": [{"text": "Ada"}, {"text": "Menabrea", "weight": 4}]},
    {"type": "batch_transcribe", "audio": ["/a"], "terms": [{"text": "Ada", "weight": 5}]},
    {"type": "start_stream", "stream_id": "c", "restart": True, "partials": True, "terms": [{"text": "A"}], **OFTEN},
    {"type": "end_utterance", "stream_id": "c", "terms": []},
    {"type": "flush", "terms": [{"text": " "}]},
    {"type": "transcribe", "audio": "/a", "track": 2},
    {"type": "align", "audio": "/a", "text": "one", "language": "en", "track": 100},
    {"type": "transcribe", "audio": LONG, "progress": True},
    {"type": "transcribe", "audio": LONG, "progress": True, "decoder_mode": "batched", "timeout_ms": 500},
    {"type": "transcribe", "audio": LONG, "progress": True, "words": True},
    {"type": "cancel", "target": "words 1"},
    {"type": "start_stream", "stream_id": "c", "restart": True, "partials": True, "effort": "low", **OFTEN},
    {"type": "audio_chunk", "stream_id": "c", "pcm16": TENTH},
)
SPOILT: tuple[object, ...] = (
    *(None, True, -1, 1.5, "", "x", "\ud800", "7", [], {}, 2**53, 10**9, "\u2028", PCM + "!"),
    *(1.0, PCM + "=", "AAB=", "a-1"),
)


class Bytes:
    """The input, taken from its front; 0 where nothing is left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, limit: int) -> int:
        return self.byte() % limit

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]


class Play:
    """Feeds a reader whose every read lets something else happen first."""

    def __init__(self, data: bytes) -> None:
        self._bytes = Bytes(data)
        self._talk = Conversation(SETTINGS)
        self._steps = 0
        self._rest = b""
        self._is_lost = False

    def run(self) -> None:
        for line in LineReader(0, limit=LIMIT, read=self._read):
            self._handle_line(line)
        self._talk.end_of_input()
        self._finish()

    def _read(self, _fd: int, _size: int) -> bytes:
        while not self._rest:
            if not self._bytes or self._steps >= MAX_STEPS:
                return b""
            self._steps += 1
            self._rest = self._next_bytes()
        cut = 1 + self._bytes.below(64) if self._bytes.below(4) == 0 else len(self._rest)
        block, self._rest = self._rest[:cut], self._rest[cut:]
        return block

    def _handle_line(self, line: Line | LongLine) -> None:
        request = _decode(line)
        unreadable = isinstance(line, LongLine) or (isinstance(request, Rejected) and request.id is None)
        if self._talk.session.is_draining:
            self._talk.monitor.drains()
        self._talk.monitor.sent(b"?" if unreadable else line.data)
        self._talk.session.handle(request, 0)
        self._talk.perform()

    def _next_bytes(self) -> bytes:
        """The next bytes on the wire; none where something else happened instead."""
        kind = self._bytes.below(16)
        if kind < 8:
            return self._request()
        if kind == 8:
            return self._bytes.take(self._bytes.byte())
        if kind == 9:
            return b"x" * (self._bytes.byte() * 64) + b"\n"
        self._happen(kind)
        return b""

    def _request(self) -> bytes:
        message = dict(REQUESTS[self._bytes.below(len(REQUESTS))])
        if self._bytes.below(2) and message["type"] != "hello":  # whether it took effect must not depend on its id
            message["id"] = self._bytes.below(8)
        if self._bytes.below(4) == 0:
            field = list(message)[self._bytes.below(len(message))]
            message[field] = SPOILT[self._bytes.below(len(SPOILT))]
        line = bytearray(json.dumps(message).encode() + b"\n")
        if self._bytes.below(16) == 0:
            line[self._bytes.byte() % len(line)] = self._bytes.byte()
        return bytes(line)

    def _happen(self, kind: int) -> None:
        talk, choice = self._talk, self._bytes.byte()
        if kind == 10 and choice % 2:
            talk.wait(choice / 50)
        elif kind == 10:  # the timers are overdue
            talk.now += choice / 50
            talk.session.tick()
            talk.perform()
        elif kind == 11:
            talk.reads_lines = bool(choice % 4)
            talk.perform()
        elif kind == 12:
            self._change_model(choice)
        elif kind == 13 and talk.reads:
            path = list(talk.reads.values())[choice % len(talk.reads)]
            goes_on = path == LONG and choice % 5 > 0
            audio = {"is_last": not goes_on, "announced_seconds": choice / 1e5 if choice % 2 else None}
            talk.read(path, **audio) if choice % 3 else talk.fail_read(path)
        elif kind == 13:
            self._ask(WORDS, "words", choice)
        elif kind == 15 and talk.partials:
            partial_id = sorted(talk.partials)[choice % len(talk.partials)]
            talk.sustained_ms = (0, 0, 250)[choice // 4 % 3]
            talk.end_partial(("a b", "a b c", "a x c", DecodeFailed("planted"))[choice % 4], job_id=partial_id)
        elif kind >= 14 and talk.jobs:
            job_id = sorted(talk.jobs)[choice % len(talk.jobs)]
            text = repaired_of(talk.jobs[job_id]) if choice % 3 == 2 else None
            talk.decode(text if choice % 3 else FAILURES[choice // 3 % len(FAILURES)], job_id=job_id)
        elif kind >= 14 and talk.aligns:
            job_id = sorted(talk.aligns)[choice % len(talk.aligns)]
            talk.align(None if choice % 3 else FAILURES[choice // 3 % len(FAILURES)], job_id=job_id)

    def _end_engine(self) -> None:
        """A load that was not answered never is. Where the engine is lost, everything ends, as in the loop."""
        talk = self._talk
        if self._is_lost:
            return
        talk.loads = 0
        talk.end_engine()
        if talk.session.engine_is_lost:
            self._is_lost = True
            talk.session.engine_lost(EngineUnavailable("planted"))
            talk.perform()

    def _change_model(self, choice: int) -> None:
        """The engine ends, the client asks for memory, or the model leaves it, or is loaded."""
        talk = self._talk
        if choice >= 224:
            self._end_engine()
        elif choice >= 192:
            self._ask(MEMORY, "memory", choice)
        elif talk.is_unloading:
            self._unloaded()
        elif talk.loads:
            talk.loads -= 1
            talk.load() if choice % 4 else talk.fail_load(LOAD_FAILURES[choice // 4 % len(LOAD_FAILURES)])

    def _ask(self, requests: tuple[dict, ...], name: str, choice: int) -> None:
        """Not among REQUESTS, whose numbers the regressions hold."""
        request = requests[choice % len(requests)]
        self._talk.send(**request, **({"id": f"{name} {self._steps}"} if choice % 2 else {}))

    def _unloaded(self) -> None:
        """A load that was not answered never is."""
        self._talk.loads = 0
        self._talk.unloaded()

    def _finish(self) -> None:
        """Let everything come to its end, and hold the monitor to it."""
        talk = self._talk
        talk.reads_lines = True
        talk.perform()
        for _ in range(10_000):
            if not talk.session.pending:
                break
            self._go_on()
        assert not talk.session.pending, "something is never answered"
        talk.finish()
        talk.monitor.finish()
        assert not talk.audio.open, "an utterance with partials has no job and is not forgotten"

    def _go_on(self) -> None:
        talk = self._talk
        if talk.is_unloading:
            self._unloaded()
        elif talk.loads:
            talk.loads -= 1
            talk.load()
        elif talk.reads:
            talk.read(next(iter(talk.reads.values())))
        elif talk.jobs:
            talk.decode()
        elif talk.aligns:
            talk.align()
        else:
            talk.wait(60.0)


def play(data: bytes) -> None:
    """Fails where a promise breaks."""
    Play(data).run()
