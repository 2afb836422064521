"""Transcriptions: read ahead, taken in turns, finished once, failed when they take too long."""

import numpy as np
import pytest
from support.conversation import Conversation
from support.fake_engine import transcript
from support.utterances import utterance

from qwen3_asr_mlx_runtime.engines.api import Append, Cancel, Finalize
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import AudioNotFound, Cancelled, NonFiniteOutput, ShuttingDown
from qwen3_asr_mlx_runtime.protocol.commands import Transcribe
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, ReadAudio, ReadMore, StopReading
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_FILES, MAX_JOBS
from qwen3_asr_mlx_runtime.session.file_prefetch import (
    MAX_HELD,
    MAX_HELD_SECONDS,
    MAX_HELD_SEGMENTS,
    MAX_STUCK,
    READ_AHEAD,
    READ_SECONDS,
)
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.transcription import FileRequest, Options, State, Transcription

PLAIN = Options(0, None, "")
BATCHED = Options(0, None, "", "batched")


class Bench:
    """A scheduler and its clock. Jobs are numbered from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.scheduler = Scheduler(lambda: self.now)
        self.scheduler.model_loaded = True

    def file(self, options: Options = PLAIN) -> Transcription:
        origin = FileRequest(None, Transcribe(audio="a.wav"))
        transcription = self.scheduler.add_file(origin, "a.wav", options)
        self.scheduler.request_decode(transcription, options)
        return transcription

    def utterance(self, stream: str = "s", options: Options = PLAIN) -> Transcription:
        origin = utterance(f"{stream}1").utterance
        transcription = self.scheduler.add_samples(origin, np.zeros(16_000, np.float32), options)
        self.scheduler.request_decode(transcription, options)
        return transcription

    def effects(self) -> list[tuple[str, int]]:
        self.scheduler.advance()
        names = {
            ReadAudio: "read",
            ReadMore: "read more",
            StopReading: "stop reading",
            Finalize: "finalize",
            Cancel: "cancel",
        }
        effects = [
            (names[type(effect)], (effect.id if isinstance(effect, Finalize) else effect.job_id) - 1)
            for effect in self.scheduler.effects
            if not isinstance(effect, Append)
        ]
        self.scheduler.effects.clear()
        return effects

    def finished(self) -> list[tuple[int, str]]:
        return [
            (each.id - 1, each.result.text if isinstance(each.result, Transcript) else each.result.code)
            for each in self.scheduler.take_finished()
        ]

    def read(self, number: int, samples: int = 8, *, is_last: bool = True) -> Transcription | None:
        return self.scheduler.audio_read(AudioRead(number + 1, np.zeros(samples, np.float32), (), 0.1, is_last))

    def decoded(self, number: int, text: str = "Text.") -> None:
        self.scheduler.ended(number + 1, transcript(text))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.tick()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_few_are_in_the_engine_and_few_are_read_at_a_time(bench: Bench) -> None:
    for _ in range(10):
        bench.file()
    assert bench.effects() == [("read", number) for number in range(READ_AHEAD)]
    for number in range(READ_AHEAD):
        bench.read(number)
    assert bench.effects() == [("finalize", number) for number in range(MAX_FILES["sequential"])]
    bench.decoded(0)
    assert bench.effects() == [("read", READ_AHEAD), ("finalize", MAX_FILES["sequential"])]


def test_a_batch_takes_all_rows_and_its_files_leave_some_to_streams(bench: Bench) -> None:
    for _ in range(30):
        bench.file(BATCHED)
    while reads := [number for kind, number in bench.effects() if kind == "read"]:
        for number in reads:
            bench.read(number)
    assert len(bench.scheduler.slots) == MAX_FILES["batched"]
    assert bench.scheduler.files.unread == 30 - MAX_HELD["batched"]
    for number in range(30, 60):
        bench.utterance(str(number % 7), BATCHED)
    interactive = [number for _, number in bench.effects()]
    assert len(interactive) == MAX_JOBS["batched"] - MAX_FILES["batched"]
    assert min(interactive) >= 30


def test_no_more_than_a_few_long_files_are_held_for_a_batch(bench: Bench) -> None:
    for _ in range(30):
        bench.file(BATCHED)
    while reads := [number for kind, number in bench.effects() if kind == "read"]:
        for number in reads:
            bench.read(number, int(MAX_HELD_SECONDS * 16_000) // 4)
    assert 30 - bench.scheduler.files.unread == READ_AHEAD


def test_a_mode_without_room_keeps_nothing_of_the_other_back(bench: Bench) -> None:
    for _ in range(10):
        bench.utterance()
    bench.utterance("t", BATCHED)
    assert [number for _, number in bench.effects()] == [0, 10, 1, 2, 3]
    bench.decoded(10)
    bench.utterance("s", BATCHED)
    assert bench.effects() == []  # it comes after those of its own stream


def test_one_step_may_process_all_rows(bench: Bench) -> None:
    for _ in range(3):
        bench.utterance("s", BATCHED)
    bench.utterance("t")
    bench.effects()
    assert bench.scheduler.slots.seconds == 3.0
    for number in range(3):
        bench.decoded(number)
    assert bench.scheduler.slots.seconds == 1.0


def test_a_file_is_read_ahead_and_decoded_on_request(bench: Bench) -> None:
    transcription = bench.scheduler.add_file(utterance("s1").utterance, "a.wav", PLAIN)
    assert bench.effects() == [("read", 0)]
    assert bench.read(0) is transcription
    assert (bench.effects(), transcription.state) == ([], State.QUEUED)
    bench.scheduler.request_decode(transcription, PLAIN)
    assert (bench.effects(), transcription.state) == ([("finalize", 0)], State.DECODING)


def test_nothing_is_decoded_before_the_model_is_loaded(bench: Bench) -> None:
    bench.scheduler.model_loaded = False
    bench.utterance()
    assert bench.effects() == []
    bench.scheduler.model_loaded = True
    assert bench.effects() == [("finalize", 0)]


def test_row_67_an_utterance_that_came_later_goes_before_files(bench: Bench) -> None:
    for _ in range(4):
        bench.file()
    bench.effects()
    for number in range(4):
        bench.read(number)
    bench.effects()
    bench.utterance()
    bench.decoded(0)
    assert bench.effects() == [("finalize", 4), ("finalize", 2)]


def test_a_cancel_ends_what_waits_now_and_what_is_decoded_at_its_next_step(bench: Bench) -> None:
    running, *_, waiting = [bench.utterance() for _ in range(1 + MAX_JOBS["sequential"])]
    bench.effects()
    assert bench.scheduler.cancel([waiting]) == "cancelled"
    assert bench.scheduler.cancel([waiting]) == "already_done"
    assert bench.scheduler.cancel([running, waiting]) == "cancelling"
    assert bench.effects() == [("cancel", 0)]
    bench.decoded(0, "Won.")
    assert bench.finished() == [(waiting.id - 1, "cancelled"), (0, "Won.")]


def test_a_result_that_comes_too_late_is_dropped(bench: Bench) -> None:
    bench.utterance()
    bench.effects()
    bench.scheduler.fail_all(ShuttingDown("ends"))
    bench.decoded(0, "Too late.")
    bench.decoded(0, "Later still.")
    assert bench.finished() == [(0, "shutting_down")]
    assert bench.scheduler.transcripts == 0


def test_timeout_ms_counts_from_the_earlier_of_two(bench: Bench) -> None:
    transcription = bench.utterance()
    bench.scheduler.expire_after([transcription], 5000)
    bench.scheduler.expire_after([transcription], 2000)
    assert bench.scheduler.deadline == 2.0
    bench.wait(2.0)
    assert bench.finished() == [(0, "timeout")]
    bench.wait(9.0)
    assert (bench.finished(), bench.scheduler.deadline) == ([], None)


def test_decoding_with_other_options_is_another_job_and_keeps_its_time_out(bench: Bench) -> None:
    transcription = bench.utterance()
    bench.scheduler.expire_after([transcription], 2000)
    bench.effects()
    bench.scheduler.request_decode(transcription, Options(5, None, ""))
    assert bench.effects() == [("cancel", 0), ("finalize", 1)]
    bench.decoded(0, "With the former options.")
    assert bench.finished() == []
    bench.wait(2.0)
    assert bench.finished() == [(1, "timeout")]


def test_a_transcript_that_does_not_serve_is_decoded_again_without_a_time_out(bench: Bench) -> None:
    transcription = bench.utterance()
    bench.scheduler.expire_after([transcription], 2000)
    bench.effects()
    bench.decoded(0, "In time.")
    assert bench.finished() == [(0, "In time.")]
    bench.scheduler.request_decode(transcription, PLAIN)
    assert (bench.effects(), transcription.state) == ([], State.DONE)
    bench.scheduler.request_decode(transcription, Options(5, None, ""))
    assert (bench.effects(), transcription.state) == ([("finalize", 1)], State.DECODING)
    bench.wait(9.0)
    bench.decoded(1, "Again.")
    assert bench.finished() == [(1, "Again.")]


def test_row_36_a_file_that_is_not_read_in_time_fails_and_its_place_is_free(bench: Bench) -> None:
    for _ in range(READ_AHEAD + 1):
        bench.file()
    bench.effects()
    bench.wait(READ_SECONDS - 0.1)
    bench.scheduler.audio_failed(AudioFailed(1, AudioNotFound("gone")))
    bench.wait(0.1)
    assert bench.finished() == [(0, "audio_not_found"), *((number, "audio_read_timeout") for number in (1, 2, 3))]
    assert (bench.effects(), bench.scheduler.files.stuck) == ([("read", 4)], 3)


def test_row_36_with_four_threads_stuck_no_more_files_are_tried_until_one_comes_back(bench: Bench) -> None:
    for _ in range(MAX_STUCK):
        bench.file()
    bench.effects()
    bench.wait(READ_SECONDS)
    bench.file()
    assert bench.effects() == []
    assert bench.finished()[-1] == (4, "audio_read_timeout")
    bench.read(0)
    bench.file()
    assert bench.effects() == [("read", 5)]


def test_a_thousand_cancelled_utterances_leave_nothing_behind(bench: Bench) -> None:
    for _ in range(1000):
        transcription = bench.utterance()
        bench.scheduler.expire_after([transcription], 1_000_000)
        bench.scheduler.cancel([transcription])
    assert len(bench.scheduler._expiring) < 200


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


class LongFile:
    """A file of so many segments, read as the scheduler asks and decoded where a test says so."""

    def __init__(self, bench: Bench, segments: int) -> None:
        self.bench = bench
        self.transcription = bench.file()
        self.left = segments
        self.decoding: list[int] = []
        self.advance()

    def advance(self) -> list[str]:
        kinds = []
        while effects := self.bench.effects():
            for kind, number in effects:
                kinds.append(kind)
                if kind in ("read", "read more"):
                    self.left -= 1
                    self.bench.read(0, is_last=not self.left)
                elif kind == "finalize":
                    self.decoding.append(number)
        return kinds

    def decode(self) -> list[str]:
        number = self.decoding.pop(0)
        self.bench.decoded(number, f"{number}.")
        return self.advance()


def test_a_long_file_is_read_as_it_is_decoded(bench: Bench) -> None:
    file = LongFile(bench, 40)
    assert file.left == 40 - MAX_HELD_SEGMENTS
    assert len(file.decoding) == MAX_FILES["sequential"]
    while file.transcription.is_unfinished:
        assert file.transcription.held_segments <= MAX_HELD_SEGMENTS
        file.decode()
    [(_, text)] = bench.finished()
    assert text.split() == sorted(text.split(), key=lambda word: int(word[:-1]))
    assert len(text.split()) == 40
    assert (bench.scheduler.transcripts, file.transcription.sample_count) == (1, 40 * 8)
    assert file.transcription.held_segments == 0


def test_segments_of_all_files_share_the_bound_and_each_file_goes_on(bench: Bench) -> None:
    for number in range(2):
        bench.file()
        assert bench.effects() == [("read", number)]
    for _ in range(MAX_HELD_SEGMENTS):
        bench.read(0, is_last=False)
        bench.effects()
    bench.read(1, is_last=False)
    assert ("read more", 1) not in bench.effects()  # it has one segment, and there are enough
    held = [each.held_segments for each in bench.scheduler.files._held.values()]
    assert held == [MAX_HELD_SEGMENTS, 1]


def test_an_utterance_goes_before_the_next_segment(bench: Bench) -> None:
    file = LongFile(bench, 8)
    utterance = bench.utterance()
    assert bench.effects() == [("finalize", utterance.id - 1)]
    file.decode()
    assert utterance.is_unfinished


def test_a_cancel_ends_a_file_inside(bench: Bench) -> None:
    file = LongFile(bench, 40)
    file.decode()
    assert bench.scheduler.cancel([file.transcription]) == "cancelling"
    cancelled = [number for kind, number in bench.effects() if kind == "cancel"]
    assert cancelled == file.decoding
    bench.decoded(file.decoding[0])  # it was finished first, and is of no use alone
    assert bench.finished() == []
    bench.scheduler.ended(file.decoding[1] + 1, Cancelled("at the next step"))
    assert bench.finished() == [(0, "cancelled")]
    assert ("read more", 0) not in bench.effects()
    assert not bench.scheduler.ready
    assert (file.transcription.held_segments, len(bench.scheduler.slots)) == (0, 0)


def test_a_file_that_is_cancelled_while_it_is_read_is_read_no_further(bench: Bench) -> None:
    bench.scheduler.model_loaded = False
    file = bench.file()
    bench.effects()
    bench.read(0, is_last=False)
    assert bench.effects() == [("read more", 0)]
    assert bench.scheduler.cancel([file]) == "cancelled"
    assert bench.effects() == [("stop reading", 0)]
    bench.read(0, is_last=False)  # what was under way
    assert [kind for kind, _ in bench.effects()] == ["stop reading"]
    assert bench.scheduler.files.reading == 0


def test_files_cancelled_while_their_next_segment_is_read_leave_no_place_taken(bench: Bench) -> None:
    for number in range(2 * READ_AHEAD):
        file = bench.file()
        assert ("read", file.id - 1) in bench.effects()
        bench.read(file.id - 1, is_last=False)
        [finalize] = [job for kind, job in bench.effects() if kind == "finalize"]
        assert bench.scheduler.cancel([file]) == "cancelling"
        bench.read(file.id - 1, is_last=False)  # what was under way
        assert ("read more", file.id - 1) not in bench.effects()
        bench.scheduler.ended(finalize + 1, Cancelled("at the next step"))
        bench.wait(READ_SECONDS)
        files = bench.scheduler.files
        assert (files.reading, files.stuck, len(files._held)) == (0, 0, 0), number


@pytest.mark.parametrize("place", ["read", "decode"])
def test_an_error_in_the_middle_ends_the_file_with_it(bench: Bench, place: str) -> None:
    file = LongFile(bench, 40)
    if place == "read":
        bench.scheduler.audio_failed(AudioFailed(1, AudioNotFound("its volume is gone")))
    else:
        bench.scheduler.ended(file.decoding.pop(0) + 1, NonFiniteOutput("planted"))
    [(_, code)] = bench.finished()
    assert code == {"read": "audio_not_found", "decode": "non_finite_output"}[place]
    assert [number for kind, number in bench.effects() if kind == "cancel"] == file.decoding
    assert not bench.scheduler.ready


def test_row_36_a_segment_that_is_not_read_in_time_ends_the_file(bench: Bench) -> None:
    bench.file()
    bench.effects()
    bench.read(0, is_last=False)
    bench.effects()
    bench.wait(READ_SECONDS)
    assert bench.finished() == [(0, "audio_read_timeout")]
    assert bench.scheduler.files.stuck == 1
