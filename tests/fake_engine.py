"""A jobs.Engine without a model: it does what the script says, on a thread of its own.

The script is a list of steps, one for each job, the last one repeated. A step is a Transcript or a BridgeError (the
outcome), or a fault:

HOLD   wait for `release`, or for a cancel; then transcribe
LOOP   take steps without end, until a cancel
HANG   take no step and hear no cancel, until the engine is closed
DIE    end the engine's thread without a word

or a function to call with the job, which returns one of these: `delayed(event)` waits for a threading.Event,
`native_print` writes to descriptor 1 behind Python's back, `leak` keeps a megabyte for ever, `abort` ends the process
as a failed assertion in C++ does.
"""

import ctypes
import os
import queue
import threading
from collections.abc import Callable, Sequence

from qwen3_asr_mlx_runtime.errors import BridgeError, Cancelled
from qwen3_asr_mlx_runtime.jobs import Failed, Finished, Job, Loaded, LoadFailed, Post
from qwen3_asr_mlx_runtime.telemetry import Profile
from qwen3_asr_mlx_runtime.transcript import Transcript

WAIT = 60.0
HOLD, LOOP, HANG, DIE = "hold", "loop", "hang", "die"
STEP_SECONDS = 0.001

Step = Transcript | BridgeError | str | Callable[[Job], object]


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
    }
    return Transcript(**{**whole, **fields})


def heard(job: Job, text: str = "Seven three one.", **fields: object) -> Transcript:
    """What a recognizer answers: with log-probabilities where the job asks for them."""
    fields = {"warnings": job.utterance.warnings, **fields}
    if job.utterance.logprobs:
        fields = {"logprobs": (-0.5, -0.25, 0.0), **fields}
    return transcript(text, audio_samples=len(job.utterance.samples), **fields)


def delayed(event: threading.Event) -> Callable[[Job], Transcript]:
    def wait(_: Job) -> Transcript:
        event.wait(WAIT)
        return transcript()

    return wait


def native_print(_: Job) -> Transcript:
    libc = ctypes.CDLL(None)
    libc.puts(b"native noise")
    libc.fflush(None)
    return transcript()


LEAKED: list[bytearray] = []


def leak(_: Job) -> Transcript:
    LEAKED.append(bytearray(b"x" * 2**20))
    return transcript()


def abort(_: Job) -> Transcript:
    os.abort()


class FakeEngine:
    """`started` counts the jobs that began. `submitted` holds every job; `loads` counts the loads."""

    def __init__(
        self,
        post: Post,
        script: Sequence[Step] = (),
        load_script: Sequence[BridgeError | str | None] = (),
    ) -> None:
        self._post = post
        self._script = list(script) or [heard]
        self._load_script = list(load_script) or [None]
        self._inbox: queue.SimpleQueue[Job | str | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._changed = threading.Condition()
        self._released = 0
        self._closing = False
        self.started = threading.Semaphore(0)
        self.submitted: list[Job] = []
        self.loads = 0
        self.heartbeats = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def load(self) -> None:
        self._inbox.put("load")

    def submit(self, job: Job) -> None:
        self.heartbeats += 1
        self.submitted.append(job)
        self._inbox.put(job)

    def cancel(self, job_id: int) -> None:
        with self._changed:
            self._cancelled.add(job_id)
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
            if isinstance(work, Job):
                outcome = self._decode(work)
                if outcome is None:
                    return
                self._post(outcome)
            else:
                self._post(self._load())

    def _load(self) -> Loaded | LoadFailed:
        step = self._load_script[min(self.loads, len(self._load_script) - 1)]
        self.loads += 1
        if step == HOLD:
            self._hold(0)
        if isinstance(step, BridgeError):
            return LoadFailed(step)
        return Loaded("fake", "/models/fake", 1.5, {"stage": "load", "total_seconds": 1.5})

    def _decode(self, job: Job) -> Finished | Failed | None:
        step = self._script[0] if len(self._script) == 1 else self._script.pop(0)
        if callable(step):
            step = step(job)
        if step == DIE:
            return None
        if step in (HOLD, LOOP, HANG):
            {HOLD: self._hold, LOOP: self._loop, HANG: self._hang}[step](job.id)
            step = transcript()
        if job.id in self._cancelled:
            return Failed(job.id, Cancelled("cancelled"))
        return Failed(job.id, step) if isinstance(step, BridgeError) else Finished(job.id, step)

    def _hold(self, job_id: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._released or self._closing or job_id in self._cancelled, WAIT)
            self._released = max(0, self._released - 1)

    def _loop(self, job_id: int) -> None:
        with self._changed:
            while not self._closing and job_id not in self._cancelled:
                self.heartbeats += 1
                self._changed.wait(STEP_SECONDS)

    def _hang(self, _: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, WAIT)
