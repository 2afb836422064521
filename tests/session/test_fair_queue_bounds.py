"""Whose turn it is, in virtual time: streams and files arrive at random, and a stand-in for the engine takes a decoder
step at each tick. Nobody waits longer than docs/protocol/concepts.md says, whatever comes.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_engine import transcript
from support.utterances import utterance

from qwen3_asr_mlx_runtime.engines.api import DecoderMode, Finalize, Job
from qwen3_asr_mlx_runtime.engines.fair_queue import INTERACTIVE_IN_A_ROW, FairQueue
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES
from qwen3_asr_mlx_runtime.limits import MAX_BATCH_ROWS
from qwen3_asr_mlx_runtime.protocol.commands import Transcribe
from qwen3_asr_mlx_runtime.session.effects import AudioRead, ReadAudio
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_FILES
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.transcription import FileRequest, Options

MODES: tuple[DecoderMode, ...] = ("sequential", "batched")


@dataclass(frozen=True)
class Arrival:
    """`lane` None: a file. `steps` of the decoder are its work."""

    at: int
    lane: str | None
    mode: DecoderMode
    steps: int


class Steps:
    """The schedule of the engine without its tensors: a decoder step of one sequential job, or of all rows."""

    def __init__(self) -> None:
        self._sequential: FairQueue[Job] = FairQueue(lambda job: job.lane)
        self._waiting: FairQueue[Job] = FairQueue(lambda job: job.lane)
        self._rows: list[Job] = []
        self._left: dict[int, int] = {}
        self._batch_is_next = False

    def submit(self, job: Job, steps: int) -> None:
        self._left[job.id] = steps
        (self._sequential if job.decoder_mode == "sequential" else self._waiting).append(job)

    def step(self) -> list[int]:
        """The jobs that have ended."""
        batch = self._rows or len(self._waiting)
        stepped: list[Job] = []
        if batch and (self._batch_is_next or not len(self._sequential)):
            self._batch_is_next = False
            stepped = self._step_rows()
        elif len(self._sequential):
            self._batch_is_next = True
            stepped = [self._sequential.choose()]
        for job in stepped:
            self._left[job.id] -= 1
        ended = [job for job in stepped if not self._left[job.id]]
        for job in ended:
            (self._rows if job in self._rows else self._sequential).remove(job)
        return [job.id for job in ended]

    def _step_rows(self) -> list[Job]:
        while len(self._waiting) and len(self._rows) < MAX_BATCH_ROWS:
            self._rows.append(self._waiting.choose())
            self._waiting.remove(self._rows[-1])
        return [*self._rows]


class Day:
    """Everything that arrives, from the first tick to the last outcome. Files are read as soon as they may be."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self.arrivals = arrivals
        self.now = 0
        self.scheduler = Scheduler(lambda: float(self.now))
        self.scheduler.model_loaded = True
        self.engine = Steps()
        self.numbers: dict[int, int] = {}  # of arrivals, by job
        self.ready: dict[int, int] = {}  # when it could have been taken, as a place in `taken`
        self.ready_at: dict[int, int] = {}
        self.taken: list[int] = []
        self.done_at: dict[int, int] = {}
        self.most_live_in_a_row: Counter[DecoderMode] = Counter()  # while a file might have gone
        self._live_in_a_row: Counter[DecoderMode] = Counter()

    def run(self) -> None:
        last = max(arrival.at for arrival in self.arrivals)
        while len(self.done_at) < len(self.arrivals):
            for number, arrival in enumerate(self.arrivals):
                if arrival.at == self.now:
                    self._arrive(number, arrival)
            self._advance()
            self.now += 1
            for job_id in self.engine.step():
                self.scheduler.ended(job_id, transcript())
                self.done_at[self.numbers[job_id]] = self.now
            assert self.now <= last + self.steps(range(len(self.arrivals))) + 1, "an engine that idles, or work lost"

    def steps(self, numbers) -> int:
        return sum(self.arrivals[number].steps for number in numbers)

    def before(self, number: int) -> list[int]:
        """The others of its mode that the engine had when this one was ready, or got before it."""
        mode = self.arrivals[number].mode
        until = self.taken[: self.taken.index(number)]
        began = self.ready_at[number]
        return [one for one in until if self.arrivals[one].mode == mode and self.done_at[one] > began]

    def overtook(self, number: int) -> list[int]:
        """The others of its mode that were taken between its readiness and its turn."""
        mode = self.arrivals[number].mode
        passed = self.taken[self.ready[number] : self.taken.index(number)]
        return [one for one in passed if self.arrivals[one].mode == mode]

    def _arrive(self, number: int, arrival: Arrival) -> None:
        options = Options(0, None, "", arrival.mode)
        if arrival.lane is None:
            transcription = self.scheduler.add_file(FileRequest(None, Transcribe(audio="a.wav")), "a.wav", options)
        else:
            origin = utterance(f"{arrival.lane}1").utterance
            transcription = self.scheduler.add_samples(origin, np.zeros(8, np.float32), options)
            self._is_ready(number)
        self.numbers[transcription.id] = number
        self.scheduler.request_decode(transcription, options)

    def _is_ready(self, number: int) -> None:
        self.ready[number], self.ready_at[number] = len(self.taken), self.now

    def _advance(self) -> None:
        self.scheduler.advance()
        while self.scheduler.effects:
            effects, self.scheduler.effects[:] = [*self.scheduler.effects], []
            for finalize in [effect for effect in effects if isinstance(effect, Finalize)]:
                self._take(finalize.job(NO_SAMPLES))
            for read in [effect for effect in effects if isinstance(effect, ReadAudio)]:
                self._is_ready(self.numbers[read.job_id])
                self.scheduler.audio_read(AudioRead(read.job_id, np.zeros(8, np.float32), (), 0.0))
            self.scheduler.advance()

    def _take(self, job: Job) -> None:
        mode = job.decoder_mode
        self._live_in_a_row[mode] = self._live_in_a_row[mode] + 1 if job.interactive and self._file_may_go(mode) else 0
        self.most_live_in_a_row[mode] = max(self.most_live_in_a_row[mode], self._live_in_a_row[mode])
        number = self.numbers[job.id]
        self.taken.append(number)
        self.engine.submit(job, self.arrivals[number].steps)

    def _file_may_go(self, mode: DecoderMode) -> bool:
        files = [one for one, arrival in enumerate(self.arrivals) if arrival.lane is None and arrival.mode == mode]
        under_way = [one for one in files if one in self.taken and one not in self.done_at]
        return len(under_way) < MAX_FILES[mode] and any(one in self.ready and one not in self.taken for one in files)


@st.composite
def days(draw: st.DrawFn) -> Day:
    modes = {lane: draw(st.sampled_from(MODES)) for lane in "abc"}
    arrivals, now = [], 0
    for gap, lane, mode, steps in draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.sampled_from("abc.."), st.sampled_from(MODES), st.integers(1, 12)),
            min_size=1,
            max_size=60,
        )
    ):
        now += gap if draw(st.booleans()) else 0
        arrivals.append(Arrival(now, None if lane == "." else lane, modes.get(lane, mode), steps))
    return Day(arrivals)


@settings(deadline=None, max_examples=150)
@given(days())
def test_nobody_waits_longer_than_the_rule_says(day: Day) -> None:
    day.run()
    for number, arrival in enumerate(day.arrivals):
        if arrival.lane is None:
            check_file(day, number)
        else:
            check_utterance(day, number, arrival.lane)
    assert all(most <= INTERACTIVE_IN_A_ROW for most in day.most_live_in_a_row.values())


def check_utterance(day: Day, number: int, lane: str) -> None:
    overtook = [day.arrivals[one].lane for one in day.overtook(number)]
    own, files = overtook.count(lane), overtook.count(None)
    others = len(overtook) - own - files
    streams = len({one.lane for one in day.arrivals} - {None})
    assert others <= (own + 1) * (streams - 1)
    assert files <= (own + others) // INTERACTIVE_IN_A_ROW + 1
    live = [one for one in [*day.before(number), number] if day.arrivals[one].lane is not None]
    waited = day.done_at[number] - day.ready_at[number]
    in_its_mode = -(-day.steps(live) * (INTERACTIVE_IN_A_ROW + 1) // INTERACTIVE_IN_A_ROW) + 1
    assert waited <= 2 * in_its_mode, "it waited for files, or for what came later"


def check_file(day: Day, number: int) -> None:
    before = [*day.before(number), number]
    files = [one for one in before if day.arrivals[one].lane is None]
    live = [one for one in before if day.arrivals[one].lane is not None]
    waited = day.done_at[number] - day.ready_at[number]
    assert waited <= 2 * (day.steps(live) + (INTERACTIVE_IN_A_ROW + 1) * day.steps(files)) + 2


@settings(deadline=None, max_examples=50)
@given(days())
def test_the_utterances_of_a_stream_are_taken_in_their_order(day: Day) -> None:
    day.run()
    for lane in "abc":
        numbers = [number for number in day.taken if day.arrivals[number].lane == lane]
        assert numbers == sorted(numbers)


def test_files_go_on_under_speech_without_end() -> None:
    for mode in MODES:
        speech = [Arrival(at, "abc"[at % 3], mode, 4) for at in range(400)]
        day = Day([Arrival(5, None, mode, 10), Arrival(6, None, mode, 10), *speech])
        day.run()
        assert all(day.done_at[number] < 400 for number in (0, 1)), mode


def test_an_utterance_does_not_wait_for_a_file_of_any_length() -> None:
    for mode in MODES:
        day = Day([*(Arrival(0, None, mode, 1000) for _ in range(20)), Arrival(50, "a", mode, 8)])
        day.run()
        assert day.done_at[20] <= 50 + 8 + 2
