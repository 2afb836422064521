"""Every transcription without a result: fair queue, engine slots, time-outs, cancellation.

It returns what happened: effects gather in `effects`, transcriptions that got their result come out of `take_finished`.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from qwen3_asr_mlx_runtime.engines.api import Aligned, Append, Cancel, Failed, Forget, Partial, PartialDone, Promote
from qwen3_asr_mlx_runtime.engines.fair_queue import FairQueue
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import (
    AudioReadTimeout,
    AudioTooLong,
    BridgeError,
    Cancelled,
    EngineCrashed,
    ModelError,
    OutOfMemory,
    TimedOut,
)
from qwen3_asr_mlx_runtime.limits import MAX_ALIGN_SECONDS, ProcessLimits
from qwen3_asr_mlx_runtime.session.effects import (
    AudioFailed,
    AudioRead,
    Effect,
    ReadAudio,
    ReadMore,
    StopReading,
)
from qwen3_asr_mlx_runtime.session.engine_slots import EngineSlots, Pace
from qwen3_asr_mlx_runtime.session.file_prefetch import READ_SECONDS, FilePrefetch
from qwen3_asr_mlx_runtime.session.reply_queue import CancelState
from qwen3_asr_mlx_runtime.session.transcription import (
    Alignment,
    AppendedAudio,
    FileRequest,
    Job,
    KnownText,
    Options,
    Result,
    Segment,
    State,
    StreamUtterance,
    Transcription,
)

MAX_ENDS_ALONE = 2
MAX_ENDS_OF_WORDS = 2
WORDS_PAUSE_SECONDS = 60.0  # without words, after the engine ended twice while it aligned
MAX_WORDS_SECONDS = 1920.0  # of audio that is kept only for its words
CANCELLED = "cancelled before its transcript was written"
WORDS_CANCELLED = "cancelled before its words had times"
ENDED_A_MOMENT_AGO = "the engine ended a moment ago while it aligned"
NO_WORDS = Aligned(0, [], "", 0.0)


class Scheduler:
    """Owns a transcription from its acceptance to its result, which it gets exactly once, in `_finish`, and on to its
    words."""

    def __init__(
        self, clock: Callable[[], float], partial_share: float = ProcessLimits.gpu_share, engines: int = 1
    ) -> None:
        """`partial_share`: of the engine's time, at most. `engines`: how many decode beside each other."""
        self.effects: list[Effect] = []
        self.model_loaded = False
        self.partial_waits = False  # until nothing is under way
        self.transcripts = 0
        self.audio_seconds = 0.0  # of these
        self.slots = EngineSlots(clock, partial_share, engines)
        self.files = FilePrefetch(clock, engines)
        self._clock = clock
        self._job_ids = count(1)
        self._audio_ids = count(1)
        self._open: dict[int, Transcription] = {}
        self._aligning: dict[int, Transcription] = {}  # they have their text
        self._jobs: dict[int, Job] = {}  # of all these
        self._ready: FairQueue[Job] = FairQueue(_lane, _kind)
        self._words: FairQueue[Job] = FairQueue(_lane)  # behind what waits for a text
        self._no_words_until = float("-inf")
        self._provisional: FairQueue[Job] = FairQueue(_lane)  # behind these
        self._queues = (self._ready, self._words, self._provisional)
        self._held: list[Job] = []  # behind a barrier
        self._barriers = self._lifted = 0  # an unload is one, from its request to its end
        self._suspects: deque[Job] = deque()  # they were running when the engine ended: each runs again, alone
        self._own_audio: dict[int, AppendedAudio | None] = {}  # of provisional jobs: the engine has it for nothing else
        self._expiring: list[tuple[float, int]] = []
        self._finished: list[Transcription] = []
        self._aligned: list[Transcription] = []
        self._advanced: list[Transcription] = []

    @property
    def aligning(self) -> int:
        """Transcriptions that have their text, and not their words."""
        return sum(not each.is_provisional for each in self._aligning.values())

    @property
    def ready(self) -> int:
        """Jobs that wait for the engine."""
        return sum(map(len, self._queues)) + len(self._suspects) + len(self._held)

    @property
    def needs_model(self) -> bool:
        """Whether something is to be decoded that waits for no unload."""
        return self.must_decode_before(self._lifted + 1)

    @property
    def is_idle(self) -> bool:
        return not self._open and not self._aligning and self.slots.is_empty

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        times = (self.files.deadline, self._expiring[0][0] if self._expiring else None)
        return min((when for when in times if when is not None), default=None)

    def add_file(
        self, origin: FileRequest | StreamUtterance, path: str, options: Options, known: KnownText | None = None
    ) -> Transcription:
        """Accept a file. It is read ahead."""
        transcription = Transcription(next(self._job_ids), origin, options, path, known, state=State.READING)
        self._open[transcription.id] = transcription
        self.files.add(transcription)
        return transcription

    def add_samples(
        self,
        origin: StreamUtterance,
        samples: Samples,
        options: Options,
        in_engine: AppendedAudio | None = None,
    ) -> Transcription:
        """Accept audio that is in memory. `in_engine`: what the engine has of it."""
        transcription = Transcription(next(self._job_ids), origin, options, is_read=True)
        self._open[transcription.id] = transcription
        self._add_segment(transcription, samples, in_engine)
        return transcription

    def add_provisional(
        self, origin: StreamUtterance, samples: Samples, options: Options, in_engine: AppendedAudio | None
    ) -> Transcription:
        """Compute the final of an open utterance when nothing else is to be done. `in_engine`: what the engine has of
        it, the same samples as far as both go; None where it has other samples."""
        transcription = Transcription(next(self._job_ids), origin, options, is_read=True, is_provisional=True)
        transcription.decode_requested, transcription.barriers = True, self._barriers
        self._open[transcription.id] = transcription
        segment = self._jobs[transcription.id] = transcription.add_segment(transcription.id, samples, in_engine)
        segment.is_provisional = True
        self._provisional.append(segment)
        return transcription

    def adopt(self, transcription: Transcription, origin: StreamUtterance, in_engine: AppendedAudio | None) -> bool:
        """Its utterance has ended as it was expected. False if it was not begun, or has failed: it is discarded.
        `in_engine`: what the engine has of the utterance."""
        is_ready = isinstance(transcription.result, Transcript)
        if not is_ready and not (transcription.is_unfinished and transcription.segments[0].is_running):
            self.discard(transcription, Cancelled("not begun before the boundary"))
            return False
        [segment] = transcription.segments
        transcription.origin, transcription.is_provisional = origin, False
        origin.provisional = "ready" if is_ready else "running"
        if is_ready:
            origin.finished_at = self._clock()
            self._count(transcription)
            self._finished.append(transcription)
        else:
            self.effects.append(Promote(segment.id))
            if self._own_audio.get(segment.id) is None:
                self._own_audio[segment.id], in_engine = in_engine, None  # until it has its outcome
        self.forget(in_engine)
        return True

    def _add_segment(
        self, transcription: Transcription, samples: Samples, in_engine: AppendedAudio | None = None
    ) -> None:
        job_id = next(self._job_ids) if transcription.segments else transcription.id
        segment = self._jobs[job_id] = transcription.add_segment(job_id, samples, in_engine)
        if transcription.decode_requested:
            self._enqueue(segment)

    def expire_after(self, transcriptions: Iterable[Transcription], timeout_ms: int | None) -> None:
        """Those without a result so long from now fail with `timeout`."""
        if timeout_ms is not None:
            for transcription in transcriptions:
                self._expire(transcription, self._clock() + timeout_ms / 1000)

    def request_decode(self, transcription: Transcription, options: Options) -> None:
        """Decode it when its turn comes. What was decoded with other options that do not serve is decoded again.

        `options` become those of the transcription, also where a transcript of other options serves.
        """
        has_started = transcription.state not in (State.READING, State.QUEUED)
        serves = transcription.options.serve(options) or isinstance(transcription.result, BridgeError)
        transcription.options = options
        if has_started and not serves:
            if transcription.is_cancelled and transcription.is_unfinished:
                self._finish(transcription, Cancelled(CANCELLED))  # also if the engine were to finish it first
            else:
                self._restart(transcription)
        if transcription.is_unfinished and not transcription.decode_requested:
            transcription.decode_requested = True
            transcription.barriers = self._barriers
            for segment in transcription.segments:
                self._enqueue(segment)
        self._request_words(transcription)

    def _request_words(self, transcription: Transcription) -> None:
        """Find the words of a text that is there, or do not. Those that may be found now are tried again."""
        if not transcription.options.words:
            self._fail_words(transcription, Cancelled("its words are not wanted"))
        elif isinstance(transcription.result, Transcript) and transcription.id not in self._aligning:
            transcription.barriers = self._barriers
            for segment in transcription.segments:
                self._align(segment)
            if transcription.words_pending:
                self._aligning[transcription.id] = transcription

    def _enqueue(self, job: Job) -> None:
        """It waits for the engine: a suspect for its turn alone, an alignment until no text waits."""
        if job.transcription.barriers > self._lifted:
            self._held.append(job)
        elif isinstance(job, Alignment):
            self._words.append(job)
        elif job.ends:
            self._suspects.append(job)
        else:
            self._ready.append(job)

    def withdraw(self, transcription: Transcription) -> None:
        """Let it wait until its decoding is requested again, unless it waits for an unload."""
        if transcription.state in (State.READING, State.QUEUED) and transcription.barriers <= self._lifted:
            transcription.decode_requested = False
            for segment in transcription.segments:
                self._dequeue(segment)

    def audio_read(self, audio: AudioRead) -> Transcription | None:
        """The transcription whose file was read to its end, unless it has its result already."""
        self.files.end(audio.job_id)
        transcription = self._open.get(audio.job_id)
        if transcription is None or transcription.is_cancelled:
            if not audio.is_last:
                self.effects.append(StopReading(audio.job_id))
            return None
        transcription.warnings, transcription.is_read = audio.warnings, audio.is_last
        transcription.announced_seconds = audio.announced_seconds
        transcription.read_seconds = round((transcription.read_seconds or 0.0) + audio.seconds, 4)
        if transcription.state is State.READING:
            transcription.state = State.QUEUED
        if transcription.known is not None:
            self._align_known(transcription, transcription.known, audio.samples)
            return None
        self._add_segment(transcription, audio.samples)
        if not audio.is_last:
            self.files.has_more(transcription)
            if len(transcription.segments) == 1:
                self._advanced.append(transcription)
            return None
        return transcription

    def audio_failed(self, failure: AudioFailed) -> None:
        self.files.end(failure.job_id)
        if (transcription := self._open.get(failure.job_id)) is None:
            return
        error = failure.error
        if transcription.known is not None and isinstance(error, AudioTooLong):
            error = AudioTooLong(error.message, limit=error.data["limit_seconds"], **error.data)
        self.fail(transcription, error)

    def ended(self, job_id: int, result: Result) -> None:
        """A job has its outcome."""
        self.slots.free(job_id)
        self.forget(self._own_audio.pop(job_id, None))
        job = self._jobs.pop(job_id, None)
        if job is None:
            return
        job.is_running = False
        match job, result:
            case Segment(), Transcript():
                self._decoded(job, result)
            case Segment(), BridgeError() if job.is_provisional and not job.transcription.is_cancelled:
                self._provisional_failed(job, result)
            case Alignment(), Aligned() | BridgeError():
                self._end_alignment(job, result)
            case _, BridgeError():
                self.fail(job.transcription, result)

    def _provisional_failed(self, segment: Segment, error: BridgeError) -> None:
        """In silence. One whose utterance has ended meanwhile is decoded as any other."""
        transcription = segment.transcription
        segment.is_provisional = False
        if transcription.is_provisional:
            self.discard(transcription, error)
        else:
            transcription.state = State.QUEUED
            self._jobs[segment.id] = segment
            self._enqueue(segment)

    def _decoded(self, segment: Segment, transcript: Transcript) -> None:
        transcription = segment.transcription
        segment.transcript = transcript
        transcription.done_seconds += segment.seconds
        if transcription.options.words:
            self._align(segment)
        self._release_read(segment)
        if (joined := transcription.joined()) is not None:
            self._finish(transcription, joined)
        elif transcription.is_cancelled:
            self._end_cancelled(transcription)
        else:
            self._advanced.append(transcription)

    def _align(self, segment: Segment) -> None:
        """Have words found for each text of a segment that has none yet, or may have some now."""
        for place, text in enumerate(segment.transcript.segments if segment.transcript else ()):
            if place < len(segment.alignments) and not _may_succeed(segment.alignments[place].outcome):
                continue
            samples = None if segment.samples is None else segment.samples[text.start : text.end]
            alignment = Alignment(
                next(self._job_ids), segment.transcription, samples, text=text.text, language=text.language
            )
            segment.alignments[place : place + 1] = [alignment]
            if not text.text:
                alignment.end(NO_WORDS)
            elif segment.transcription.is_cancelled:
                alignment.end(Cancelled(WORDS_CANCELLED))
            elif self._clock() < self._no_words_until:
                alignment.end(EngineCrashed(ENDED_A_MOMENT_AGO))
            else:
                self._jobs[alignment.id] = alignment
                self._enqueue(alignment)
        self._bound_words()

    @property
    def _alignments(self) -> list[Alignment]:
        """Without an outcome, the oldest first."""
        return [job for job in self._jobs.values() if isinstance(job, Alignment)]

    def _bound_words(self) -> None:
        """Audio that waits only for its words is bounded: the oldest lose them, those that run last."""
        waiting = [alignment for alignment in self._alignments if alignment.transcription.known is None]
        seconds = sum(alignment.seconds for alignment in waiting)
        for alignment in sorted(waiting, key=lambda each: each.is_running):
            if seconds <= MAX_WORDS_SECONDS:
                return
            seconds -= alignment.seconds
            self._drop_alignment(alignment)
            self._end_alignment(alignment, OutOfMemory("too much audio waits for its words"))

    def _align_known(self, transcription: Transcription, known: KnownText, samples: Samples) -> None:
        segment = transcription.add_segment(next(self._job_ids), samples)
        alignment = Alignment(transcription.id, transcription, samples, text=known.text, language=known.language)
        segment.alignments.append(alignment)
        if self._clock() < self._no_words_until:
            self._end_alignment(alignment, EngineCrashed(ENDED_A_MOMENT_AGO))
        else:
            self._jobs[alignment.id] = alignment
            self._enqueue(alignment)

    def _end_alignment(self, alignment: Alignment, outcome: Aligned | BridgeError) -> None:
        transcription = alignment.transcription
        alignment.end(outcome)
        for segment in transcription.segments:
            self._release_read(segment)
        if transcription.known is not None:
            self._finish(transcription, outcome)
        elif transcription.id in self._aligning and not transcription.words_pending:
            self._end_words(transcription)

    def _end_words(self, transcription: Transcription) -> None:
        """All its words have their outcome."""
        del self._aligning[transcription.id]
        if not transcription.is_provisional:
            self._aligned.append(transcription)

    def _release_read(self, segment: Segment) -> None:
        """Free the samples of a file's segment once nothing needs them."""
        if segment.transcription.stream_id is None and segment.transcript and not segment.words_pending:
            segment.samples = None

    def _fail_words(self, transcription: Transcription, error: BridgeError) -> None:
        """End what has no words yet with `error`; what the engine still makes of it is dropped."""
        for alignment in transcription.alignments:
            if alignment.outcome is None:
                self._drop_alignment(alignment)
                alignment.end(error)
        for segment in transcription.segments:
            self._release_read(segment)
        if transcription.id in self._aligning:
            self._end_words(transcription)

    def _drop_alignment(self, alignment: Alignment) -> None:
        """It is not wanted any more."""
        if alignment.is_running:
            self.effects.append(Cancel(alignment.id))
        self._dequeue(alignment)
        self._jobs.pop(alignment.id, None)

    def _end_cancelled(self, transcription: Transcription) -> None:
        """Finish it once the engine decodes nothing of it."""
        if not any(each.is_running for each in transcription.segments):
            self._finish(transcription, Cancelled(CANCELLED))

    def append(self, audio: AppendedAudio | None, samples: Samples) -> AppendedAudio:
        """Give the engine more of an utterance: what it has then. `audio`: what it has now."""
        audio = audio or AppendedAudio(next(self._audio_ids), 0)
        if len(samples):
            self.effects.append(Append(audio.id, samples))
        return AppendedAudio(audio.id, audio.samples + len(samples))

    def start_partial(self, audio: AppendedAudio, options: Options, pace: Pace, *, alone: bool) -> int:
        """Have the engine compute a partial of what it has: the id of its outcome. `pace`: of its stream."""
        job_id = next(self._job_ids)
        self.slots.start_partial(job_id, audio.samples / SAMPLE_RATE, pace)
        if alone:
            self.slots.keep_alone()
        self.effects.append(
            Partial(
                job_id,
                audio.id,
                options.language,
                options.context,
                options.max_new_tokens,
                options.languages,
                options.terms,
            )
        )
        return job_id

    def partial_ended(self, outcome: PartialDone | Failed) -> bool:
        """Free the slot of a partial. False where the outcome is that of a job."""
        is_partial = self.slots.has_partial(outcome.job_id)
        if is_partial:
            seconds = outcome.hypothesis.seconds if isinstance(outcome, PartialDone) else outcome.seconds
            self.slots.free_partial(outcome.job_id, seconds)
        return is_partial

    def forget(self, audio: AppendedAudio | None) -> None:
        """No final comes of an utterance, of which the engine may have samples."""
        if audio is not None:
            self.effects.append(Forget(audio.id))

    def cancel(self, transcriptions: Iterable[Transcription]) -> CancelState:
        """End those without a result: at once, or, where the engine has one, at its next step unless that finishes it.
        `cancelling` if one of them is being decoded, or only its words are missing, else `cancelled`."""
        state: CancelState = "already_done"
        for transcription in transcriptions:
            if self._cancel_decoding(transcription):
                self._take_back(transcription)
                self._fail_words(transcription, Cancelled(WORDS_CANCELLED))
                transcription.is_cancelled = True
                state = "cancelling"
            elif transcription.is_unfinished:
                self._finish(transcription, Cancelled("cancelled before it was decoded"))
                state = "cancelled" if state == "already_done" else state
            elif transcription.words_pending:
                self._fail_words(transcription, Cancelled(WORDS_CANCELLED))
                state = "cancelling"
        return state

    def fail(self, transcription: Transcription, error: BridgeError) -> None:
        """End it with `error` now; what the engine still makes of it is dropped."""
        if transcription.is_unfinished:
            self._cancel_decoding(transcription)
            self._finish(transcription, error)

    def discard(self, transcription: Transcription, error: BridgeError) -> None:
        """End it and its words, report neither, and close it."""
        self.fail(transcription, error)
        self._fail_words(transcription, error)
        for reported in (self._finished, self._aligned):
            if transcription in reported:
                reported.remove(transcription)
        transcription.close()

    def fail_all(self, error: BridgeError) -> None:
        for transcription in self._all:
            self._fail_any(transcription, error)

    def fail_requested(self, error: BridgeError) -> None:
        """End all that wait for this load of the model."""
        for transcription in self._all:
            if transcription.decode_requested and transcription.barriers <= self._lifted:
                self._fail_any(transcription, error)

    @property
    def _all(self) -> list[Transcription]:
        return [*self._open.values(), *self._aligning.values()]

    def _find(self, id: int) -> Transcription | None:
        return self._open.get(id) or self._aligning.get(id)

    def _fail_any(self, transcription: Transcription, error: BridgeError) -> None:
        """End it, or only its words if it has its text."""
        if transcription.id in self._aligning:
            self._fail_words(transcription, error)
        else:
            self.fail(transcription, error)

    def add_barrier(self) -> int:
        """What is requested from now on waits until this barrier is lifted: its number."""
        self._barriers += 1
        return self._barriers

    def must_decode_before(self, barrier: int) -> bool:
        """Whether something is to be decoded that was requested before a barrier."""
        return any(each.decode_requested and each.barriers < barrier for each in self._all)

    def lift_barrier(self) -> None:
        """The first barrier is gone."""
        self._lifted += 1
        held, self._held = self._held, []
        for job in held:
            self._enqueue(job)

    def take_finished(self) -> list[Transcription]:
        """Those that got their result since the last call, in order."""
        finished, self._finished = self._finished, []
        return finished

    def take_advanced(self) -> list[Transcription]:
        """Unfinished files of several segments that have their first segment, or the text of another, since the last
        call."""
        advanced, self._advanced = self._advanced, []
        return advanced

    def take_aligned(self) -> list[Transcription]:
        """Those whose words ended after their text since the last call, in order."""
        aligned, self._aligned = self._aligned, []
        return aligned

    def tick(self) -> None:
        """Fail what takes too long."""
        now = self._clock()
        while self._expiring and self._expiring[0][0] <= now:
            _, job_id = heapq.heappop(self._expiring)
            if (transcription := self._find(job_id)) is not None:
                self._fail_any(transcription, TimedOut("not done within `timeout_ms`"))
        for job_id in self.files.take_timed_out():
            self._finish_id(job_id, _read_timeout())

    def advance(self) -> None:
        """Start what may start: reading, and decoding."""
        self._read_ahead()
        while self.model_loaded and (job := self._next_job()) is not None:
            self.slots.start(job)
            if job.ends and not isinstance(job, Alignment):
                self.slots.keep_alone()
            if job.transcription.is_unfinished:
                job.transcription.state = State.DECODING
            self._submit(job)

    @property
    def may_compute_ahead(self) -> bool:
        """Whether a provisional final may be computed, once nothing else is to be done."""
        return self.model_loaded and self._barriers == self._lifted

    @property
    def may_start_partial(self) -> bool:
        """Whether a partial would start at once, and keep no suspect waiting."""
        is_held = self._barriers > self._lifted
        return self.model_loaded and not is_held and not self._suspects and self.slots.may_start_partial

    def engine_ended(self) -> bool:
        """The engine has lost all that it had. What was decoding is decoded again, each alone; what was alone at its
        second end fails. Words are tried once more, behind all texts. Returns whether something was alone."""
        for transcription in [each for each in self._open.values() if each.is_provisional]:
            self.discard(transcription, Cancelled("the engine has ended"))
        running = [self._jobs[job_id] for job_id in self.slots.job_ids if job_id in self._jobs]
        was_alone = len(self.slots) + self.slots.partials == 1
        self.slots.clear()
        self._own_audio.clear()
        for job in self._jobs.values():
            job.in_engine = None
        for job in running:
            self._run_again(job, was_alone=was_alone)
        return was_alone

    def _run_again(self, job: Job, *, was_alone: bool) -> None:
        transcription = job.transcription
        job.is_running = False
        job.ends += 1
        if isinstance(job, Segment):
            job.is_provisional = False
        if isinstance(job, Alignment):
            self._align_again(job)
        elif transcription.is_cancelled:
            self._end_cancelled(transcription)
        elif was_alone and job.ends >= MAX_ENDS_ALONE:
            self.ended(job.id, EngineCrashed("the engine ended twice while it had this audio alone"))
        else:
            is_begun = any(each.transcript is not None or each.is_running for each in transcription.segments)
            if transcription.is_unfinished and not is_begun:
                transcription.state = State.QUEUED
            self._suspects.append(job)

    def _align_again(self, alignment: Alignment) -> None:
        """Once: texts must not wait for an aligner that ends the engine."""
        if alignment.ends < MAX_ENDS_OF_WORDS:
            self._enqueue(alignment)
            return
        self._no_words_until = self._clock() + WORDS_PAUSE_SECONDS
        for each in self._alignments:
            self._drop_alignment(each)
            self._end_alignment(each, EngineCrashed("the engine ended twice while it aligned"))

    def _next_job(self) -> Job | None:
        """The next to run: suspects first, one at a time."""
        if not self._suspects:
            for queue in self._queues:
                if (job := queue.take(self._admits)) is not None:
                    return job
            return None
        return self._suspects.popleft() if self.slots.is_empty else None

    def _admits(self, job: Job) -> bool:
        """A partial that must be alone lets no new file begin before it."""
        is_file = job.transcription.stream_id is None
        return self.slots.admits(job) and not (is_file and self.partial_waits)

    def _dequeue(self, job: Job) -> None:
        """It does not wait for the engine any more."""
        for queue in self._queues:
            queue.remove(job)
        for waiting in (self._suspects, self._held):
            if job in waiting:
                waiting.remove(job)

    def _submit(self, job: Job) -> None:
        """Give the engine what it does not have, and end the utterance there. The engine owns the samples now."""
        if job.samples is None:
            raise ValueError("a job without samples cannot run")
        if isinstance(job, Segment) and job.is_provisional:
            self._submit_provisional(job, job.samples)
            return
        given = job.in_engine.samples if job.in_engine else 0
        audio = self.append(job.in_engine, job.samples[given:])
        job.in_engine, job.is_running = None, True
        self.effects.append(job.request(audio.id))

    def _submit_provisional(self, segment: Segment, samples: Samples) -> None:
        """The utterance goes on in the engine, if it is there; otherwise its audio is for this alone."""
        audio = segment.in_engine or self.append(None, samples)
        self._own_audio[segment.id] = None if segment.in_engine else audio
        segment.in_engine, segment.is_running = None, True
        self.effects.append(segment.provisional(audio))

    def _cancel_decoding(self, transcription: Transcription) -> bool:
        """Have the engine end what it decodes of it, if anything."""
        decoding = [segment for segment in transcription.segments if segment.is_running]
        self.effects += [Cancel(segment.id) for segment in decoding]
        return bool(decoding)

    def _take_back(self, transcription: Transcription) -> None:
        """Decode and read no more of it. The engine keeps nothing of it but what it decodes."""
        for segment in transcription.segments:
            self._dequeue(segment)
            if not segment.is_provisional:  # its audio is that of the open utterance
                self.forget(segment.in_engine)
            segment.in_engine = None
        if transcription.is_partly_read:
            self.effects.append(StopReading(transcription.id))
        self.files.release(transcription.id)

    def _read_ahead(self) -> None:
        while (transcription := self.files.take_more()) is not None:
            self.files.start(transcription)
            self.effects.append(ReadMore(transcription.id))
        while (transcription := self.files.take()) is not None:
            if self.files.is_stuck:
                self._finish(transcription, _read_timeout())
                continue
            self.files.start(transcription)
            is_known = transcription.known is not None
            is_whole = transcription.stream_id is not None or is_known
            longest = MAX_ALIGN_SECONDS if is_known else math.inf
            self.effects.append(
                ReadAudio(transcription.id, transcription.path or "", is_whole, longest, transcription.track)
            )

    def _expire(self, transcription: Transcription, when: float) -> None:
        earlier = transcription.expires
        transcription.expires = when if earlier is None else min(when, earlier)
        heapq.heappush(self._expiring, (when, transcription.id))
        if len(self._expiring) > 64 + 2 * len(self._all):
            self._expiring = [entry for entry in self._expiring if self._find(entry[1]) is not None]
            heapq.heapify(self._expiring)

    def _restart(self, transcription: Transcription) -> None:
        """Decode an utterance again, as another job. A transcript that was in time once cannot time out."""
        self._cancel_decoding(transcription)
        [segment] = transcription.segments
        self._fail_words(transcription, Cancelled("it is decoded again"))
        if transcription in self._aligned:
            self._aligned.remove(transcription)
        if transcription.result is None:
            del self._open[transcription.id], self._jobs[segment.id]
        else:
            transcription.expires = None
            transcription.result = None
            transcription.utterance.finished_at = None
        transcription.id = segment.id = next(self._job_ids)
        transcription.state = State.QUEUED
        transcription.decode_requested = False
        segment.is_running, segment.is_provisional = False, False
        segment.transcript, segment.alignments = None, []
        transcription.is_cancelled = False
        self._open[transcription.id], self._jobs[segment.id] = transcription, segment
        if transcription.expires is not None:
            self._expire(transcription, transcription.expires)

    def _finish_id(self, job_id: int, result: Result) -> None:
        if job_id in self._open:
            self._finish(self._open[job_id], result)

    def _finish(self, transcription: Transcription, result: Result) -> None:
        """The one place where a transcription gets its result. A result that comes too late finds none."""
        del self._open[transcription.id]
        self._take_back(transcription)
        for segment in transcription.segments:
            self._jobs.pop(segment.id, None)
        if not isinstance(result, Transcript):
            self._fail_words(transcription, Cancelled("there is no text"))
        transcription.result = result
        transcription.state = State.DONE
        if transcription.stream_id is not None:
            transcription.utterance.finished_at = self._clock()
        elif not transcription.words_pending:
            transcription.release()
        if transcription.words_pending:
            self._aligning[transcription.id] = transcription
        if not transcription.is_provisional:
            self._count(transcription)
            self._finished.append(transcription)

    def _count(self, transcription: Transcription) -> None:
        if isinstance(transcription.result, Transcript):
            self.transcripts += 1
            self.audio_seconds += transcription.seconds


def _lane(job: Job) -> str | None:
    return job.transcription.stream_id


def _kind(job: Job) -> str:
    return job.kind


def _read_timeout() -> AudioReadTimeout:
    return AudioReadTimeout(f"the file could not be read within {READ_SECONDS:g} seconds", limit_seconds=READ_SECONDS)


def _may_succeed(outcome: Aligned | BridgeError | None) -> bool:
    """Whether the same Align may have another outcome now."""
    is_lasting = isinstance(outcome, Cancelled | TimedOut)
    return (
        isinstance(outcome, BridgeError) and not is_lasting and (outcome.retryable or isinstance(outcome, ModelError))
    )
