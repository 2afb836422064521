"""What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
outcome."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from msgspec import UNSET

from qwen3_asr_mlx_runtime.client.errors import ClientError, RequestFailed
from qwen3_asr_mlx_runtime.client.events import UtteranceLost
from qwen3_asr_mlx_runtime.client.kept_stream import KeptStream
from qwen3_asr_mlx_runtime.client.messages import encode
from qwen3_asr_mlx_runtime.client.requests import Requests
from qwen3_asr_mlx_runtime.client.results import (
    Aligned,
    BatchTranscript,
    FinalResult,
    RealtimeBatchFinal,
    Stopped,
    TranscriptReply,
)
from qwen3_asr_mlx_runtime.client.sent import AUDIO, BOUNDARIES, OF_STREAMS, TURNS, Sent, stream_of
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import CancelResult, ErrorReply, Line, Unloaded
from qwen3_asr_mlx_runtime.protocol.streams import StreamError, StreamStopped

_NEVER = ("hello", "pause", "stop")  # a pause is a guess, which its process takes along


@dataclass(slots=True)
class Era:
    """The processes that follow each other without the app. `error`: why no more will."""

    error: ClientError | None = None


class Kept:
    """Messages in the order in which they were sent. Lines of audio take at most `limit` bytes: beyond it the oldest
    utterance is dropped. Safe to use from any thread; the caller adds messages in the order in which it sends them."""

    def __init__(self, limit: int) -> None:
        self.requests = Requests()  # of all processes, whose callers wait
        self.era = Era()
        self._limit = limit
        self._sent: dict[Sent, None] = {}  # in order
        self._by_id: dict[object, Sent] = {}  # those that the process has not answered
        self._streams: dict[str, KeptStream] = {}
        self._keep_alive: float | None = None
        self._bytes = 0
        self._count = 0
        self._waits = False  # for the next process
        self._lock = threading.RLock()

    # What is sent

    def add(self, members: Mapping[str, Any], check: Callable[[bytes], None]) -> bytes:
        """Keep a message, and return its line, which has the name of its utterance. Raises the ClientError by which
        that was lost, and what `check` raises for the line; then nothing is kept."""
        with self._lock:
            sent = self._planned(members)
            line = encode(members if sent is None else self._wire(sent))
            check(line)
            if sent is not None:
                self._add(sent, line)
            return line

    def has(self, members: Mapping[str, Any]) -> bool:
        """Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where."""
        name = stream_of(members)
        if members.get("type") == "start_stream":
            return members.get("on_limit") != "split"
        if members.get("type") in OF_STREAMS and name is not None:
            stream = self._streams.get(name)
            return stream is not None and (stream.names.is_open or members.get("type") not in AUDIO)
        return members.get("type") not in _NEVER

    def abandon(self, id: Id) -> None:
        """No caller waits for this reply any more. An utterance still has its outcome."""
        with self._lock:
            sent = self._by_id.get(id)
            if sent is not None:
                sent.is_answered = True
                self._abandon(sent)
            if sent is not None and self._waits:
                self.requests.forget(id)

    # What is received

    def received(self, message: Line) -> list[UtteranceLost]:
        """Forget what has its outcome with this message, and mark results of what was sent again. Returns utterances
        that a later process refused."""
        with self._lock:
            for item in message.items if isinstance(message, RealtimeBatchFinal | Stopped) else ():
                self._take_outcome(item)
            if isinstance(message, StreamError) and message.seq is not None:
                stream = self._stream(message.stream_id)
                chunk = None if stream is None else stream.refuse_chunk(message.seq)
                self._remove([] if chunk is None else [chunk])
            sent = self._by_id.pop(getattr(message, "id", None), None)
            return [] if sent is None else self._take_reply(sent, message)

    def lost(self, error: ClientError) -> list[UtteranceLost]:
        """The process is gone, and the next one gets the rest. Returns the utterances whose audio was not kept, except
        those whose boundary has no reply: its caller gets the error."""
        with self._lock:
            self._waits = True
            for sent in [each for each in self._sent if not each.is_kept]:
                self._refuse(sent)
            for stream in self._streams.values():
                stream.lose_open(error)
            dropped = [each for each in self._sent if each.is_dropped]
            for each in dropped:
                self._forget(each)
            for each in self._sent:
                each.is_resent = True
            return [_lost(each, error) for each in dropped if each.is_answered]

    # What is kept

    def lines(self) -> list[bytes]:
        """For the next process, which starts now. It may know other ids and `seq` than the last one: the app may have
        used the id of an answered message again."""
        with self._lock:
            self._waits = False
            self._by_id = {}
            for stream in self._streams.values():
                stream.restart_numbers()
            lines = []
            for sent in self._sent:
                if sent.id is not None:
                    sent.id = self.requests.name() if sent.is_answered else sent.id
                    self._by_id[sent.id] = sent
                if sent.seq is not None:
                    self._streams[str(sent.stream_id)].number(sent)
                lines.append(encode(self._wire(sent)))
            return lines

    @property
    def ids(self) -> Collection[object]:
        """Of the requests whose callers wait."""
        with self._lock:
            return {each.id for each in self._sent if each.id is not None and not each.is_answered}

    @property
    def streams(self) -> Collection[str]:
        """The names of the streams that are opened again."""
        with self._lock:
            return {name for name, stream in self._streams.items() if stream.goes_on}

    @property
    def is_empty(self) -> bool:
        return not self._sent

    @property
    def is_needed(self) -> bool:
        """Whether a reply or an outcome is missing, or an utterance is open."""
        with self._lock:
            return any(not each.is_answered or each.type in AUDIO for each in self._sent)

    def clear(self, error: ClientError) -> None:
        """No next process comes without the app."""
        with self._lock:
            self._sent, self._by_id, self._streams, self._bytes, self._keep_alive = {}, {}, {}, 0, None
            self._waits = False
            self.era.error = error
            self.era = Era()

    def _planned(self, members: Mapping[str, Any]) -> Sent | None:
        name = stream_of(members)
        is_restart = members.get("type") == "start_stream" and name in self._streams
        if not is_restart and not self.has(members):
            return None
        sent = Sent(members) if name is None else self._streams.get(name, KeptStream()).planned(members)
        sent.id = members.get("id")
        return sent

    def _wire(self, sent: Sent) -> Mapping[str, Any]:
        """A `start` has the last `keep_alive_seconds` that the app gave."""
        wire = sent.wire
        if sent.type == "start" and self._keep_alive is not None:
            wire.setdefault("keep_alive_seconds", self._keep_alive)
        return wire

    def _add(self, sent: Sent, line: bytes) -> None:
        self._count += 1
        sent.number = self._count
        if sent.stream_id is not None:
            stream = self._streams.setdefault(sent.stream_id, KeptStream())
            if not stream.add(sent):
                return
        self._sent[sent] = None
        if sent.id is not None:
            self._by_id[sent.id] = sent
        if sent.type in AUDIO and not sent.is_dropped:
            sent.size = len(line)
            self._bytes += sent.size
        while self._bytes > self._limit:
            self._drop_oldest()

    def _abandon(self, sent: Sent) -> None:
        if sent.type == "start_stream" and not self._waits:
            sent.is_kept = False
        elif sent.type == "start_stream":
            self._refuse(sent)
        elif sent.type not in (*AUDIO, "stop_stream"):
            self._remove([sent])

    def _take_outcome(self, item: FinalResult) -> None:
        stream = self._stream(item.stream_id)
        boundary = None if stream is None else stream.boundary(item.utterance_id)
        if stream is not None and boundary is not None:
            item.replayed = any(each.is_resent for each in (boundary, *boundary.chunks))
            if stream.is_resent and boundary.before is not None and item.stream_start is not UNSET:
                item.stream_start = boundary.before.begins_at
            self._forget(boundary)

    def _take_reply(self, sent: Sent, message: Line) -> list[UtteranceLost]:
        was_answered, sent.is_answered = sent.is_answered, True
        if isinstance(message, ErrorReply):
            if was_answered and sent.type in BOUNDARIES:
                self._forget(sent)
                return [_lost(sent, RequestFailed(message))]
            self._refuse(sent)
        elif sent.type == "start":
            self._keep_alive = sent.members.get("keep_alive_seconds", self._keep_alive)
            if any(each.members.get("words") for each in self._remove_starts(sent)):
                sent.members = {**sent.members, "words": True}
        elif sent.type != "flush" and (stream := self._stream(sent.stream_id)) is not None:
            self._take_step(sent, stream, message)
        else:
            self._remove([sent])
        if isinstance(message, TranscriptReply | BatchTranscript | Aligned):
            message.replayed = sent.is_resent
        elif isinstance(message, Unloaded):
            self._remove_starts(sent)
        return []

    def _take_step(self, sent: Sent, stream: KeptStream, message: Line) -> None:
        """The process has done what this message of a stream asks for."""
        if sent.type in TURNS or (isinstance(message, CancelResult) and message.dropped_samples):
            self._remove(stream.take_buffer(sent))
        for name in message.cancelled_utterances if isinstance(message, StreamStopped) else ():
            if (boundary := stream.boundary(name)) is not None:
                self._forget(boundary)
        if sent.type == "start_stream" and not self.has(sent.members):  # for the next process it is over
            sent.members = {"type": "stop_stream", "stream_id": sent.stream_id}
        sent.is_kept = True
        if sent.type == "cancel":
            boundary = stream.boundary(sent.utterance_id or "")
            if boundary is None:
                self._remove([sent])
            else:
                boundary.cancels.append(sent)
        self._tidy(sent)

    def _refuse(self, sent: Sent) -> None:
        self._remove([sent])
        if (stream := self._stream(sent.stream_id)) is not None:
            stream.refuse(sent)
            self._tidy(sent)

    def _remove_starts(self, later: Sent) -> list[Sent]:
        """A `start` or `unload` makes those before it needless."""
        starts = [each for each in self._sent if each.type == "start" and each.is_answered]
        earlier = [each for each in starts if each.number < later.number]
        self._remove(earlier)
        return earlier

    def _tidy(self, sent: Sent) -> None:
        """Forget what its stream no longer needs."""
        if (stream := self._stream(sent.stream_id)) is not None:
            self._remove(stream.take_idle())
            if stream.is_over:
                self._remove(stream.chunks)
                del self._streams[str(sent.stream_id)]

    def _stream(self, name: str | None) -> KeptStream | None:
        return None if name is None else self._streams.get(name)

    def _drop_oldest(self) -> None:
        first = next(each for each in self._sent if each.size)
        stream = self._streams[str(first.stream_id)]
        ending = first if first.type in BOUNDARIES else stream.boundary_of(first)
        utterance = stream if ending is None else ending
        self._remove(utterance.chunks)
        utterance.chunks = []
        if ending is None:
            stream.names = replace(stream.names, is_too_long=True)
        else:
            self._bytes -= ending.size
            ending.size, ending.is_dropped = 0, True
            if not ending.takes_buffer:
                ending.members = {**ending.members, "pcm16": ""}

    def _forget(self, boundary: Sent) -> None:
        """With its utterance."""
        self._remove([boundary, *boundary.chunks, *boundary.cancels])
        self._tidy(boundary)

    def _remove(self, gone: Iterable[Sent]) -> None:
        for each in gone:
            if each in self._sent:
                del self._sent[each]
                self._bytes -= each.size
            if (stream := self._stream(each.stream_id)) is not None:
                stream.messages.pop(each, None)
            if self._by_id.get(each.id) is each:
                del self._by_id[each.id]


def _lost(boundary: Sent, error: ClientError) -> UtteranceLost:
    return UtteranceLost(error, str(boundary.stream_id), str(boundary.utterance_id))
