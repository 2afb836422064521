"""Tasks: read ahead, taken in turns, settled once, ended when they take too long."""

import numpy as np
import pytest
from support.conversation import Conversation
from support.fake_engine import transcript

from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import AudioNotFound, Cancelled, ShuttingDown
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, Cancel, ReadAudio, Submit
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_FILES, MAX_JOBS
from qwen3_asr_mlx_runtime.session.file_prefetch import MAX_HELD, MAX_HELD_SECONDS, MAX_STUCK, READ_AHEAD, READ_SECONDS
from qwen3_asr_mlx_runtime.session.scheduler import Work
from qwen3_asr_mlx_runtime.session.tasks import Options, Task

BATCHED = Options(0, None, "", "batched")


class Owner:
    """Keeps what became of its tasks, in the order in which it was told."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.told: list[tuple[int, str]] = []

    def was_read(self, task: Task) -> None:
        self.read.append(task.id)

    def settled(self, task: Task) -> None:
        outcome = task.outcome
        self.told.append((task.id, outcome.text if isinstance(outcome, Transcript) else outcome.code))


class Bench:
    def __init__(self) -> None:
        self.now = 0.0
        self.work = Work(lambda: self.now)
        self.work.model_loaded = True
        self.owner = Owner()
        self.tasks: dict[int, Task] = {}

    def file(self, number: int, **members: object) -> Task:
        members = {"options": Options(0, None, ""), **members}
        return self.add(Task(number, self.owner, path=f"{number}.wav", **members))

    def speech(self, number: int, lane: str = "s", **members: object) -> Task:
        samples = np.zeros(16_000, np.float32)
        members = {"options": Options(0, None, ""), **members}
        return self.add(Task(number, self.owner, lane=lane, samples=samples, **members))

    def add(self, task: Task) -> Task:
        self.tasks[task.id] = task
        self.work.add(task)
        self.work.want(task)
        return task

    def effects(self) -> list[tuple[str, int]]:
        self.work.advance()
        names = {ReadAudio: "read", Submit: "submit", Cancel: "cancel"}
        effects = [
            (names[type(effect)], effect.job.id if isinstance(effect, Submit) else effect.job_id)
            for effect in self.work.effects
        ]
        self.work.effects.clear()
        return effects

    def read(self, number: int) -> None:
        self.work.audio_read(AudioRead(number, np.zeros(8, np.float32), (), 0.1))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.work.tick()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_few_are_in_the_engine_and_few_are_read_at_a_time(bench: Bench) -> None:
    for number in range(10):
        bench.file(number)
    assert bench.effects() == [("read", number) for number in range(READ_AHEAD)]
    for number in range(READ_AHEAD):
        bench.read(number)
    assert bench.effects() == [("submit", number) for number in range(MAX_FILES["sequential"])]
    bench.work.decoded(0, transcript("Zero."))
    assert bench.effects() == [("read", READ_AHEAD), ("submit", MAX_FILES["sequential"])]


def test_a_batch_takes_all_rows_and_its_files_leave_some_to_streams(bench: Bench) -> None:
    for number in range(30):
        bench.file(number, options=BATCHED)
    while reads := [number for kind, number in bench.effects() if kind == "read"]:
        for number in reads:
            bench.read(number)
    assert bench.work.decoding == MAX_FILES["batched"]
    assert bench.work.reading.unread == 30 - MAX_HELD["batched"]
    for number in range(30, 60):
        bench.speech(number, lane=str(number % 7), options=BATCHED)
    live = [number for _, number in bench.effects()]
    assert len(live) == MAX_JOBS["batched"] - MAX_FILES["batched"]
    assert min(live) >= 30


def test_no_more_than_a_few_long_files_are_held_for_a_batch(bench: Bench) -> None:
    for number in range(30):
        bench.file(number, options=BATCHED)
    long = np.zeros(int(MAX_HELD_SECONDS * 16_000) // 4, np.float32)
    while reads := [number for kind, number in bench.effects() if kind == "read"]:
        for number in reads:
            bench.work.audio_read(AudioRead(number, long, (), 0.1))
    assert 30 - bench.work.reading.unread == READ_AHEAD


def test_a_mode_without_room_keeps_nothing_of_the_other_back(bench: Bench) -> None:
    for number in range(10):
        bench.speech(number)
    bench.speech(10, lane="t", options=BATCHED)
    submitted = [number for _, number in bench.effects()]
    assert submitted == [0, 10, 1, 2, 3]
    bench.work.decoded(10, transcript())
    bench.speech(11, lane="s", options=BATCHED)
    assert bench.effects() == []  # it comes after those of its own stream


def test_one_step_may_have_to_do_with_all_rows(bench: Bench) -> None:
    for number in range(3):
        bench.speech(number, options=BATCHED)
    bench.speech(3, lane="t")
    bench.effects()
    assert bench.work.decoding_seconds == 3.0
    for number in range(3):
        bench.work.decoded(number, transcript())
    assert bench.work.decoding_seconds == 1.0


def test_what_is_not_wanted_is_read_but_not_decoded(bench: Bench) -> None:
    task = Task(1, bench.owner, Options(0, None, ""), lane="s", path="1.wav")
    bench.work.add(task)
    assert bench.effects() == [("read", 1)]
    bench.read(1)
    assert (bench.effects(), bench.owner.read) == ([], [1])
    bench.work.want(task)
    assert bench.effects() == [("submit", 1)]


def test_nothing_is_decoded_before_the_model_is_there(bench: Bench) -> None:
    bench.work.model_loaded = False
    bench.speech(1)
    assert bench.effects() == []
    bench.work.model_loaded = True
    assert bench.effects() == [("submit", 1)]


def test_row_67_speech_that_came_later_goes_before_files(bench: Bench) -> None:
    for number in range(4):
        bench.file(number)
    bench.effects()
    for number in range(4):
        bench.read(number)
    bench.effects()
    bench.speech(9)
    bench.work.decoded(0, transcript())
    assert bench.effects() == [("submit", 9), ("submit", 2)]


def test_cancel_tells_how_far_it_came(bench: Bench) -> None:
    running, *_, waiting = [bench.speech(number) for number in range(1, 2 + MAX_JOBS["sequential"])]
    bench.effects()
    error = Cancelled("by a client")
    assert bench.work.cancel(waiting, error) == "cancelled"
    assert bench.work.cancel(waiting, error) == "already_done"
    assert bench.work.cancel(running, error) == "cancelling"
    assert bench.effects() == [("cancel", 1)]
    bench.work.decoded(1, transcript("Won."))
    assert bench.owner.told == [(waiting.id, "cancelled"), (1, "Won.")]


def test_an_outcome_that_comes_too_late_is_dropped(bench: Bench) -> None:
    bench.speech(1)
    bench.effects()
    bench.work.give_up_all(ShuttingDown("ends"))
    bench.work.decoded(1, transcript("Too late."))
    bench.work.decoded(1, transcript("Later still."))
    assert bench.owner.told == [(1, "shutting_down")]
    assert bench.work.transcripts == 0


def test_timeout_ms_counts_from_the_earlier_of_two(bench: Bench) -> None:
    task = bench.speech(1, expires=5.0)
    bench.work.expire(task, 2.0)
    assert bench.work.deadline == 2.0
    bench.wait(2.0)
    assert bench.owner.told == [(1, "timeout")]
    bench.wait(9.0)
    assert (bench.owner.told, bench.work.deadline) == ([(1, "timeout")], None)


def test_row_36_a_file_that_is_not_read_in_time_is_given_up_and_its_place_is_free(bench: Bench) -> None:
    for number in range(READ_AHEAD + 1):
        bench.file(number)
    bench.effects()
    bench.wait(READ_SECONDS - 0.1)
    bench.work.audio_failed(AudioFailed(0, AudioNotFound("gone")))
    bench.wait(0.1)
    assert bench.owner.told == [(0, "audio_not_found"), *((number, "audio_read_timeout") for number in (1, 2, 3))]
    assert (bench.effects(), bench.work.reading.stuck) == ([("read", 4)], 3)


def test_row_36_with_four_threads_stuck_no_more_files_are_tried_until_one_comes_back(bench: Bench) -> None:
    for number in range(MAX_STUCK):
        bench.file(number)
    bench.effects()
    bench.wait(READ_SECONDS)
    bench.file(7)
    assert bench.effects() == []
    assert bench.owner.told[-1] == (7, "audio_read_timeout")
    bench.read(0)
    bench.file(8)
    assert bench.effects() == [("read", 8)]


def test_a_million_expired_tasks_leave_nothing_behind(bench: Bench) -> None:
    for number in range(1000):
        task = bench.speech(number, expires=1e6)
        bench.work.cancel(task, Cancelled("at once"))
    assert len(bench.work._expiring) < 200


def test_row_67_the_file_of_an_utterance_is_read_before_those_of_a_batch() -> None:
    talk = Conversation()
    talk.send("start_stream")
    talk.load()
    paths = [f"/{number}.wav" for number in range(2 * READ_AHEAD)]
    talk.send("batch_transcribe", id="batch", audio=paths)
    for path in paths[:READ_AHEAD]:
        talk.read(path)
    assert not talk.reads  # as many as may be held wait for the engine
    talk.send("end_utterance", id="live", audio="/live.wav")
    assert list(talk.reads.values()) == ["/live.wav"]
    assert [reply["id"] for reply in talk.read("/live.wav")] == ["live"]
