"""A session without its threads: what it wants done is kept until a test does it, and time stands until it is moved."""

import base64
import json
from dataclasses import replace

import numpy as np
from support.engine_requests import Inbox, SentAlign, SentJob, SentPartial
from support.fake_engine import hypothesis, transcript_of, words
from support.protocol_monitor import ProtocolMonitor

from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    Aligned,
    Append,
    Cancel,
    EngineEnded,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    LoadAligner,
    Loaded,
    LoadFailed,
    Partial,
    PartialDone,
    Promote,
    Provisional,
    Unloaded,
)
from qwen3_asr_mlx_runtime.errors import AudioNotFound, BridgeError, ModelNotFound, TooManyUnits
from qwen3_asr_mlx_runtime.protocol.decode import decode_line
from qwen3_asr_mlx_runtime.protocol.replies import encode_line
from qwen3_asr_mlx_runtime.session.effects import (
    AudioFailed,
    AudioRead,
    Effect,
    ReadAudio,
    ReadMore,
    Unload,
    WatchParent,
)
from qwen3_asr_mlx_runtime.session.session import Session
from qwen3_asr_mlx_runtime.settings import Settings

LOADED = Loaded("demo", "/models/demo", 1.5, {"stage": "load"})


def pcm(samples: int, value: int = 100) -> str:
    return base64.b64encode(np.full(samples, value, "<i2").tobytes()).decode()


class Conversation:
    """A session, the effects that are still to be carried out, and what the client has read, under the monitor."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 100.0
        self.session = Session(settings or Settings(), lambda: self.now)
        self.monitor = ProtocolMonitor((settings or Settings()).languages)
        self.reads_lines = True
        self.has_written = True  # all lines; partial text waits for that
        self.loads = 0
        self.sustained_ms = 0  # the interval of partials that the engine keeps up with
        self.is_unloading = False
        self.reads: dict[int, str] = {}
        self.paths: dict[int, str] = {}
        self.read_effects: list[ReadAudio] = []
        self.audio = Inbox()
        self.jobs: dict[int, SentJob] = {}
        self.partials: dict[int, SentPartial] = {}
        self.aligns: dict[int, SentAlign] = {}
        self.aligner_loads = 0
        self.promoted: list[int] = []
        self.provisionals: dict[int, SentJob] = {}  # all that were begun
        self.cancelled: list[int] = []
        self.parents: list[int] = []

    def send(self, type: str, **members: object) -> list[dict]:
        return self.write(json.dumps({"type": type, **members}).encode())

    def write(self, line: bytes) -> list[dict]:
        self.monitor.sent(line)
        self.session.handle(decode_line(line), len(line))
        return self.perform()

    def receive_together(self, messages: list[dict]) -> None:
        """Lines that come in before anything is done about the first."""
        for message in messages:
            line = json.dumps(message).encode()
            self.monitor.sent(line)
            self.session.handle(decode_line(line), len(line))

    def chunk(self, samples: int = 1600, stream_id: str = "default", **members: object) -> list[dict]:
        return self.send("audio_chunk", stream_id=stream_id, pcm16=pcm(samples), **members)

    def speak(self, utterance_id: str, stream_id: str = "default", **members: object) -> list[dict]:
        """An utterance with its audio inline."""
        members = {"pcm16": pcm(160), **members}
        return self.send("end_utterance", stream_id=stream_id, utterance_id=utterance_id, **members)

    def perform(self) -> list[dict]:
        """What came of the last thing that happened: the lines, read, and the effects, noted."""
        lines = []
        while self.reads_lines and (outgoing := self.session.take_line()) is not None:
            if outgoing.line is not None:
                lines += self.monitor.received(encode_line(outgoing.line))
        while self.reads_lines and self.has_written and (outgoing := self.session.take_partial()) is not None:
            lines += self.monitor.received(encode_line(outgoing.line))
        for effect in self.session.effects():
            self._note(effect)
        return lines

    def _note(self, effect: Effect) -> None:
        is_work = isinstance(effect, Load | Partial | Provisional | Finalize | Align)
        assert not (self.is_unloading and is_work), "work for an engine that ends"
        self.is_unloading |= isinstance(effect, Unload)
        match effect:
            case ReadAudio(job_id, path):
                self.read_effects.append(effect)
                self.reads[job_id] = self.paths[job_id] = path
            case ReadMore(job_id):
                self.reads[job_id] = self.paths[job_id]
            case WatchParent(pid):
                self.parents.append(pid)
            case Promote(job_id):
                self.promoted.append(job_id)
            case _:
                self._note_request(effect)

    def _note_request(self, request: Effect) -> None:
        """What goes to the engine."""
        match request:
            case Load():
                self.loads += 1
            case LoadAligner():
                self.aligner_loads += 1
            case Cancel(job_id):
                self.cancelled.append(job_id)
            case Append():
                self.audio.append(request)
            case Finalize():
                self.jobs[request.id] = self.audio.finalize(request)
            case Provisional():
                self.jobs[request.id] = self.provisionals[request.id] = self.audio.provisional(request)
            case Partial():
                busy = {partial.audio_id for partial in self.partials.values()}
                assert request.audio_id not in busy, "two partials of one utterance"
                self.partials[request.id] = self.audio.partial(request)
            case Align():
                self.aligns[request.id] = self.audio.align(request)
            case Forget():
                self.audio.forget(request)

    def wait(self, seconds: float) -> list[dict]:
        """Time passes, and is looked at as often as the session asks for it."""
        end = self.now + seconds
        lines = []
        while (deadline := self.session.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.session.tick()
            lines += self.perform()
            assert self.session.deadline is None or self.session.deadline > self.now, "a deadline that never passes"
        self.now = end
        self.session.tick()
        return lines + self.perform()

    def load(self) -> list[dict]:
        self.session.outcome(LOADED)
        return self.perform()

    def fail_load(self, error: BridgeError | None = None) -> list[dict]:
        self.session.outcome(LoadFailed(error or ModelNotFound("not there")))
        return self.perform()

    def read(self, path: str, **fields: object) -> list[dict]:
        job_id = self._take_read(path)
        audio = {"samples": np.zeros(8, np.float32), "warnings": (), "seconds": 0.05, **fields}
        self.session.audio_read(AudioRead(job_id, **audio))
        return self.perform()

    def fail_read(self, path: str) -> list[dict]:
        self.session.audio_failed(AudioFailed(self._take_read(path), AudioNotFound("no such file")))
        return self.perform()

    def decode(self, outcome: object = None, *, job_id: int | None = None) -> list[dict]:
        """Give a job, or the oldest one, its outcome."""
        job_id = min(self.jobs) if job_id is None else job_id
        job = self.jobs.pop(job_id)
        if isinstance(outcome, BridgeError):
            self.session.outcome(Failed(job_id, outcome))
        else:
            self.session.outcome(Finished(job_id, outcome or transcript_of(job)))
        return self.perform()

    def end_partial(self, outcome: object = None, *, job_id: int | None = None, work: float = 0.04) -> list[dict]:
        """Give a partial, or the oldest one, its outcome: an error, a text, or one word for each half second. `work`:
        the engine's seconds."""
        job_id = min(self.partials) if job_id is None else job_id
        partial = self.partials.pop(job_id)
        if isinstance(outcome, BridgeError):
            self.session.outcome(Failed(job_id, outcome, work))
        else:
            found = hypothesis(partial.given, outcome, work)
            self.session.outcome(PartialDone(job_id, replace(found, interval_ms=self.sustained_ms)))
        return self.perform()

    def align(self, outcome: BridgeError | None = None, *, job_id: int | None = None) -> list[dict]:
        """Give an Align, or the oldest one, its outcome: an error, or words that share its audio evenly."""
        job_id = min(self.aligns) if job_id is None else job_id
        align = self.aligns.pop(job_id)
        found = words(align.text, len(align.samples))
        if any(word.start_ms == word.end_ms for word in found):
            outcome = outcome or TooManyUnits("expected fewer words in this audio")
        aligned = Aligned(job_id, found, "fake-aligner", 0.02)
        self.session.outcome(aligned if outcome is None else Failed(job_id, outcome))
        return self.perform()

    def end_engine(self, reason: str = "SIGKILL") -> list[dict]:
        """The engine's process ends, with all that it had."""
        self._lose_work()
        self.monitor.engine_ended()
        self.session.outcome(EngineEnded(reason))
        return self.perform()

    def unloaded(self, freed_bytes: int = 1000) -> list[dict]:
        """The engine has unloaded, with all that it had."""
        self.is_unloading = False
        self._lose_work()
        self.session.outcome(Unloaded(freed_bytes))
        return self.perform()

    def _lose_work(self) -> None:
        self.jobs.clear()
        self.partials.clear()
        self.aligns.clear()
        self.audio = Inbox()

    def terminate(self) -> list[dict]:
        self.monitor.signalled()
        self.session.terminate()
        return self.perform()

    def end_of_input(self) -> list[dict]:
        self.session.end_of_input()
        return self.perform()

    def finish(self) -> list[dict]:
        self.session.finish()
        return self.perform()

    def _take_read(self, path: str) -> int:
        job_id = next(job_id for job_id, each in self.reads.items() if each == path)
        del self.reads[job_id]
        return job_id
