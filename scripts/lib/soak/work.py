"""The load of a soak test: streams, files, and cancels."""

import base64
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from soak.bridge import Bridge
from soak.figures import Sample
from soak.ledger import Ledger
from soak.speech import RATE, Pcm16, Speech, write_wav

STREAMS = ("left", "middle", "right")
IN_FLIGHT = 8  # requests
_CANCELLED = 0.05
_FILES = 0.10
_BATCHES = 0.03
_IN_CHUNKS = 0.3
_CHUNK = RATE // 2
LANES = ("north", "east", "south", "west", "file-1", "file-2")
_PAUSE = 0.4  # seconds between the chunks of a lane
_REST = 30.0  # seconds: an idle worker tells its memory again after ten
_SPARE = 0.5  # MiB: the step that was computed ahead may not have ended when the memory is told


class Work:
    """Sends utterances and counts them; `run` ends when `utterances` were sent or `seconds` are over."""

    def __init__(self, bridge: Bridge, ledger: Ledger, speech: Speech, folder: Path) -> None:
        self.sent = 0
        self.audio_seconds = 0.0
        self._bridge = bridge
        self._ledger = ledger
        self._speech = speech
        self._folder = folder
        self._requests = 0
        self._modes: list[str] = ["sequential"]
        self._started = time.monotonic()
        self._held = math.inf  # by MLX at the first rest, in MiB

    def open(self) -> None:
        capabilities = self._ask("hello", want=["events"])
        self._modes = capabilities["decoder_modes"]
        self._ask("start")
        for stream in STREAMS:
            self._ask("start_stream", stream_id=stream, auto_flush=True, max_batch_delay_ms=20)

    def run(self, utterances: int | None, seconds: float | None, every: int) -> Iterator[Sample]:
        """A sample at the start, after every so many utterances, and at the end."""
        yield self._sample()
        due = every
        while (utterances is None or self.sent < utterances) and (seconds is None or self._seconds() < seconds):
            self._ledger.wait_until_open(IN_FLIGHT - 1)
            self._send()
            if self.sent >= due:
                yield self._sample()
                due = self.sent + every
        if self.sent > due - every:
            yield self._sample()

    def close(self) -> int:
        """Stop the bridge; return the exit code."""
        self._ask("stop")
        return self._bridge.wait(60)

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _sample(self) -> Sample:
        self._ledger.wait_until_open(0)
        status = self._status_at_rest()
        return Sample.of(self.sent, self._seconds(), status, self._bridge.descriptors(), self._bridge.threads())

    def _status_at_rest(self) -> dict:
        """The worker tells its memory after its last outcome, and again when it has been idle. Until then the status
        may show that of the work."""
        give_up_at = time.monotonic() + _REST
        while (active := (status := self._ask("status"))["memory"]["mlx_active_mb"]) > self._held + _SPARE:
            if time.monotonic() > give_up_at:
                break
            time.sleep(0.05)
        self._held = min(self._held, active)
        return status

    def _send(self) -> None:
        kind = self._speech.random.random()
        cancelled = bool(self._speech.random.random() < _CANCELLED)
        if kind < _BATCHES:
            self._send_files(2 + int(self._speech.random.integers(3)), cancelled)
        elif kind < _BATCHES + _FILES:
            self._send_files(1, cancelled)
        else:
            self._send_utterance(cancelled)

    def _send_files(self, count: int, cancelled: bool) -> None:
        id = self._next_id()
        paths = [str(self._write(number)) for number in range(count)]
        self._ledger.expect(id, count, cancelled=cancelled)
        if count == 1:
            self._bridge.send(type="transcribe", id=id, audio=paths[0])
        else:
            self._bridge.send(type="batch_transcribe", id=id, audio=paths, decoder_mode=self._mode())
        if cancelled:
            self._bridge.send(type="cancel", id=self._next_id(), target=id)

    def _write(self, number: int) -> Path:
        """Write an utterance to a file. A name is reused only after the earlier request was answered."""
        path = self._folder / f"{self._requests % (4 * IN_FLIGHT)}-{number}.wav"
        write_wav(path, self._utterance())
        return path

    def _send_utterance(self, cancelled: bool) -> None:
        stream = STREAMS[int(self._speech.random.integers(len(STREAMS)))]
        name = f"u{self.sent}"
        samples = self._utterance()
        self._ledger.expect((stream, name), cancelled=cancelled)
        boundary = {"type": "end_utterance", "stream_id": stream, "utterance_id": name, "decoder_mode": self._mode()}
        if self._speech.random.random() < _IN_CHUNKS:
            for start in range(0, len(samples), _CHUNK):
                self._bridge.send(type="audio_chunk", stream_id=stream, pcm16=_encoded(samples[start : start + _CHUNK]))
        else:
            boundary["pcm16"] = _encoded(samples)
        self._bridge.send(**boundary)
        if cancelled:
            self._bridge.send(type="cancel", id=self._next_id(), stream_id=stream, utterance_id=name)

    def _utterance(self) -> Pcm16:
        samples = self._speech.utterance()
        self.sent += 1
        self.audio_seconds += len(samples) / RATE
        return samples

    def _mode(self) -> str:
        return self._modes[int(self._speech.random.integers(len(self._modes)))]

    def _next_id(self) -> str:
        self._requests += 1
        return f"r{self._requests}"

    def _ask(self, type: str, **members: object) -> dict:
        id = self._next_id()
        self._bridge.send(type=type, id=id, **members)
        return self._ledger.answer(id)


class Lane:
    """A stream with partials, or files one after the other. Its utterances are the same whatever other lanes do."""

    def __init__(self, bridge: Bridge, ledger: Ledger, speech: Speech, name: str, folder: Path) -> None:
        self.sent = 0
        self._bridge = bridge
        self._ledger = ledger
        self._speech = speech
        self._name = name
        self._file = folder / f"{name}.wav" if name.startswith("file") else None

    def ask(self, type: str, **members: object) -> dict:
        self._bridge.send(type=type, id=type, **members)
        return self._ledger.answer(type)

    def open(self) -> None:
        if self._file is None:
            self.ask("start_stream", stream_id=self._name, auto_flush=True, partials=True, partial_interval_ms=500)

    def send(self, most: float) -> Iterator[None]:
        """At most so many utterances, one message at each step. The one before waits for its outcome at most."""
        while self.sent < most:
            samples, cancelled = self._speech.utterance(), bool(self._speech.random.random() < _CANCELLED)
            self.sent += 1
            if self._file is None:
                yield from self._send_utterance(samples, cancelled)
            else:
                yield from self._send_file(self._file, samples, cancelled)

    def _send_utterance(self, samples: Pcm16, cancelled: bool) -> Iterator[None]:
        key = stream_id, utterance_id = self._name, f"u{self.sent}"
        members = {"stream_id": stream_id, "utterance_id": utterance_id}
        for start in range(0, len(samples), _CHUNK):
            self._bridge.send(type="audio_chunk", pcm16=_encoded(samples[start : start + _CHUNK]), **members)
            yield
        self._ledger.expect(key, cancelled=cancelled)
        self._bridge.send(type="end_utterance", **members)
        if cancelled:
            self._bridge.send(type="cancel", id=f"cancel {key}", **members)
        while self._ledger.is_open((self._name, f"u{self.sent - 1}")):
            yield

    def _send_file(self, path: Path, samples: Pcm16, cancelled: bool) -> Iterator[None]:
        id = f"{self._name} {self.sent}"
        write_wav(path, samples)
        self._ledger.expect(id, cancelled=cancelled)
        self._bridge.send(type="transcribe", id=id, audio=str(path))
        if cancelled:
            self._bridge.send(type="cancel", id=f"cancel {id}", target=id)
        while self._ledger.is_open(id):
            yield


def run_together(lanes: Sequence[Lane], most: Sequence[float], is_over: Callable[[], bool]) -> None:
    """Let each lane send so many utterances at most, until it is over."""
    steps = [lane.send(count) for lane, count in zip(lanes, most, strict=True)]
    while steps and not is_over():
        steps = [each for each in steps if next(each, steps) is None]
        time.sleep(_PAUSE)


def _encoded(samples: Pcm16) -> str:
    return base64.b64encode(samples.tobytes()).decode()
