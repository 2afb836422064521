"""An `Engine` without a model: it follows a script, on its own thread.

The script is a list of steps, one for each job, the last one repeated. A step is a Transcript or a BridgeError (the
outcome), or a fault:

HOLD   wait for `release`, or for a cancel; then transcribe
LOOP   take steps without end, until a cancel
HANG   take no step and hear no cancel, until the engine is closed or killed
DIE    end as a process does that is killed; the next load is of another

or a function to call with the job, which returns one of these: `delayed(event)` waits for a threading.Event,
`native_print` writes to descriptor 1 behind Python's back, `leak` keeps a megabyte for ever, `abort` ends the process
as a failed assertion in C++ does.

Partials have a second script, of texts, errors and faults; without it, a partial has one word for each half second.
Aligns have a third, of errors and faults; without it, the words of a text share its audio evenly.
"""

import ctypes
import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

from support.engine_requests import Inbox, SentAlign, SentJob, SentPartial

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
    Loaded,
    LoadFailed,
    Outcome,
    Partial,
    PartialDone,
    Post,
    Provisional,
    Request,
    Unloaded,
    Word,
)
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, TextSegment, Transcript
from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled

WAIT = 60.0
HOLD, LOOP, HANG, DIE = "hold", "loop", "hang", "die"
STEP_SECONDS = 0.001
FREED_BYTES = 2**20
TIME_CONFIDENCE = 0.9
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

Step = Transcript | BridgeError | str | Callable[[SentJob], object]


def transcript(text: str = "Seven three one.", *, audio_samples: int = 16_000, **fields: object) -> Transcript:
    profile = Profile(
        stage="transcribe",
        audio_samples=[audio_samples],
        audio_seconds=audio_samples / 16_000,
        feature_extract_seconds=0.01,
        prompt_assembly_seconds=0.001,
        audio_tower_seconds=0.02,
        prefill_seconds=0.03,
        continuation_seconds=0.07,
        decode_seconds=0.1,
        total_seconds=0.2,
        audio_feature_lengths=[100],
        audio_output_lengths=[13],
        input_features_shape=[1, 128, 100],
        audio_embeddings_shape=[13, 256],
        generated_tokens=[3],
        generated_tokens_total=3,
    )
    whole = {
        "text": text,
        "language": "English",
        "raw_text": f"language English<asr_text>{text}",
        "finish_reason": "stop",
        "token_ids": (5, 6, 7),
        "audio_embeddings_shape": (13, 256),
        "audio_output_lengths": (13,),
        "profile": profile,
        "segments": (TextSegment(0, audio_samples, text, "English", "stop"),),
    }
    return Transcript(**{**whole, **fields})


def transcript_of(job: SentJob, text: str = "Seven three one.", **fields: object) -> Transcript:
    """What a recognizer answers: with log-probabilities where the job asks for them, the first of its languages, and
    how much was verified of what it had listened to."""
    fields = {"warnings": job.utterance.warnings, **fields}
    if names := job.utterance.languages:
        probabilities = {name: 1 / (len(names) + 1) for name in names}
        fields = {"language": names[0], "raw_text": text, "language_probabilities": probabilities, **fields}
    if job.utterance.logprobs:
        ends = tuple(len(text) * count // 3 for count in (1, 2, 3))
        segment = TextSegment(0, len(job.utterance.samples), text, "English", "stop", 0, ends, (-0.5, -0.25, 0.0))
        fields = {"logprobs": (-0.5, -0.25, 0.0), "segments": (segment,), **fields}
    if job.partials:
        fields = {"verified_tokens": 2, **fields}
    return transcript(text, audio_samples=len(job.utterance.samples), **fields)


def repaired_of(job: SentJob) -> Transcript:
    """A segment that ended in a loop, and was decoded again in two parts."""
    samples = len(job.utterance.samples)
    parts = (
        TextSegment(0, samples // 2, "One two", "English", "stop", repaired=True),
        TextSegment(samples // 2, samples, "three.", "English", "stop", 8, repaired=True),
    )
    loop = "language English<asr_text>" + "One " * 20
    return transcript_of(job, "One two three.", raw_text=loop, segments=parts)


def hypothesis(samples: int, text: object = None, work: float = 0.04) -> Hypothesis:
    """The hypothesis of so many samples: one word for each half second, unless `text` is given. `work`: its seconds."""
    seconds = samples / 16_000
    words = [NUMBERS[n % len(NUMBERS)] for n in range(int(seconds / 0.5))]
    text_of_words = " ".join(words) if text is None else str(text)
    return Hypothesis(
        text_of_words, "English" if text_of_words else None, seconds, len(words) + 3, len(words), work, 0.75
    )


def words(text: str, samples: int) -> list[Word]:
    """One for each unit with a letter or digit between whitespace, all equally long; each has what lies behind it."""
    starts = [match.start() for match in re.finditer(r"\S*\w\S*", text)]
    if not starts:
        return []
    bounds = pairwise([0, *starts[1:], len(text)])
    times = pairwise(samples * number // (16 * len(starts)) for number in range(len(starts) + 1))
    return [Word(*span, *where, TIME_CONFIDENCE) for span, where in zip(times, bounds, strict=True)]


def delayed(event: threading.Event) -> Callable[[SentJob], Transcript]:
    def wait(_: SentJob) -> Transcript:
        event.wait(WAIT)
        return transcript()

    return wait


def native_print(_: SentJob) -> Transcript:
    libc = ctypes.CDLL(None)
    libc.puts(b"native noise")
    libc.fflush(None)
    return transcript()


LEAKED: list[bytearray] = []


def leak(_: SentJob) -> Transcript:
    LEAKED.append(bytearray(b"x" * 2**20))
    return transcript()


def abort(_: SentJob) -> Transcript:
    os.abort()


class FakeEngine:
    """`started` counts the jobs, partials and Aligns that began. `submitted` holds every job, `partials` every partial,
    `aligns` every Align, `forgotten` the ids of utterances; `loads` counts the loads."""

    def __init__(
        self,
        post: Post,
        script: Sequence[Step] = (),
        load_script: Sequence[BridgeError | str | None] = (),
        partial_script: Sequence[str | BridgeError | None] = (),
        align_script: Sequence[str | BridgeError | None] = (),
    ) -> None:
        self._post = post
        self._script = list(script) or [transcript_of]
        self._load_script = list(load_script) or [None]
        self._partial_script = list(partial_script) or [None]
        self._align_script = list(align_script) or [None]
        self._inbox: queue.SimpleQueue[SentJob | SentPartial | SentAlign | str | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._changed = threading.Condition()
        self._released = 0
        self._closing = False
        self.started = threading.Semaphore(0)
        self.submitted: list[SentJob] = []
        self.partials: list[SentPartial] = []
        self.provisionals: list[SentJob] = []
        self.aligns: list[SentAlign] = []
        self.forgotten: list[int] = []
        self._audio = Inbox()
        self._waiting: dict[int, int] = {}  # the partial of each utterance that has one
        self._has_ended = False  # until the next load all requests are lost
        self.loads = 0
        self.killed: list[str] = []
        self.memory = None
        self.pid = None
        self.heartbeats = 0
        self.load_stage = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def send(self, request: Request) -> None:
        if self._has_ended and not isinstance(request, Load):
            return
        match request:
            case Load():
                self._has_ended = False
                self._inbox.put("load")
            case Append():
                self._audio.append(request)
            case Partial():
                self._start_partial(self._audio.partial(request))
            case Finalize():
                self.submit(self._audio.finalize(request))
            case Provisional():
                self._end(request.audio_id)
                self._submit_provisional(self._audio.provisional(request))
            case Align():
                self._start_align(self._audio.align(request))
            case Forget():
                self.forgotten.append(self._audio.forget(request))
                self._end(request.audio_id)
            case Cancel(job_id):
                with self._changed:
                    self._cancelled.add(job_id)
                    self._changed.notify_all()

    def submit(self, job: SentJob) -> None:
        self.heartbeats += 1
        self.submitted.append(job)
        self._end(job.audio_id)
        self._inbox.put(job)

    def _submit_provisional(self, job: SentJob) -> None:
        self.heartbeats += 1
        self.provisionals.append(job)
        self._inbox.put(job)

    def _start_partial(self, partial: SentPartial) -> None:
        self.heartbeats += 1
        self.partials.append(partial)
        with self._changed:
            self._waiting[partial.audio_id] = partial.id
        self._inbox.put(partial)

    def _start_align(self, align: SentAlign) -> None:
        self.heartbeats += 1
        self.aligns.append(align)
        self._end(align.audio_id)
        self._inbox.put(align)

    def kill(self, reason: str) -> None:
        with self._changed:
            self.killed.append(reason)
            self._changed.notify_all()

    def unload(self) -> None:
        """It ends, with all its work; the next load is of another."""
        with self._changed:
            self.killed.append("unloaded")
            self._inbox.put("unload")
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._inbox.put(None)

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def release(self) -> None:
        """Let one held job, or load, go on."""
        with self._changed:
            self._released += 1
            self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            self.started.release()
            outcome = self._outcome(work)
            if isinstance(outcome, EngineEnded | Unloaded):
                self._begin_again()
            self._post(outcome)

    def _begin_again(self) -> None:
        """Another process: it has nothing of what the one before had."""
        with self._changed:
            self._has_ended = True
            self._audio = Inbox()
            self._waiting.clear()
            while not self._inbox.empty():
                if self._inbox.get() is None:
                    self._inbox.put(None)
                    return

    def _outcome(self, work: SentJob | SentPartial | SentAlign | str) -> Outcome:
        if isinstance(work, SentJob):
            return self._decode(work)
        if isinstance(work, SentPartial):
            return self._compute_partial(work)
        if isinstance(work, SentAlign):
            return self._align(work)
        return self._load() if work == "load" else self._end_by_kill()

    def _end_by_kill(self) -> EngineEnded | Unloaded:
        reason = self.killed.pop()
        return Unloaded(FREED_BYTES) if reason == "unloaded" else EngineEnded(reason)

    def _load(self) -> Loaded | LoadFailed | EngineEnded | Unloaded:
        step = self._load_script[min(self.loads, len(self._load_script) - 1)]
        self.loads += 1
        if step == HOLD:
            self._hold(0)
            if self.killed:
                return self._end_by_kill()
        if isinstance(step, BridgeError):
            return LoadFailed(step)
        return Loaded("fake", "/models/fake", 1.5, {"stage": "load", "total_seconds": 1.5})

    def _decode(self, job: SentJob) -> Finished | Failed | EngineEnded | Unloaded:
        step = self._script[0] if len(self._script) == 1 else self._script.pop(0)
        if callable(step):
            step = step(job)
        if step == DIE:
            return EngineEnded("SIGKILL")
        if step in (HOLD, LOOP, HANG):
            self._stay(step, job.id)
            if self.killed:
                return self._end_by_kill()
            step = transcript()
        if job.id in self._cancelled:
            return Failed(job.id, Cancelled("cancelled"))
        return Failed(job.id, step) if isinstance(step, BridgeError) else Finished(job.id, step)

    def _compute_partial(self, partial: SentPartial) -> PartialDone | Failed | EngineEnded | Unloaded:
        step = self._partial_script[0] if len(self._partial_script) == 1 else self._partial_script.pop(0)
        if step == DIE:
            return EngineEnded("SIGKILL")
        if step in (HOLD, LOOP, HANG):
            self._stay(step, partial.id)
            if self.killed:
                return self._end_by_kill()
            step = None
        with self._changed:
            if partial.id in self._cancelled:
                return Failed(partial.id, Cancelled("its utterance has ended"))
            self._waiting.pop(partial.audio_id, None)
        if isinstance(step, BridgeError):
            return Failed(partial.id, step)
        return PartialDone(partial.id, hypothesis(partial.given, step))

    def _align(self, align: SentAlign) -> Aligned | Failed | EngineEnded | Unloaded:
        step = self._align_script[0] if len(self._align_script) == 1 else self._align_script.pop(0)
        if step == DIE:
            return EngineEnded("SIGKILL")
        if step in (HOLD, LOOP, HANG):
            self._stay(step, align.id)
            if self.killed:
                return self._end_by_kill()
            step = None
        if align.id in self._cancelled:
            return Failed(align.id, Cancelled("cancelled"))
        if isinstance(step, BridgeError):
            return Failed(align.id, step)
        return Aligned(align.id, words(align.text, len(align.samples)), "fake-aligner", 0.02)

    def _end(self, audio_id: int) -> None:
        """An utterance is open no more."""
        with self._changed:
            self._cancelled.add(self._waiting.pop(audio_id, 0))
            self._changed.notify_all()

    def _stay(self, step: str, job_id: int) -> None:
        {HOLD: self._hold, LOOP: self._loop, HANG: self._hang}[step](job_id)

    def _hold(self, job_id: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._released or self._closing or self.killed or job_id in self._cancelled, WAIT
            )
            self._released = max(0, self._released - 1)

    def _loop(self, job_id: int) -> None:
        with self._changed:
            while not self._closing and not self.killed and job_id not in self._cancelled:
                self.heartbeats += 1
                self._changed.wait(STEP_SECONDS)

    def _hang(self, _: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.killed, WAIT)
