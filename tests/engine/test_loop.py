import errno
import os
import queue
import threading

import numpy as np
import pytest
from support.engine_requests import transcribe
from support.loop_engine import LoopEngine

from qwen3_asr_mlx_runtime import shortage
from qwen3_asr_mlx_runtime.engine import loop
from qwen3_asr_mlx_runtime.engine import recognizer as engine
from qwen3_asr_mlx_runtime.engines.api import (
    Append,
    Cancel,
    Failed,
    Finalize,
    Finished,
    Forget,
    Load,
    Loaded,
    LoadFailed,
    Partial,
    Progress,
)
from qwen3_asr_mlx_runtime.engines.utterance import Utterance
from qwen3_asr_mlx_runtime.errors import Cancelled, EngineLost, ModelCorrupt, ModelNotFound, NonFiniteOutput
from qwen3_asr_mlx_runtime.settings import Settings

WAIT = 60


class ScriptedRecognizer:
    """Stands where the real one and its schedule do; each utterance's context says what its decoding does."""

    def __init__(self) -> None:
        self.model_dir = "/models/scripted"
        self.load_profile = {"total_seconds": 1.5}
        self.load_source = "warm"
        self.started = threading.Event()
        self.gate = threading.Event()
        self.threads: set[str] = set()
        self.load_failures: list[Exception] = []
        self.loads = 0
        self.idles = 0
        self.on_load = lambda: None
        self.jobs: list[Finalize] = []
        self.partials: list[Partial] = []
        self.appended: list[Append] = []

    def load(self, *_: object, **__: object) -> "ScriptedRecognizer":
        self.loads += 1
        self.on_load()
        self.threads.add(threading.current_thread().name)
        if self.load_failures:
            raise self.load_failures.pop(0)
        return self

    def schedule(self, _: Settings) -> "ScriptedRecognizer":
        return self

    @property
    def open_ids(self) -> list[int]:
        return [job.id for job in self.jobs]

    @property
    def is_busy(self) -> bool:
        return bool(self.jobs)

    def idle(self) -> bool:
        self.idles += 1
        if self.idles == 3:
            self.gate.set()
        return self.idles < 3

    def take(self, request: Append | Finalize | Partial) -> None:
        {Append: self.append, Finalize: self.finalize, Partial: self.partial}[type(request)](request)

    def append(self, request: Append) -> None:
        self.appended.append(request)

    def finalize(self, request: Finalize) -> None:
        self.jobs.append(request)

    def partial(self, request: Partial) -> None:
        self.partials.append(request)

    def forget(self, audio_id: int) -> Failed | None:
        self.appended = [request for request in self.appended if request.audio_id != audio_id]
        [partial] = [request for request in self.partials if request.audio_id == audio_id] or [None]
        return Failed(partial.id, Cancelled("forgotten")) if partial else None

    def cancel(self, job_id: int) -> Failed | None:
        if job_id not in self.open_ids:
            return None
        self.jobs = [job for job in self.jobs if job.id != job_id]
        return Failed(job_id, Cancelled("cancelled"))

    def step(self) -> list[Finished]:
        self.threads.add(threading.current_thread().name)
        if self.jobs[0].context == "endless":
            self.started.set()
            self.gate.wait(WAIT)
            return []
        job = self.jobs.pop(0)
        if job.context == "no numbers":
            return [Failed(job.id, NonFiniteOutput("planted"))]
        if job.context == "ignored":
            return [Failed(job.id, EngineLost("planted"))]
        return [Finished(job.id, f"transcript of {job.context}")]


@pytest.fixture
def recognizer(monkeypatch) -> ScriptedRecognizer:
    scripted = ScriptedRecognizer()
    monkeypatch.setattr(engine, "Recognizer", scripted)
    return scripted


@pytest.fixture
def outcomes() -> queue.SimpleQueue:
    return queue.SimpleQueue()


@pytest.fixture
def thread(recognizer, outcomes):
    thread = LoopEngine(Settings(model="scripted"), outcomes.put)
    yield thread
    recognizer.gate.set()
    thread.close()
    assert thread.join(WAIT)


def job(id: int, script: str = "words") -> Finalize:
    return Finalize(id, id, context=script)


def next_of(outcomes: queue.SimpleQueue):
    return outcomes.get(timeout=WAIT)


def test_loading_reports_the_model_and_happens_once(thread, recognizer, outcomes):
    thread.send(Load())
    thread.send(Load())
    first, second = next_of(outcomes), next_of(outcomes)
    assert first == second == Loaded("scripted", "/models/scripted", 1.5, {"total_seconds": 1.5}, "warm")
    assert recognizer.loads == 1


def test_a_failed_load_is_reported_and_the_next_tries_again(thread, recognizer, outcomes):
    recognizer.load_failures = [ModelNotFound("nowhere"), ValueError("surprise"), PermissionError("planted")]
    codes = []
    for _ in range(3):
        thread.send(Load())
        failure = next_of(outcomes)
        assert isinstance(failure, LoadFailed)
        codes.append(failure.error.code)
    thread.send(Load())
    assert isinstance(next_of(outcomes), Loaded)
    assert codes == ["model_not_found", "model_unsupported", "model_not_found"]


def test_a_library_that_gets_no_memory_ends_the_worker_for_a_new_one(thread, recognizer, outcomes):
    recognizer.load_failures = [ImportError("libmlx.so: failed to map segment from shared object", name="core")]
    thread.send(Load())
    assert next_of(thread.ended) == "exit_1"
    assert outcomes.empty()


def test_a_load_that_has_no_descriptors_is_named_so_whatever_a_library_makes_of_it(
    thread, recognizer, outcomes, monkeypatch
):
    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    recognizer.load_failures = [ModelCorrupt("the tokenizer files cannot be read")]
    monkeypatch.setattr(shortage.os, "open", refused)
    thread.send(Load())
    failure = next_of(outcomes)
    monkeypatch.undo()
    assert (failure.error.code, failure.error.retryable) == ("resource_exhausted", True)


def test_a_job_before_any_load_fails(thread, outcomes):
    thread.send(job(1))
    assert next_of(outcomes).error.code == "engine_unavailable"


def partial(id: int, audio_id: int = 7) -> Partial:
    return Partial(id, audio_id)


def test_a_partial_before_any_load_fails(thread, outcomes):
    thread.send(partial(1))
    failure = next_of(outcomes)
    assert (failure.job_id, failure.error.code) == (1, "engine_unavailable")
    thread.send(Forget(7))
    thread.send(Load())
    assert isinstance(next_of(outcomes), Loaded)  # forgetting posts nothing


def test_partials_go_to_the_schedule_and_what_is_forgotten_ends_them(thread, recognizer, outcomes):
    thread.send(Load())
    next_of(outcomes)
    thread.send(partial(1))
    thread.send(Forget(8))
    thread.send(Forget(7))
    failure = next_of(outcomes)
    assert (failure.job_id, failure.error.code) == (1, "cancelled")
    assert [each.id for each in recognizer.partials] == [1]


def test_jobs_finish_in_their_order(thread, outcomes):
    thread.send(Load())
    for id in (1, 2, 3):
        thread.send(job(id, f"number {id}"))
    next_of(outcomes)
    assert [next_of(outcomes) for _ in range(3)] == [Finished(id, f"transcript of number {id}") for id in (1, 2, 3)]


def test_a_running_job_is_cancelled_at_its_next_step_and_the_others_go_on(thread, recognizer, outcomes):
    thread.send(Load())
    thread.send(job(1, "endless"))
    thread.send(job(2))
    next_of(outcomes)
    assert recognizer.started.wait(WAIT)
    thread.send(Cancel(1))
    recognizer.gate.set()
    cancelled, finished = next_of(outcomes), next_of(outcomes)
    assert (cancelled.job_id, cancelled.error.code) == (1, "cancelled")
    assert finished.job_id == 2


def test_a_waiting_job_is_cancelled_before_it_starts(thread, recognizer, outcomes):
    thread.send(Load())
    thread.send(job(1, "endless"))
    thread.send(job(2))
    next_of(outcomes)
    assert recognizer.started.wait(WAIT)
    thread.send(Cancel(2))
    recognizer.gate.set()
    assert (next_of(outcomes).job_id, outcomes.empty()) == (2, True)


def test_a_cancel_that_comes_too_late_or_names_nothing_is_ignored(thread, outcomes):
    thread.send(Load())
    thread.send(job(1))
    next_of(outcomes)
    next_of(outcomes)
    thread.send(Cancel(1))
    thread.send(Cancel(77))
    thread.send(job(2))
    assert isinstance(next_of(outcomes), Finished)


def test_everything_happens_on_one_thread(thread, recognizer, outcomes):
    thread.send(Load())
    thread.send(job(1))
    next_of(outcomes)
    next_of(outcomes)
    assert recognizer.threads == {"engine"}


def test_the_real_recogniser_works_from_its_thread(outcomes, monkeypatch):
    thread = LoopEngine(Settings(model="demo"), outcomes.put)
    thread.send(Load())
    for request in transcribe(1, Utterance(np.zeros(16_000, dtype=np.float32))):
        thread.send(request)
    stages = []
    while isinstance(outcome := next_of(outcomes), Progress):
        stages.append(outcome.stage)
    assert [*dict.fromkeys(stages)] == ["resolve", "verify", "load", "warmup"]  # a long one is reported again
    assert isinstance(outcome, Loaded)
    assert next_of(outcomes).transcript.text == ""


def test_an_idle_engine_releases_memory_until_there_is_no_more(thread, recognizer, outcomes, monkeypatch):
    monkeypatch.setattr(loop, "_IDLE_SECONDS", 0.001)
    thread.send(Load())
    next_of(outcomes)
    assert recognizer.gate.wait(WAIT)
    thread.send(job(1))
    assert isinstance(next_of(outcomes), Finished)
    assert recognizer.idles >= 3


def test_an_idle_engine_tells_what_it_has_released(recognizer, outcomes, monkeypatch):
    monkeypatch.setattr(loop, "_IDLE_SECONDS", 0.001)
    monkeypatch.setattr(loop, "BEAT_SECONDS", float("inf"))
    monkeypatch.setattr(loop.Memory, "read", lambda: recognizer.idles)
    thread = LoopEngine(Settings(model="scripted"), lambda outcome: outcomes.put((outcome, thread.memory)))
    thread.send(Load())
    assert recognizer.gate.wait(WAIT)
    thread.send(job(1))
    assert [next_of(outcomes)[1] for _ in range(2)] == [0, 3]
    thread.close()
    assert thread.join(WAIT)


def test_numbers_in_between_keep_the_model(thread, recognizer, outcomes):
    thread.send(Load())
    for id, script in enumerate(["no numbers", "no numbers", "words", "no numbers", "words"]):
        thread.send(job(id, script))
    assert [type(next_of(outcomes)) for _ in range(6)] == [Loaded, Failed, Failed, Finished, Failed, Finished]
    assert recognizer.loads == 1


def test_three_jobs_without_numbers_in_a_row_end_the_engine(thread, outcomes):
    thread.send(Load())
    for id in range(3):
        thread.send(job(id, "no numbers"))
    assert [type(next_of(outcomes)) for _ in range(4)] == [Loaded, Failed, Failed, Failed]
    assert next_of(thread.ended) == "non_finite_output"


def test_a_gpu_that_ignores_the_process_ends_the_engine_and_the_job_has_no_outcome(thread, outcomes):
    thread.send(Load())
    thread.send(job(1, "ignored"))
    assert isinstance(next_of(outcomes), Loaded)
    assert next_of(thread.ended) == "gpu_ignored"
    assert outcomes.empty()


def test_a_gpu_that_ignores_the_process_in_a_load_ends_the_engine(thread, recognizer, outcomes):
    recognizer.load_failures = [EngineLost("planted")]
    thread.send(Load())
    assert next_of(thread.ended) == "gpu_ignored"
    assert outcomes.empty()
