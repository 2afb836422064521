"""Watches one conversation and fails at the first line that breaks a promise of the protocol.

I1  every line out is a JSON object in ASCII, of a known type, with the fields of that type
I2  every request gets exactly one reply, and there are no other replies; a chunk that wants none gets none
I3  replies to requests without an `id` come in the order of these; every reply fits its request
I4  every accepted utterance has one outcome, in the order of its stream's boundaries; a batch counts its items
I5  events come only if they are wanted, and are counted without a gap
I6  every sample that was accepted is in a result, or reported as dropped
I7  `stopped` is the last line
I8  the process ends with a code that has a meaning, and leaves no process behind
I9  partial text comes where it was asked for, until the end of its utterance, and its revisions count up
I10 stable text only grows within an utterance, and what it covers does
I11 restarts of the engine in a row are counted; only audio that has seen two ends since it was sent fails with the
    engine, and one alone of each end
I12 words come once, where they were asked for, and cover the text
I13 progress of a file comes only to a request that asked for it and has no reply; `done` never decreases, and is never
    more than `total`
"""

import base64
import contextlib
import json
import math
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Union

import msgspec
import psutil
from support.partial_books import PartialBooks
from support.progress_books import ProgressBooks
from support.restart_books import RestartBooks
from support.word_books import WordBooks

from qwen3_asr_mlx_runtime.languages import allowed_languages
from qwen3_asr_mlx_runtime.protocol import replies, streams, transcripts
from qwen3_asr_mlx_runtime.protocol.decode import Rejected, decode_line

LINES = (
    replies.CapabilitiesReply,
    replies.Pong,
    replies.StatusReply,
    replies.CancelResult,
    replies.Ready,
    replies.Unloaded,
    replies.ErrorReply,
    replies.Fatal,
    transcripts.TranscriptReply,
    transcripts.BatchTranscript,
    transcripts.Aligned,
    transcripts.RealtimeBatchFinal,
    transcripts.Stopped,
    streams.StreamReady,
    streams.PartialResult,
    streams.Paused,
    streams.UtteranceQueued,
    streams.StreamStopped,
    streams.WordsReady,
    streams.Progress,
    streams.EngineRestarting,
    streams.StreamError,
)
REPLY_TYPES = {
    "capabilities": {"capabilities"},
    "hello": {"capabilities"},
    "ping": {"pong"},
    "status": {"status"},
    "cancel": {"cancel_result"},
    "start": {"ready"},
    "unload": {"unloaded"},
    "transcribe": {"transcript"},
    "batch_transcribe": {"batch_transcript"},
    "align": {"aligned"},
    "start_stream": {"stream_ready"},
    "audio_chunk": {"partial_result"},
    "pause": {"paused"},
    "end_utterance": {"utterance_queued", "realtime_batch_final"},
    "vad_boundary": {"utterance_queued", "realtime_batch_final"},
    "flush": {"realtime_batch_final"},
    "stop_stream": {"stream_stopped"},
    "stop": {"stopped"},
}
GRACE_SECONDS = 10.0  # in which the worker of a bridge that was killed ends
EVENT_WANTS = {
    "realtime_batch_final": "events",
    "partial_result": "events",
    "words_ready": "events",
    "stream_error": "events",
    "progress": "progress",
    "engine_restarting": "progress",
}
EXIT_CODES = {0, 1, 2, 4, 5, 130, 143}
ABSENT = object()
_LINE = Union[LINES]  # noqa: UP007 a tuple cannot be joined by bars


@dataclass
class Sent:
    """A line in, as far as it can be read: what its reply must look like."""

    place: int
    type: str | None = None
    id: object = None
    message: dict = field(default_factory=dict)
    is_silent: bool = False
    is_refused: bool = False  # by the parser
    after: "Sent | None" = None  # the last `hello` with `want`
    repeats_seq: bool = False
    restarts: int | None = None  # of the engine, seen before
    wants_progress: bool = False

    @classmethod
    def from_line(cls, place: int, line: bytes) -> "Sent":
        try:
            message = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            return cls(place)
        if not isinstance(message, dict):
            return cls(place, id=ABSENT)
        name = message.get("type")
        return cls(place, name if isinstance(name, str) else None, _identifier(message.get("id")), message)

    @property
    def stream_id(self) -> str:
        """Empty where it cannot be one."""
        name = self.message.get("stream_id")
        if name is None:
            return "default"
        return name if isinstance(name, str) and _is_usable(name) else ""

    @property
    def frames(self) -> int:
        """Samples of its PCM, at whatever rate."""
        text = self.message.get("pcm16")
        try:
            data = base64.b64decode(text or "", validate=True)
        except (ValueError, TypeError):
            return 0
        return len(data) // 2 if base64.b64encode(data).decode() == text else 0


class ProtocolMonitor:
    """Tell it every line in with `sent`, every block of bytes out with `received`, and at the end `finish`."""

    def __init__(self, languages: tuple[str, ...] = ()) -> None:
        """`languages`: those that the process allows."""
        self.replies: list[dict] = []
        self._languages = {languages} - {()}  # all that was allowed, by any request
        self._in_order: deque[Sent] = deque()
        self._with_id: dict[object, list[Sent]] = {}
        self._places = 0
        self._events = 0
        self._wants: set[str] = set()
        self._wanted_once: set[str] = set()
        self._granted: set[str] = set()  # as of the last `hello` that was answered
        self._hello: Sent | None = None
        self._partial = b""
        self._ahead = b""  # of lines that nobody has asked for
        self._ended = False
        self._signalled = False
        self._stop: Sent | None = None  # the one without `id` that `stopped` will answer, after all behind it
        self._is_stopping = False
        self.speech = SpeechBooks()
        self.partials = PartialBooks()
        self.restarts = RestartBooks()
        self.words = WordBooks()
        self.progress = ProgressBooks()

    def sent(self, line: bytes) -> None:
        if not line.strip(b" \t\r\n"):
            return
        self._places += 1
        sent = Sent.from_line(self._places, line.removeprefix(b"\xef\xbb\xbf"))
        request = decode_line(line)
        sent.is_refused = isinstance(request, Rejected)
        sent.wants_progress = not sent.is_refused and getattr(request.command, "progress", None) is True
        sent.is_silent = sent.type == "audio_chunk" and sent.id is ABSENT and "events" in self._wants
        takes_effect = not sent.is_refused and not self._is_stopping
        if not sent.is_refused and sent.message.get("languages"):
            self._languages.add(allowed_languages(sent.message["languages"]))
        if sent.type == "hello" and takes_effect and isinstance(want := sent.message.get("want"), list):
            self._wants = {name for name in want if isinstance(name, str)}
            self._wanted_once |= self._wants
            self._hello = sent
        ends_it = sent.type == "stop" and not sent.is_refused and not self._is_stopping
        if ends_it and (sent.id is ABSENT or _key(sent.id) not in self._with_id):
            self._is_stopping = True
            self._stop = sent if sent.id is ABSENT else None
        sent.after = self._hello
        self.partials.sent(sent)
        self.restarts.sent(sent)
        self.words.sent(sent)
        if sent.type == "audio_chunk":
            self.speech.chunk_sent(sent)
        if sent.type == "start_stream":
            self.speech.start_sent(sent)
        if sent.is_silent:
            return
        if sent is self._stop:
            return
        if _is_usable(sent.id):
            self._with_id.setdefault(_key(sent.id), []).append(sent)
        else:
            self._in_order.append(sent)

    def engine_ended(self) -> None:
        """The engine was ended, which only clients with a model and the want of `progress` see."""
        self.restarts.unseen += 1

    def drains(self) -> None:
        """Nothing new is accepted, which lines in show only where none of them waits for a reader."""
        self._is_stopping = True

    def signalled(self) -> None:
        """A signal was sent: `stopped` may come although unread lines have no reply."""
        self._signalled = True

    def next_reply(self, read: Callable[[], bytes]) -> dict:
        """The next line. What `read` gives of later ones is received when they are asked for."""
        while b"\n" not in self._ahead:
            self._ahead += read()
        line, end, self._ahead = self._ahead.partition(b"\n")
        [reply] = self._take(line + end)
        return reply

    def received(self, data: bytes) -> list[dict]:
        """The lines that are whole now."""
        ahead, self._ahead = self._ahead, b""
        return self._take(ahead + data)

    def _take(self, data: bytes) -> list[dict]:
        *lines, self._partial = (self._partial + data).split(b"\n")
        replies = [self._check(line) for line in lines]
        self.replies += replies
        return replies

    def finish(self) -> None:
        """The output has ended: no half line, no request without its reply, no speech without its outcome."""
        rest = self._partial + self._ahead
        assert rest == b"", f"I1: the output ends within a line: {rest[:80]!r}"
        waiting = [
            *([self._stop] if self._stop else []),
            *self._in_order,
            *(sent for each in self._with_id.values() for sent in each),
        ]
        assert not waiting, f"I2: {len(waiting)} requests without a reply, the first: {waiting[0].type}"
        self.restarts.balance()
        if not self._signalled:
            self.words.balance()
        if not self._signalled:
            self.speech.balance()
        elif self._ended:
            self.speech.perhaps_passed_over += self.speech.silent_samples  # perhaps they were never read
            self.speech.balance()

    @property
    def ended(self) -> bool:
        """Whether the last line was sent."""
        return self._ended

    def exited(self, code: int, group: int | None = None) -> None:
        """The process has ended; `group`: its process group, which must be empty."""
        assert code in EXIT_CODES, f"I8: exit code {code}"
        if group is not None:
            give_up_at = time.monotonic() + GRACE_SECONDS
            while _is_running(group):
                assert time.monotonic() < give_up_at, "I8: a process was left behind"
                time.sleep(0.01)

    def _check(self, line: bytes) -> dict:
        assert line.isascii(), f"I1: not ASCII: {line[:80]!r}"
        reply = json.loads(line, parse_constant=_refuse)
        assert isinstance(reply, dict), f"I1: not an object: {line[:80]!r}"
        _check_fields(reply)
        _check_counts(reply)
        for result in (reply, *reply.get("items", ())):
            if probabilities := result.get("language_probabilities"):
                assert (*probabilities,) in self._languages, "I3: languages that nobody allowed"
        assert not self._ended, f"I7: {reply['type']} after `stopped`"
        self._ended = reply["type"] == "stopped"
        if reply.get("event") is True:
            self._check_event(reply)
        else:
            self._match(reply)
        return reply

    def _check_event(self, event: dict) -> None:
        want = EVENT_WANTS.get(event["type"])
        assert want in self._wanted_once, f"I5: {event['type']} is not wanted"
        self._events += 1
        assert event["n"] == self._events, f"I5: event {event['n']} where {self._events} is due"
        assert "id" not in event, "I5: an event with an id"
        self._record(None, event)
        if event["type"] == "partial_result":
            self.partials.event(event)
        if event["type"] == "engine_restarting":
            self.restarts.event(event)
        if event["type"] == "progress" and event["stage"] == "transcribe":
            self.progress.event(event, self._perhaps_of(event))

    def _perhaps_of(self, event: dict) -> list[Sent]:
        """The requests without a reply that this event may be about."""
        if "request_id" in event:
            return self._with_id.get(_key(event["request_id"]), [])[:1]
        return [sent for sent in self._in_order if sent.id is ABSENT]

    def _match(self, reply: dict) -> None:
        if reply["type"] == "fatal" or (self._ended and (self._signalled or reply["reason"] not in _ASKED_FOR)):
            self._in_order.clear()
            self._with_id.clear()
            self._stop = None
            self._record(None, reply)
            return
        if reply.get("reason") == "end_of_input":
            self._record(None, reply)
            return
        sent = self._request_of(reply)
        if reply["type"] != "error":
            assert reply["type"] in REPLY_TYPES.get(sent.type or "", ()), f"I3: {reply['type']} answers {sent.type}"
        if sent.type == "hello" and isinstance(want := sent.message.get("want"), list):
            self._hello_answered(sent, {*want}, reply)
        if reply["type"] == "cancel_result":
            target = self._with_id.get(_key(_identifier(sent.message.get("target"))), [])
            self.progress.cancel_answered(next(iter(target), None), reply)
        if reply["type"] == "batch_transcript":
            _check_batch(sent, reply)
        if sent.type in ("transcribe", "batch_transcribe"):
            _check_asked_for(sent, reply)
        self._record(sent, reply)
        self.partials.reply(sent, reply)

    def _record(self, sent: Sent | None, line: dict) -> None:
        self.speech.record(sent, line)
        self.restarts.record(sent, line)
        self.words.record(sent, line)

    def _hello_answered(self, hello: Sent, want: set[str], reply: dict) -> None:
        """One that was to drop events may be refused: then the chunks behind it get no reply after all."""
        if reply["type"] != "error":
            self._granted = want
        elif "events" in self._granted:
            for sent in [one for one in self._in_order if one.after is hello and one.type == "audio_chunk"]:
                if sent.id is ABSENT:
                    self._in_order.remove(sent)
                    sent.is_silent = True
                    self.speech.count_silent(sent)
            if self._hello is hello:
                self._wants = self._granted

    def _request_of(self, reply: dict) -> Sent:
        identifier = reply.get("id")
        if identifier is not None:
            open_ones = self._with_id.get(_key(identifier), [])
            assert open_ones, f"I2: {reply['type']} answers no request of its id"
            refused = len(open_ones) > 1 and reply.get("code") == "duplicate_id"
            sent = open_ones.pop(1 if refused else 0)
            if not open_ones:
                del self._with_id[_key(identifier)]
            return sent
        if self._stop is not None and (reply["type"] == "stopped" or not self._in_order):
            sent, self._stop = self._stop, None
            return sent
        assert self._in_order, f"I2: {reply['type']} answers no request"
        sent = self._in_order.popleft()
        assert "id" not in reply or sent.id is not ABSENT or reply["type"] == "error", "I3: an id that was not sent"
        return sent


_ASKED_FOR = {"stop", "abort", "deadline"}


def _identifier(value: object) -> object:
    """The id of a message: null is none, and a whole number may have a decimal point."""
    if value is None:
        return ABSENT
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    return int(value) if is_whole else value


def _is_usable(identifier: object) -> bool:
    """Whether it can be an id; what cannot is answered with null, in order."""
    if isinstance(identifier, str):
        return 1 <= len(identifier) <= 128 and not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", identifier)
    return isinstance(identifier, int) and not isinstance(identifier, bool)


def _key(identifier: object) -> tuple[str, object]:
    return type(identifier).__name__, identifier


@dataclass(frozen=True)
class Accepted:
    """An utterance by its boundary's place among the lines in; `samples` from the buffer, if a reply has them."""

    place: int
    name: str
    samples: int = 0


@dataclass
class SpeechBooks:
    """Utterances and samples: those accepted, and those delivered."""

    accepted: dict[str, list[Accepted]] = field(default_factory=dict)
    delivered: dict[str, list[str]] = field(default_factory=dict)
    discarded: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    samples_in: int = 0
    samples_out: int = 0
    seen: set[tuple[str, str]] = field(default_factory=set)
    perhaps_passed_over: int = 0
    silent_samples: int = 0
    silent: Counter[str] = field(default_factory=Counter)  # chunks without a reply, of each stream
    splitting: set[str] = field(default_factory=set)  # streams whose utterances are split where they grow too long
    closed: Counter[str] = field(
        default_factory=Counter
    )  # how often each stream was closed, which restarts its utterance numbers
    rates: dict[str, dict[int, int]] = field(default_factory=dict)  # that each stream may have, from which line in on

    def start_sent(self, sent: Sent) -> None:
        if sent.message.get("on_limit") == "split":
            self.splitting.add(sent.stream_id)
        self._may_have(sent, sent.message.get("sample_rate"))

    def _may_have(self, sent: Sent, rate: object = None) -> None:
        rate = 16_000 if rate is None else rate
        if isinstance(rate, int) and 8_000 <= rate <= 192_000:
            places = self.rates.setdefault(sent.stream_id, {})
            places[rate] = min(places.get(rate, sent.place), sent.place)

    def _take_in(self, sent: Sent) -> None:
        """A chunk was taken. At another rate than 16 kHz it may be one sample fewer than it would be alone."""
        rates = {rate for rate, place in self.rates.get(sent.stream_id, {}).items() if place < sent.place} or {16_000}
        if sent.is_silent or sent.message.get("id") is not None:
            rates.add(16_000)  # what opens and closes the stream may be answered later than this
        lengths = [math.ceil(sent.frames * (16_000 / rate)) for rate in rates]
        self.samples_in += max(lengths)
        self.perhaps_passed_over += max(lengths) - min(lengths) + (rates != {16_000})

    def chunk_sent(self, sent: Sent) -> None:
        key = sent.stream_id, repr(sent.message.get("seq"))
        sent.repeats_seq = sent.message.get("seq") is not None and key in self.seen
        self.seen.add(key)
        if sent.is_silent:
            self.count_silent(sent)

    def count_silent(self, sent: Sent) -> None:
        """One that gets no reply counts as accepted unless an event rejects it; if it repeats a `seq` of its stream
        it may have been passed over as a duplicate."""
        before = self.samples_in
        self._take_in(sent)
        samples = self.samples_in - before
        self.silent[sent.stream_id] += 1
        self.silent_samples += samples
        if sent.repeats_seq:
            self.perhaps_passed_over += samples

    def record(self, sent: Sent | None, reply: dict) -> None:
        for item in reply.get("items", ()) if reply["type"] in ("realtime_batch_final", "stopped") else ():
            self.delivered.setdefault(item["stream_id"], []).append(item["utterance_id"])
            if item["source"] == "buffer":
                self.samples_out += item["samples"]
        if reply["type"] == "realtime_batch_final":
            failed = sum("error" in item for item in reply["items"])
            assert (reply["count"], reply["failed"]) == (len(reply["items"]), failed), "I4: a batch that is miscounted"
        dropped = reply.get("dropped_samples", reply.get("data", {}).get("dropped_samples", 0))
        if reply["type"] == "stream_error":
            self.samples_in -= dropped
        elif sent is None or sent.type != "audio_chunk":
            self.samples_out += dropped
        if sent is not None:
            self._answered(sent, reply)

    def _answered(self, sent: Sent, reply: dict) -> None:
        match reply["type"]:
            case "partial_result":
                if not reply.get("duplicate"):
                    self._take_in(sent)
                if split := reply.get("split"):
                    self._accept(sent, reply["stream_id"], split["utterance_id"], split["samples"])
            case "utterance_queued":
                buffered = sent.message.get("audio") is None and sent.message.get("pcm16") is None
                samples = reply["samples"] if buffered else 0
                self._accept(sent, reply["stream_id"], reply["utterance_id"], samples)
            case "realtime_batch_final" if sent.type in ("end_utterance", "vad_boundary"):
                mine = [item["utterance_id"] for item in reply["items"] if item["stream_id"] == sent.stream_id]
                assert mine, "I4: a batch without the utterance that filled it"
                assert reply["utterance_id"] in mine, "I4: a batch that names another utterance than its boundary's"
                self._accept(sent, sent.stream_id, reply["utterance_id"])
            case "error" if sent.type == "start_stream":
                self.closed[sent.stream_id] += 1
                self._may_have(sent)
            case "stream_stopped":
                self.closed[sent.stream_id] += 1
                self._may_have(sent)
                for name in reply["cancelled_utterances"]:
                    self.discarded.setdefault(reply["stream_id"], []).append((sent.place, name))

    def _accept(self, sent: Sent, stream_id: str, utterance_id: str, samples: int = 0) -> None:
        self.accepted.setdefault(stream_id, []).append(Accepted(sent.place, utterance_id, samples))

    def balance(self) -> None:
        for stream_id in {*self.accepted, *self.delivered, *self.discarded}:
            accepted = sorted(self.accepted.get(stream_id, ()), key=lambda one: one.place)
            perhaps_split = self._take_discarded(stream_id, accepted)
            expected = [one.name for one in accepted]
            delivered = self.delivered.get(stream_id, [])
            if self._may_split_unannounced(stream_id):
                self._check_split([*(name for name in delivered if name not in expected), *perhaps_split], stream_id)
                delivered = [name for name in delivered if name in expected]
            assert delivered == expected, f"I4: accepted {expected}, delivered {delivered}"
        least = self.samples_in - self.perhaps_passed_over
        counts = f"{self.samples_in} samples in, {self.samples_out} accounted for"
        assert least <= self.samples_out <= self.samples_in, f"I6: {counts}"

    def _take_discarded(self, stream_id: str, accepted: list[Accepted]) -> list[str]:
        """Take out what was discarded: of several of a name those that waited longest before the end of their stream
        were delivered. Returns names that no earlier reply has, if such names are possible."""
        unannounced = []
        for place, name in sorted(self.discarded.get(stream_id, ()), reverse=True):
            mine = [one for one in accepted if one.place < place and one.name == name]
            if mine:
                accepted.remove(mine[-1])
                self.samples_out += mine[-1].samples
                continue
            assert self._may_split_unannounced(stream_id), "I4: an utterance discarded that was not accepted"
            self.perhaps_passed_over = self.samples_in  # no reply gave its length
            unannounced.append(name)
        return unannounced[::-1]

    def _may_split_unannounced(self, stream_id: str) -> bool:
        """Whether a chunk without a reply may have split an utterance: only what came of that has its name then."""
        return stream_id in self.splitting and self.silent[stream_id] > 0

    def _check_split(self, names: list[str], stream_id: str) -> None:
        """Names that no earlier reply has: they can only be generated names, each once, counted upwards
        until the stream is closed, and each the work of a chunk without a reply."""
        given = [re.fullmatch(rf"{re.escape(stream_id)}-([1-9]\d*)", name) for name in names]
        assert all(given), f"I4: {names} were not accepted, and no split gives such names"
        numbers = [int(match[1]) for match in given if match]
        again = sum(after <= before for before, after in pairwise(numbers))
        assert again <= self.closed[stream_id], f"I4: split off out of order, or twice: {names}"
        assert len(numbers) <= self.silent[stream_id], f"I4: {len(numbers)} split off by fewer chunks"


def _check_fields(reply: dict) -> None:
    try:
        msgspec.convert(reply, _LINE)
    except msgspec.ValidationError as error:
        raise AssertionError(f"I1: {reply.get('type')}: {error}") from None


def _check_batch(sent: Sent, reply: dict) -> None:
    assert [item["audio"] for item in reply["items"]] == sent.message["audio"], "I4: other files than requested"
    assert reply["count"] == len(reply["items"]), "I4: count"
    assert reply["failed"] == sum("error" in item for item in reply["items"]), "I4: failed"


def _check_asked_for(sent: Sent, reply: dict) -> None:
    """The mode is that of the request, log-probabilities stand where it wants them, and the language is one that it
    allows."""
    if reply["type"] == "error":
        return
    assert reply["decoder_mode"] == (sent.message.get("decoder_mode") or "sequential"), (
        "I3: another mode than requested"
    )
    for result in reply.get("items", [reply]):
        delivered = "token_logprobs" in result
        assert delivered == (bool(sent.message.get("logprobs")) and result["text"] is not None), "I3: log-probabilities"
        probabilities, allowed = result.get("language_probabilities"), sent.message.get("languages")
        if probabilities is not None and (allowed or sent.message.get("language")):
            assert (*probabilities,) == allowed_languages(allowed or ()), "I3: languages"
        if allowed and result["text"] is not None:
            assert "language_probabilities" in result, "I3: languages"


def _check_counts(reply: dict) -> None:
    """Figures of a batch are the sums of its items; every token has its log-probability, every language one of its
    own."""
    if "items" in reply and "redecoded" in reply:
        assert reply["redecoded"] == sum(item.get("redecoded") or 0 for item in reply["items"]), "I4: redecoded"
    for result in (reply, *reply.get("items", ())):
        assert "context_echo" not in result or result["text"] is not None, "I4: an echo without a text"
        if (segments := result.get("segments")) is not None:
            repaired = [segment.get("repaired", False) for segment in segments]
            assert any(repaired) == result.get("repaired", False), "I4: repaired"
            assert sum(repaired) % 2 == 0, "I4: one part of a repaired segment"
        if probabilities := result.get("language_probabilities"):
            assert sum(probabilities.values()) < 1.01, "I4: probabilities"
            named = {*(result["language"] or "").split(",")} - {""}
            assert named <= probabilities.keys(), "I4: a language that was not allowed"
        if "token_logprobs" in result:
            delivered = len(result["token_logprobs"]), len(result["generated_token_ids"])
            assert delivered == (result["generated_tokens"],) * 2, "I4: a log-probability for each token"
            assert (result["confidence"] is None) == (not result["token_logprobs"]), "I4: confidence"


def _is_running(group: int) -> bool:
    """Whether a process of this group runs. A zombie that its new parent has not reaped does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
    return False


def _refuse(name: str) -> None:
    raise AssertionError(f"I1: {name} is not JSON")
