"""What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
outcome."""

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from qwen3_asr_mlx_runtime.client.errors import ClientError, RequestFailed
from qwen3_asr_mlx_runtime.client.events import UtteranceLost
from qwen3_asr_mlx_runtime.client.requests import Requests
from qwen3_asr_mlx_runtime.client.results import (
    BatchTranscript,
    FinalResult,
    RealtimeBatchFinal,
    Stopped,
    TranscriptReply,
)
from qwen3_asr_mlx_runtime.client.sent import AUDIO, BOUNDARIES, OF_STREAMS, OpenStreams, Sent, stream_of
from qwen3_asr_mlx_runtime.protocol.commands import Id
from qwen3_asr_mlx_runtime.protocol.replies import CancelResult, ErrorReply, Line
from qwen3_asr_mlx_runtime.protocol.streams import StreamError, StreamStopped

_LASTING = (*AUDIO, "start", "start_stream", "stop_stream", "cancel")  # needed after their reply, too
_NEVER = ("hello", "stop")


class Kept:
    """Messages in the order in which they were sent. Lines of audio take at most `limit` bytes: beyond it the oldest
    utterance is dropped. Safe to use from any thread; the caller adds messages in the order in which it sends them."""

    def __init__(self, limit: int) -> None:
        self.requests = Requests()  # of all processes, whose callers wait
        self._limit = limit
        self._sent: list[Sent] = []
        self._streams = OpenStreams()
        self._bytes = 0
        self._lock = threading.RLock()

    # What is sent

    def named(self, members: dict[str, Any]) -> dict[str, Any]:
        """The message with the name of its utterance. Raises the ClientError by which that utterance was lost."""
        with self._lock:
            stream = self._streams.get(stream_of(members) or "")
            if stream is None or members.get("type") not in AUDIO:
                return members
            stream.check(members)
            name = stream.name(members, self._is_in_use)
            return members if name is None else {**members, "utterance_id": name}

    def add(self, members: Mapping[str, Any], line: bytes) -> None:
        """Keep a message that is sent now."""
        with self._lock:
            if not self.has(members):
                return
            self._streams.follow(members)
            sent = Sent({**members, "pcm16": ""} if "pcm16" in members else members, line)
            stream = self._streams.get(sent.stream_id or "")
            if stream is not None and stream.is_too_long:
                if sent.type == "audio_chunk":
                    return
                if sent.takes_buffer:
                    stream.is_too_long, sent.is_dropped, sent.line = False, True, b""
            if sent.type == "start":
                self._remove(each for each in self._sent if each.type == "start" and each.is_answered)
            self._sent.append(sent)
            self._bytes += len(sent.line) if sent.type in AUDIO else 0
            while self._bytes > self._limit:
                self._drop_oldest()

    def has(self, members: Mapping[str, Any]) -> bool:
        """Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where."""
        stream_id = stream_of(members)
        if members.get("type") == "start_stream":
            return members.get("on_limit") != "split"
        if members.get("type") in OF_STREAMS and stream_id is not None:
            return stream_id in self._streams or any(each.stream_id == stream_id for each in self._sent)
        return members.get("type") not in _NEVER

    def abandon(self, id: Id) -> None:
        """No caller waits for this reply any more. An utterance still has its outcome."""
        with self._lock:
            for sent in self._of_id(id):
                sent.is_answered = True
                if sent.type not in (*AUDIO, "stop_stream"):
                    self._remove([sent])

    # What is received

    def received(self, message: Line) -> list[UtteranceLost]:
        """Forget what has its outcome with this message, and mark results of what was sent again. Returns utterances
        that a later process refused."""
        with self._lock:
            for item in message.items if isinstance(message, RealtimeBatchFinal | Stopped) else ():
                self._take_outcome(item)
            if isinstance(message, StreamError):
                chunks = self._chunks(message.stream_id)
                self._remove(each for each in chunks if each.members.get("seq") == message.seq)
            id = getattr(message, "id", None)
            return [lost for sent in self._of_id(id) for lost in self._take_reply(sent, message)]

    def lost(self, error: ClientError) -> list[UtteranceLost]:
        """The process is gone, and the next one gets the rest. Returns the utterances whose audio was not kept, except
        those whose boundary has no reply: its caller gets the error."""
        with self._lock:
            for stream in self._streams.values():
                if stream.is_too_long:
                    stream.is_too_long, stream.current, stream.lost = False, None, error
            dropped = [each for each in self._sent if each.is_dropped]
            self._remove(dropped)
            for each in self._sent:
                each.is_resent = True
            return [_lost(each, error) for each in dropped if each.is_answered]

    # What is kept

    @property
    def lines(self) -> list[bytes]:
        with self._lock:
            return [each.line for each in self._sent]

    @property
    def ids(self) -> Collection[object]:
        """Of the requests whose callers wait."""
        with self._lock:
            return {each.members["id"] for each in self._sent if "id" in each.members and not each.is_answered}

    @property
    def streams(self) -> Collection[str]:
        """The names of the streams that are opened again."""
        with self._lock:
            return {str(each.stream_id) for each in self._sent if each.type == "start_stream"}

    @property
    def is_needed(self) -> bool:
        """Whether a reply or an outcome is missing, or an utterance is open."""
        with self._lock:
            return any(not each.is_answered or each.type in AUDIO for each in self._sent)

    def clear(self) -> None:
        with self._lock:
            self._sent, self._bytes = [], 0
            self._streams.clear()

    def _take_outcome(self, item: FinalResult) -> None:
        for sent in self._boundaries(item.stream_id, {item.utterance_id})[:1]:
            audio = self._audio_of(sent)
            item.replayed = any(each.is_resent for each in audio)
            self._remove(audio)
        self._tidy(item.stream_id)

    def _take_reply(self, sent: Sent, message: Line) -> list[UtteranceLost]:
        lost: list[UtteranceLost] = []
        match message:
            case ErrorReply() if sent.is_answered and sent.type in BOUNDARIES:
                lost = [_lost(sent, RequestFailed(message))]
                self._remove(self._audio_of(sent))
            case ErrorReply():
                self._refused(sent)
            case TranscriptReply() | BatchTranscript():
                message.replayed = sent.is_resent
            case CancelResult() if message.dropped_samples:
                self._remove(self._chunks_before(sent))
            case StreamStopped():
                for each in self._boundaries(sent.stream_id, message.cancelled_utterances):
                    self._remove(self._audio_of(each))
        sent.is_answered = True
        is_lasting = sent.type in _LASTING and (sent.type == "start" or sent.stream_id is not None)
        if isinstance(message, ErrorReply) or not is_lasting:
            self._remove([sent])
        self._tidy(sent.stream_id)
        return lost

    def _refused(self, sent: Sent) -> None:
        """The audio of a boundary that is refused stays in the stream's buffer, under its name."""
        stream = self._streams.get(sent.stream_id or "")
        if stream is not None and sent.takes_buffer:
            stream.is_too_long = stream.is_too_long or sent.is_dropped
            stream.current = stream.current or sent.utterance_id

    def _tidy(self, stream_id: str | None) -> None:
        """Forget a stream that was stopped or restarted and owes nothing, and cancels without an utterance."""
        left: list[Sent] = []
        of_stream = [each for each in self._sent if each.stream_id == stream_id]
        for each in of_stream if stream_id is not None else ():
            names = {other.utterance_id for other in left if other.type in BOUNDARIES}
            if each.type == "cancel" and each.is_answered and each.utterance_id not in names:
                continue
            if each.type in ("start_stream", "stop_stream") and each.is_answered:
                while left and left[-1].type == "audio_chunk":
                    left.pop()  # the process has dropped what was open
                was_idle = bool(left) and left[-1].type == "start_stream"
                left = left[:-1] if was_idle else left
                if was_idle and each.type == "stop_stream":
                    continue
            left.append(each)
        self._remove({*of_stream} - {*left} if stream_id is not None else ())

    def _drop_oldest(self) -> None:
        first = next(each for each in self._sent if each.type in AUDIO and not each.is_dropped)
        later = [each for each in self._sent[self._sent.index(first) :] if each.stream_id == first.stream_id]
        ending = first if first.type in BOUNDARIES else next((each for each in later if each.takes_buffer), None)
        self._remove(self._chunks(first.stream_id) if ending is None else self._audio_of(ending)[:-1])
        if ending is not None:
            self._bytes -= len(ending.line)
            ending.line, ending.is_dropped = b"", True
        elif (stream := self._streams.get(first.stream_id or "")) is not None:
            stream.is_too_long = True

    def _audio_of(self, boundary: Sent) -> list[Sent]:
        """A boundary and the chunks of its utterance."""
        return [*(self._chunks_before(boundary) if boundary.takes_buffer else ()), boundary]

    def _chunks_before(self, sent: Sent) -> list[Sent]:
        """The chunks in the stream's buffer when this message came."""
        chunks: list[Sent] = []
        for each in self._sent[: self._sent.index(sent)]:
            if each.stream_id == sent.stream_id and each.type == "audio_chunk":
                chunks.append(each)
            elif each.stream_id == sent.stream_id and (each.type == "start_stream" or each.takes_buffer):
                chunks = []
        return chunks

    def _boundaries(self, stream_id: str | None, names: Collection[str]) -> list[Sent]:
        ended = [each for each in self._sent if each.type in BOUNDARIES and each.stream_id == stream_id]
        return [each for each in ended if each.utterance_id in names]

    def _is_in_use(self, utterance_id: str) -> bool:
        return any(each.type in BOUNDARIES and each.utterance_id == utterance_id for each in self._sent)

    def _chunks(self, stream_id: str | None) -> list[Sent]:
        return [each for each in self._sent if each.type == "audio_chunk" and each.stream_id == stream_id]

    def _of_id(self, id: object) -> list[Sent]:
        return [each for each in self._sent if id is not None and each.members.get("id") == id][-1:]

    def _remove(self, gone: Iterable[Sent]) -> None:
        removed = {*gone}
        self._bytes -= sum(len(each.line) for each in self._sent if each in removed and each.type in AUDIO)
        self._sent = [each for each in self._sent if each not in removed]


def _lost(boundary: Sent, error: ClientError) -> UtteranceLost:
    return UtteranceLost(error, str(boundary.stream_id), str(boundary.utterance_id))
