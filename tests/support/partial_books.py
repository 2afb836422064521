"""The partials of open utterances: promises I9 and I10 of the protocol monitor."""

from dataclasses import dataclass, field
from typing import Any

from qwen3_asr_mlx_runtime.limits import MIN_PARTIAL_INTERVAL_MS

HINTS = {"settled_ms", "ends_sentence", "ends_sentence_probability", "trailing_silence_ms"}
PARTIAL_MEMBERS = {"utterance_id", "revision", "stable_text", "changed_from", "language", "audio_seconds", *HINTS}
TIMING = {"seconds", "queue_seconds", "tokens", "verified_tokens"}
INTERVAL = "interval_ms"  # only of a remote engine
ENDS = {"end_utterance", "vad_boundary", "cancel", "stop_stream"}
CLOSES = {"stop_stream", "start_stream"}

Key = tuple[str, str]


@dataclass
class LatestPartial:
    """The latest partial of an open utterance, from events or from the replies to its chunks. `place`:
    the chunk's. `number`: among utterances of its name."""

    place: int = 0
    number: int = 0
    revision: int = 0
    stable_text: str = ""
    audio_seconds: float = 0.0

    def grow(self, place: int, line: dict) -> None:
        assert line["stable_text"].startswith(self.stable_text), "I10: the stable text has changed"
        assert line["audio_seconds"] >= self.audio_seconds, "I10: less audio than before"
        assert line["revision"] > 1 or not line["stable_text"], "I10: stable after one hypothesis"
        self.place, self.revision = place, line["revision"]
        self.stable_text, self.audio_seconds = line["stable_text"], line["audio_seconds"]


@dataclass
class PartialBooks:
    """Places are those of lines in. An utterance is known by its stream and its name, which may come again."""

    begun: dict[str, int] = field(default_factory=dict)  # the last start of each stream with partials
    splitting: set[str] = field(default_factory=set)
    named: dict[Key, int] = field(default_factory=dict)  # the last chunk of each name
    endings: dict[str, list[Any]] = field(default_factory=dict)  # lines that may have ended its utterance
    closed: dict[Key, int] = field(default_factory=dict)  # the boundary, or cancel, that has ended it
    by_event: dict[Key, LatestPartial] = field(default_factory=dict)
    replied: dict[Key, LatestPartial] = field(default_factory=dict)
    written: dict[str, dict] = field(default_factory=dict)  # the last of each stream, event or reply

    def sent(self, sent: Any) -> None:
        name = sent.message.get("utterance_id")
        if sent.type == "start_stream":
            if sent.stream_id in self.begun:
                self.endings.setdefault(sent.stream_id, []).append(sent)
            if sent.message.get("partials"):
                self.begun[sent.stream_id] = sent.place
            if sent.message.get("on_limit") == "split":
                self.splitting.add(sent.stream_id)
        if sent.type == "audio_chunk" and isinstance(name, str):
            self.named[sent.stream_id, name] = sent.place
        if sent.type in ENDS or (sent.type == "audio_chunk" and sent.stream_id in self.splitting):
            self.endings.setdefault(sent.stream_id, []).append(sent)

    def event(self, event: dict) -> None:
        stream_id, key = event["stream_id"], (event["stream_id"], event["utterance_id"])
        assert stream_id in self.begun, "I9: a partial that was not requested"
        assert set(event) >= PARTIAL_MEMBERS | TIMING, "I9: an event lacks a member"
        assert event.get(INTERVAL, MIN_PARTIAL_INTERVAL_MS) >= MIN_PARTIAL_INTERVAL_MS, "I9: an interval that is none"
        self._written(event)
        again = max(self.named.get(key, 0), self.begun[stream_id])
        assert self.closed.get(key, -1) < again, f"I9: {key} has a partial after its end"
        latest = self.by_event.get(key, LatestPartial())
        if event["revision"] <= latest.revision:
            latest = LatestPartial(number=latest.number + 1)
            assert latest.number <= self._may_come_again(key), "I9: the revision does not count up"
        self.by_event[key] = latest
        latest.grow(0, event)

    def reply(self, sent: Any, reply: dict) -> None:
        match reply["type"]:
            case "partial_result":
                self._reply_to_chunk(sent, reply)
            case "utterance_queued" if not {"audio", "pcm16"} & set(sent.message):
                self.closed[reply["stream_id"], reply["utterance_id"]] = sent.place
            case "cancel_result" if "dropped_samples" in reply:
                self.closed[sent.stream_id, sent.message["utterance_id"]] = sent.place
            case "status" if (share := reply["partial_share"]) is not None:
                assert self.begun, "I9: a share of partials that were not requested"
                assert share >= 0, "I9: a share below 0"

    def _reply_to_chunk(self, sent: Any, reply: dict) -> None:
        stream_id = reply["stream_id"]
        assert not set(reply) & {*TIMING, INTERVAL}, "I9: a reply has members of events"
        if split := reply.get("split"):
            self.closed[stream_id, split["utterance_id"]] = sent.place
        if "revision" not in reply:
            assert not set(reply) & PARTIAL_MEMBERS, "I9: a reply has some members of a partial, but not all"
            assert not reply.get("text"), "I9: a text without a revision"
            return
        assert stream_id in self.begun, "I9: a partial that was not requested"
        assert reply["revision"] or not reply.get("text"), "I9: a text without a revision"
        self._written(reply)
        key = stream_id, reply.get("utterance_id", "")
        latest = self.replied.get(key, LatestPartial())
        if sent.place < latest.place:
            return  # a reply that waited for its turn
        if self._may_have_ended(stream_id, latest.place, sent.place):
            latest = LatestPartial()
        assert reply["revision"] >= latest.revision, "I9: the revision goes back"
        self.replied[key] = latest
        latest.grow(sent.place, reply)

    def _written(self, line: dict) -> None:
        assert line["settled_ms"] <= round(line["audio_seconds"] * 1000), "I10: settled for longer than the audio"
        assert line["ends_sentence"] or line["ends_sentence_probability"] is None, "I10: a mark that is not there"
        before, start = self.written.get(line["stream_id"], {}), line["changed_from"]
        shown = before["text"] if before.get("utterance_id") == line.get("utterance_id") and before else ""
        assert line["text"][:start] == shown[:start], "I10: text before `changed_from` has changed"
        assert start <= len(line["text"]), "I10: `changed_from` behind the text"
        self.written[line["stream_id"]] = line

    def _may_have_ended(self, stream_id: str, after: int, until: int) -> bool:
        return any(after < sent.place <= until for sent in self.endings.get(stream_id, ()))

    def _may_come_again(self, key: Key) -> int:
        """How often the name may come again: one that a chunk gave after each end, another with each stream."""
        endings = self.endings.get(key[0], [])
        return len(endings) if key in self.named else sum(sent.type in CLOSES for sent in endings)
