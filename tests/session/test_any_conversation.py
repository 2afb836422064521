"""Anything a client may send, anything the engine and the files may do, at any time and in any order: the monitor finds
no broken promise, every text belongs to its audio, and in the end everything is answered and delivered."""

import json
from collections import Counter
from itertools import count

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from support.conversation import Conversation, pcm
from support.conversation_rules import ConversationRules
from support.engine_requests import SentJob
from support.fake_engine import transcript_of

from qwen3_asr_mlx_runtime.engines.api import Job
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import Cancelled, DecodeFailed, EngineStalled, NonFiniteOutput, OutOfMemory
from qwen3_asr_mlx_runtime.session.engine_slots import MAX_JOBS
from qwen3_asr_mlx_runtime.session.file_prefetch import READ_AHEAD
from qwen3_asr_mlx_runtime.session.model_state import DELAYS as RESTART_DELAYS
from qwen3_asr_mlx_runtime.session.transcription import JobKind
from qwen3_asr_mlx_runtime.settings import Settings

STREAMS = st.sampled_from(["a", "b", "default"])
RATES = st.sampled_from([None, None, 16_000, 8_000, 44_100, 100])
NAMES = st.sampled_from([None, None, "u", "v", "a-1"])
PARTIALS = st.fixed_dictionaries(
    {},
    optional={
        "partials": st.just(True),
        "partial_interval_ms": st.sampled_from([100, 200]),
        "final_policy": st.sampled_from(["guarded", "strict", "fast"]),
        "effort": st.sampled_from(["low", "normal"]),
    },
)
TIMEOUTS = st.sampled_from([None, 100])
DELAYS = st.sampled_from([0, 50, 60_000])
BUDGETS = st.sampled_from([None, None, None, 0, 7])
LANGUAGES = st.sampled_from([None, None, "en", "ar"])
HOW = st.fixed_dictionaries(
    {},
    optional={
        "decoder_mode": st.sampled_from(["sequential", "batched"]),
        "drift_guard": st.booleans(),
        "logprobs": st.booleans(),
        "words": st.booleans(),
        "segments": st.booleans(),
        "languages": st.sampled_from([["en"], ["ar", "en"], ["zh", "Chinese", "yue"]]),
        "terms": st.sampled_from([[], [{"text": "Ada"}], [{"text": "Ada", "weight": 1}, {"text": "Menabrea"}]]),
    },
)
LIMITS = Settings(max_streams=2, max_pending_audio_seconds=1.0, max_utterance_seconds=0.25, max_pending_requests=5)
MAY_FAIL_WITH = {
    "engine_crashed",
    "cancelled",
    "timeout",
    "non_finite_output",
    "shutting_down",
    "model_not_found",
    "engine_stalled",
}


def transcribed(job: Job) -> Transcript:
    return transcript_of(job, f"{len(job.utterance.samples)} samples", redecoded=int(job.decoder_mode == "batched"))


class AnyConversation(ConversationRules):
    def __init__(self) -> None:
        super().__init__(Conversation(LIMITS))
        self.lengths = count(1)  # every piece of audio has a length of its own
        self.ids = count(1)
        self.seq = dict.fromkeys(["a", "b", "default"], 0)
        self.splitting: set[str] = set()
        self.long: set[str] = set()  # files of several segments

    @initialize(
        want=st.sampled_from([None, [], ["events"], ["progress"], ["events", "progress"]]), is_loaded=st.booleans()
    )
    def begin(self, want: list[str] | None, is_loaded: bool) -> None:
        if want is not None:
            self.talk.send("hello", want=want)
        if is_loaded:
            self.talk.send("start")
            self.answer_load(True)

    @precondition(lambda self: not self.talk.session.is_draining)
    @rule(want=st.sampled_from([[], ["events"], ["progress"]]))
    def hello_again(self, want: list[str]) -> None:
        self.talk.send("hello", want=want)

    def ask(self, type: str, with_id: bool, **members: object) -> None:
        given = {name: value for name, value in members.items() if value is not None}
        if with_id:
            given["id"] = next(self.ids)
        self.talk.send(type, **given)

    @rule(
        stream=STREAMS,
        size=st.integers(1, 3),
        delay=DELAYS,
        auto=st.booleans(),
        restart=st.booleans(),
        split=st.booleans(),
        sample_rate=RATES,
        language=LANGUAGES,
        how=HOW,
        partials=PARTIALS,
        with_id=st.booleans(),
    )
    def start_stream(
        self, stream: str, size: int, delay: int, auto: bool, split: bool, how: dict, partials: dict, **members: object
    ) -> None:
        self.splitting |= {stream} if split else set()
        self.ask(
            "start_stream",
            stream_id=stream,
            batch_size=size,
            max_batch_delay_ms=delay,
            auto_flush=auto,
            on_limit="split" if split else "refuse",
            **how,
            **partials,
            **members,
        )

    @rule(stream=STREAMS, auto=st.booleans(), size=st.integers(1, 3), delay=DELAYS, rate=RATES, with_id=st.booleans())
    def change_stream(self, stream: str, auto: bool, size: int, delay: int, rate: int | None, with_id: bool) -> None:
        members = {"batch_size": size, "max_batch_delay_ms": delay, "sample_rate": rate, "partials": size > 1}
        self.ask("start_stream", with_id, stream_id=stream, restart=True, auto_flush=auto, **members)

    @rule(stream=STREAMS, step=st.sampled_from([None, 1, 1, 1, 0, -1, 2]), with_id=st.booleans())
    def chunk(self, stream: str, step: int | None, with_id: bool) -> None:
        seq = None
        if step is not None:
            seq = max(0, self.seq[stream] + step)
            self.seq[stream] = max(seq, self.seq[stream])
        self.ask("audio_chunk", with_id, stream_id=stream, pcm16=pcm(next(self.lengths)), seq=seq)

    @rule(stream=STREAMS, chunks=st.integers(1, 3), name=st.sampled_from([None, "u", "v"]), with_id=st.booleans())
    def send_chunks(self, stream: str, chunks: int, name: str | None, with_id: bool) -> None:
        for _ in range(chunks):
            self.ask("audio_chunk", with_id, stream_id=stream, pcm16=pcm(next(self.lengths)))
        self.ask("vad_boundary", with_id, stream_id=stream, utterance_id=name)

    @rule(stream=STREAMS, seconds=st.sampled_from([0.1, 0.1, 0.2, 31.0]), name=NAMES, with_id=st.booleans())
    def long_chunk(self, stream: str, seconds: float, name: str | None, with_id: bool) -> None:
        """A stream with partials. An utterance split off without a reply has a name that only a split can have."""
        name = None if stream in self.splitting else name
        length = int(seconds * 16_000) + next(self.lengths)
        self.ask("audio_chunk", with_id, stream_id=stream, pcm16=pcm(length), utterance_id=name)

    @rule(stream=STREAMS, text=st.sampled_from(["!!", "AAA=", "", 7]), with_id=st.booleans())
    def bad_chunk(self, stream: str, text: object, with_id: bool) -> None:
        self.ask("audio_chunk", with_id, stream_id=stream, pcm16=text)

    @rule(
        stream=STREAMS,
        source=st.sampled_from(["buffer", "buffer", "pcm16", "audio"]),
        name=st.sampled_from([None, "u", "v"]),
        rate=RATES,
        budget=BUDGETS,
        timeout=st.sampled_from([None, None, 100]),
        how=HOW,
        with_id=st.booleans(),
    )
    def boundary(
        self,
        stream: str,
        source: str,
        name: str | None,
        rate: int | None,
        budget: int | None,
        timeout: int | None,
        how: dict,
        with_id: bool,
    ) -> None:
        length = next(self.lengths)
        audio = {"pcm16": {"pcm16": pcm(length)}, "audio": {"audio": f"{length}.wav"}}.get(source, {})
        self.ask(
            "end_utterance",
            with_id,
            stream_id=stream,
            utterance_id=name,
            sample_rate=rate,
            max_new_tokens=budget,
            timeout_ms=timeout,
            **how,
            **audio,
        )

    @rule(stream=STREAMS, frames=st.sampled_from([None, None, 1, 3, 10**6]), with_id=st.booleans())
    def pause(self, stream: str, frames: int | None, with_id: bool) -> None:
        self.ask("pause", with_id, stream_id=stream, samples=frames)

    @rule(
        stream=STREAMS,
        frames=st.sampled_from([None, 1, 3, 10**6]),
        rest=st.sampled_from([None, "keep", "drop"]),
        with_id=st.booleans(),
    )
    def end_at(self, stream: str, frames: int | None, rest: str | None, with_id: bool) -> None:
        self.ask("end_utterance", with_id, stream_id=stream, samples=frames, rest=rest)

    @rule(
        stream=st.none() | STREAMS, budget=BUDGETS, timeout=st.sampled_from([None, 100]), how=HOW, with_id=st.booleans()
    )
    def flush(self, stream: str | None, budget: int | None, timeout: int | None, how: dict, with_id: bool) -> None:
        self.ask("flush", with_id, stream_id=stream, max_new_tokens=budget, timeout_ms=timeout, **how)

    @rule(stream=STREAMS, mode=st.sampled_from(["drain", "discard"]), with_id=st.booleans())
    def stop_stream(self, stream: str, mode: str, with_id: bool) -> None:
        self.ask("stop_stream", with_id, stream_id=stream, mode=mode)

    @rule(progress=st.sampled_from([None, True, True, False]), timeout=TIMEOUTS, how=HOW, with_id=st.booleans())
    def transcribe_long(self, progress: bool | None, timeout: int | None, how: dict, with_id: bool) -> None:
        path = f"{next(self.lengths)}.wav"
        self.long.add(path)
        self.ask("transcribe", with_id, audio=path, progress=progress, timeout_ms=timeout, **how)

    @rule(files=st.integers(0, 3), timeout=st.sampled_from([None, 100]), how=HOW, with_id=st.booleans())
    def transcribe(self, files: int, timeout: int | None, how: dict, with_id: bool) -> None:
        paths = [f"{next(self.lengths)}.wav" for _ in range(max(1, files))]
        if files:
            self.ask("batch_transcribe", with_id, audio=paths, timeout_ms=timeout, **how)
        else:
            self.ask("transcribe", with_id, audio=paths[0], timeout_ms=timeout, **how)

    @rule(text=st.sampled_from(["one two", ""]), timeout=st.sampled_from([None, 100]), with_id=st.booleans())
    def align(self, text: str, timeout: int | None, with_id: bool) -> None:
        path = f"{1000 + next(self.lengths)}.wav"  # long enough for two words
        self.ask("align", with_id, audio=path, text=text, language="en", timeout_ms=timeout)

    @rule(kind=st.sampled_from(["start", "ping", "status", "capabilities", "nonsense"]), with_id=st.booleans())
    def simple(self, kind: str, with_id: bool) -> None:
        self.ask(kind, with_id)

    @rule(
        mode=st.sampled_from([None, "drain", "abort"]),
        timeout=st.sampled_from([None, None, 100]),
        with_id=st.booleans(),
    )
    def unload(self, mode: str | None, timeout: int | None, with_id: bool) -> None:
        self.ask("unload", with_id, mode=mode, timeout_ms=timeout)

    @rule(seconds=st.sampled_from([-1, 0, 0.05, 60]), words=st.booleans(), with_id=st.booleans())
    def keep_alive(self, seconds: float, words: bool, with_id: bool) -> None:
        self.ask("start", with_id, keep_alive_seconds=seconds, words=words)

    @rule(back=st.integers(0, 6), with_id=st.booleans())
    def cancel_a_request(self, back: int, with_id: bool) -> None:
        """The same id again is rejected as `duplicate_id`, and leaves the first alone."""
        latest = next(self.ids)
        self.ask("cancel", with_id, target=max(1, latest - back))

    @rule(stream=STREAMS, name=st.sampled_from(["u", "v", "a-1", "default-1"]), with_id=st.booleans())
    def cancel_an_utterance(self, stream: str, name: str, with_id: bool) -> None:
        self.ask("cancel", with_id, stream_id=stream, utterance_id=name)

    @precondition(lambda self: self.talk.reads)
    @rule(works=st.booleans(), data=st.data())
    def answer_read(self, works: bool, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.talk.reads.values())))
        if works:
            goes_on = path in self.long and data.draw(st.booleans())
            announced = data.draw(st.sampled_from([None, 0.0, 0.001, 1.0])) if goes_on else None
            samples = np.zeros(int(path.removesuffix(".wav")), np.float32)
            self.talk.read(path, samples=samples, is_last=not goes_on, announced_seconds=announced)
        else:
            self.talk.fail_read(path)

    @precondition(lambda self: self.talk.jobs)
    @rule(outcome=st.sampled_from(["text", "text", "error"]), data=st.data())
    def answer_job(self, outcome: str, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.talk.jobs)))
        if job_id in self.talk.cancelled and data.draw(st.booleans()):
            self.talk.decode(Cancelled("cancelled while it was decoded"), job_id=job_id)
        elif outcome == "error":
            self.talk.decode(NonFiniteOutput("NaN"), job_id=job_id)
        else:
            self.talk.decode(transcribed(self.talk.jobs[job_id]), job_id=job_id)

    @precondition(lambda self: self.talk.aligns)
    @rule(works=st.booleans(), data=st.data())
    def answer_align(self, works: bool, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.talk.aligns)))
        self.talk.align(None if works else OutOfMemory("planted"), job_id=job_id)

    @precondition(lambda self: self.talk.partials)
    @rule(text=st.sampled_from([None, "a b", "a b c", "x b c", "a b c d", "", DecodeFailed("planted")]), data=st.data())
    def answer_listen(self, text: object, data: st.DataObject) -> None:
        """Also one whose utterance has ended: as cancelled, or with a text that came too late."""
        partial_id = data.draw(st.sampled_from(sorted(self.talk.partials)))
        is_over = self.talk.partials[partial_id].audio_id in self.talk.audio.ended
        if is_over and data.draw(st.booleans()):
            text = Cancelled("its utterance has ended")
        lines = self.talk.end_partial(text, job_id=partial_id)
        assert not is_over or not [line for line in lines if "queue_seconds" in line]

    @rule(seconds=st.sampled_from([0.01, 0.06, 0.2, 31.0]))
    def wait(self, seconds: float) -> None:
        self.talk.wait(seconds)

    @rule(seconds=st.sampled_from([0.06, 61.0]))
    def sleep(self, seconds: float) -> None:
        """Nobody looks at the timers in time."""
        self.talk.now += seconds
        self.talk.session.tick()
        self.talk.perform()

    @rule()
    def stop_or_go_on_reading(self) -> None:
        self.talk.reads_lines = not self.talk.reads_lines
        self.talk.perform()

    @rule()
    def stop_or_go_on_writing(self) -> None:
        self.talk.has_written = not self.talk.has_written
        self.talk.perform()

    @precondition(lambda self: not self.talk.session.is_draining)
    @rule(how=st.sampled_from(["stop", "abort", "end_of_input", "engine lost"]), deadline=st.sampled_from([None, 100]))
    def end(self, how: str, deadline: int | None) -> None:
        if how == "engine lost":
            self.talk.monitor.signalled()
            self.talk.session.engine_lost(EngineStalled("it has not moved"))
            self.talk.perform()
        elif how == "end_of_input":
            self.talk.end_of_input()
        else:
            self.ask("stop", with_id=False, mode="abort" if how == "abort" else "drain", deadline_ms=deadline)

    def kind(self, job: SentJob) -> JobKind:
        return "provisional" if job.id in self.talk.provisionals else job.decoder_mode

    @invariant()
    def what_is_under_way_is_bounded(self) -> None:
        assert len(self.talk.reads) <= READ_AHEAD + 4  # four more hang
        kinds = Counter(self.kind(job) for job in self.talk.jobs.values())
        assert all(number <= MAX_JOBS[kind] for kind, number in kinds.items())
        assert len(self.talk.aligns) <= MAX_JOBS["align"]
        state = self.talk.session._state
        is_busy = bool(self.talk.jobs or self.talk.partials or self.talk.aligns)
        if not self.talk.is_unloading:  # of what ends in an unload the session hears with its end
            assert (state.scheduler.slots.busy_since is None) == (not is_busy)
        assert len(state.replies._partials) <= len(state.streams.registry)

    @invariant()
    def every_text_stands_with_its_audio(self) -> None:
        for reply in self.talk.monitor.replies:
            for item in reply.get("items", ()):
                assert ("final_policy" in item) == ("verified_tokens" in item)
                if "error" in item:
                    assert item["error"]["code"] in MAY_FAIL_WITH | {"audio_not_found", "audio_read_timeout"}
                elif "samples" in item:
                    assert item["text"] == f"{item['samples']} samples"
                else:
                    assert item["text"] == item["audio"].replace(".wav", " samples")

    def teardown(self) -> None:
        """Whatever came before: when the work is done, everything is answered, and nothing is kept."""
        talk = self.talk
        talk.reads_lines = talk.has_written = True
        talk.perform()
        if not talk.session.is_draining:
            talk.end_of_input()
        while talk.session.pending:
            if talk.is_unloading:
                self.unloaded()
            elif talk.loads > self.loads_answered:
                self.answer_load(True)
            elif talk.reads:
                path = next(iter(talk.reads.values()))
                talk.read(path, samples=np.zeros(int(path.removesuffix(".wav")), np.float32))
            elif talk.jobs:
                talk.decode(transcribed(talk.jobs[min(talk.jobs)]))
            elif talk.aligns:
                talk.align()
            elif talk.session._state.model.load_at is not None:
                talk.wait(RESTART_DELAYS[-1])
            else:
                raise AssertionError(f"{talk.session.pending} wait, and nothing is left to do")
        while talk.jobs:  # the final of a pause that nobody waits for any more
            talk.decode(Cancelled("its utterance has ended"))
        talk.finish()
        self.every_text_stands_with_its_audio()
        talk.monitor.finish()
        state = talk.session._state
        assert state.budget.samples == state.streams.registry.buffered_samples
        assert state.replies.unanswered == 0
        assert talk.audio.open == {}  # each had its job, or was forgotten
        assert (state.scheduler.aligning, state.scheduler.ready) == (0, 0)
        assert json.dumps(talk.monitor.replies)


TestAnyConversation = AnyConversation.TestCase
