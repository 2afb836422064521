"""What `resend` keeps, and when it forgets it; no process is needed."""

import json
from typing import Any

import pytest
from msgspec import UNSET
from support.client_children import FINAL, READY

from qwen3_asr_mlx_runtime.client import BridgeExited, RequestFailed
from qwen3_asr_mlx_runtime.client.kept import Kept
from qwen3_asr_mlx_runtime.client.messages import decode, encoded_pcm
from qwen3_asr_mlx_runtime.client.results import Aligned, FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.client.sent import Sent

LOST = BridgeExited("gone", retryable=True)
QUEUED = {"type": "utterance_queued", "stream_id": "mic", "samples": 1, "queued": 1, "batch_size": 4}
LOADED = {
    "type": "ready",
    "model": "demo",
    "model_dir": "",
    "load_seconds": 0.0,
    "load_profile": {},
    "load": "none",
}
ALIGNED = {
    "type": "aligned",
    "audio": "/a.wav",
    "language": "English",
    "words": [],
    "confidence": None,
    "aligner": {"model": "demo", "seconds": 0.0, "decoder": "viterbi"},
    "audio_seconds": 1.0,
    "total_seconds": None,
    "load_seconds": 0.0,
}
UNLOADED = {"type": "unloaded", "freed_bytes": 1}
ERROR = {"type": "error", "code": "limit_exceeded", "message": "no", "retryable": True, "data": {}}


class Talk:
    """What a client sends and receives."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.kept = Kept(limit)
        self._count = 0
        self._seq = 0

    def send(self, type: str, **members: Any) -> dict[str, Any]:
        self._count += 1
        id = {} if type == "audio_chunk" else {"id": self._count}
        stream = {} if type in ("start", "unload") else {"stream_id": "mic"}
        sent: dict[str, Any] = json.loads(self.kept.add({"type": type, **stream, **members, **id}, lambda _: None))
        return sent

    def stream(self, **options: Any) -> None:
        self.reply(self.send("start_stream", **options), READY)

    def chunk(self, seq: int = 0, **members: Any) -> dict[str, Any]:
        return self.send("audio_chunk", **{"seq": seq, "pcm16": "AAAA", **members})

    def utterance(self, **members: Any) -> dict[str, Any]:
        """A chunk and a boundary that is queued."""
        self.chunk()
        boundary = self.send("end_utterance", **members)
        self.reply(boundary, {**QUEUED, "utterance_id": boundary["utterance_id"]})
        return boundary

    def reply(self, request: dict[str, Any], reply: dict[str, Any]) -> list[tuple[str, str]]:
        lost = self.kept.received(decode(json.dumps({**reply, "id": request["id"]}).encode()))
        return [(each.utterance_id, type(each.error).__name__) for each in lost]

    def say(self, half_seconds: int, *, ends: bool = True) -> None:
        """So much audio at 8 kHz, and its boundary."""
        for _ in range(half_seconds):
            self.chunk(self._seq, pcm16=HALF)
            self._seq += 1
        if ends:
            boundary = self.send("end_utterance")
            self.reply(boundary, {**QUEUED, "utterance_id": boundary["utterance_id"]})

    def outcome(self, name: str) -> bool:
        return self._take(name).replayed

    def stream_start(self, name: str, of_process: float | None = 0.0) -> float | None:
        """What the app gets where the process says `of_process`, or nothing."""
        item = self._take(name, **({} if of_process is None else {"stream_start": of_process}))
        return None if item.stream_start is UNSET else item.stream_start

    def _take(self, name: str, **members: float) -> FinalResult:
        item = {**FINAL["items"][0], "utterance_id": name, **members}  # type: ignore[index, dict-item]
        message = decode(json.dumps({**FINAL, "items": [item]}).encode())
        assert isinstance(message, RealtimeBatchFinal)
        self.kept.received(message)
        return message.items[0]

    def refuse_chunk(self, seq: int | None, stream_id: str | None = "mic") -> None:
        error = {**ERROR, "type": "stream_error", "event": True, "n": 1, "stream_id": stream_id, "seq": seq}
        self.kept.received(decode(json.dumps({**error, "dropped_samples": 2}).encode()))

    def next_process(self) -> list[dict[str, Any]]:
        """What it gets."""
        assert self.kept.lost(LOST) == []
        return self.lines

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What the next process would get."""
        return [json.loads(line) for line in self.kept.lines()]

    @property
    def types(self) -> list[str]:
        return [line["type"] for line in self.lines]

    @property
    def names(self) -> list[str | None]:
        return [line.get("utterance_id") for line in self.lines][1:]

    @property
    def seqs(self) -> list[int]:
        return [line["seq"] for line in self.lines if "seq" in line]


def test_utterances_are_named_as_the_bridge_names_them() -> None:
    talk = Talk()
    talk.stream()
    assert "utterance_id" not in talk.chunk()
    assert talk.send("end_utterance")["utterance_id"] == "mic-1"
    talk.chunk(utterance_id="own")
    assert talk.send("vad_boundary", pcm16="AAAA")["utterance_id"] == "mic-2"
    assert talk.send("vad_boundary")["utterance_id"] == "own"
    talk.chunk()
    assert talk.send("end_utterance", utterance_id="mic-3")["utterance_id"] == "mic-3"
    talk.chunk()
    assert talk.send("end_utterance")["utterance_id"] == "mic-4"
    talk.send("start_stream", restart=True, partials=True)
    assert [talk.chunk()["utterance_id"], talk.chunk()["utterance_id"]] == ["mic-5", "mic-5"]
    talk.send("cancel", utterance_id="mic-5")
    assert talk.chunk()["utterance_id"] == "mic-6"
    talk.send("stop_stream")
    talk.send("start_stream")
    assert talk.send("end_utterance")["utterance_id"] == "mic-5"


def test_an_outcome_ends_the_keeping_of_its_audio_alone() -> None:
    talk = Talk()
    talk.stream()
    for _ in range(2):
        talk.utterance()
    talk.chunk()
    assert talk.outcome("mic-1") is False
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance", "audio_chunk"]
    assert talk.kept.lost(LOST) == []
    talk.chunk(1)
    assert talk.outcome("mic-2") is True
    talk.send("end_utterance")
    assert talk.outcome("mic-3") is True
    talk.utterance()
    assert talk.outcome("mic-4") is False
    assert talk.types == ["start_stream"]
    assert not talk.kept.is_needed


def test_a_request_is_kept_until_its_reply() -> None:
    talk = Talk()
    start, file = talk.send("start"), talk.send("transcribe", audio="/a.wav")
    assert talk.kept.ids == {1, 2}
    talk.kept.lost(LOST)
    talk.reply(file, ERROR)
    talk.reply(start, {"type": "ready", "model": "demo", "load_seconds": 0.0})
    assert (talk.types, talk.kept.ids, talk.kept.is_needed) == (["start"], set(), False)
    talk.send("hello")
    talk.send("stop")
    assert talk.types == ["start"]


def test_the_last_start_that_was_answered_is_kept_with_the_last_keep_alive() -> None:
    talk = Talk()
    talk.reply(talk.send("start", keep_alive_seconds=7), LOADED)
    talk.reply(talk.send("start"), LOADED)
    talk.reply(talk.send("start", keep_alive_seconds=-5), ERROR)
    assert [(line["type"], line["keep_alive_seconds"]) for line in talk.lines] == [("start", 7)]


def test_behind_an_unload_no_start_is_kept_but_its_keep_alive() -> None:
    talk = Talk()
    talk.reply(talk.send("start", keep_alive_seconds=7), LOADED)
    talk.stream()
    talk.reply(talk.send("unload"), UNLOADED)
    assert talk.types == ["start_stream"]
    assert talk.send("start")["keep_alive_seconds"] == 7
    assert talk.types == ["start_stream", "start"]


def test_the_aligner_is_loaded_again_until_an_unload() -> None:
    talk = Talk()
    talk.reply(talk.send("start", words=True), LOADED)
    talk.reply(talk.send("start", keep_alive_seconds=7), LOADED)
    assert [line.get("words") for line in talk.lines] == [True]
    talk.reply(talk.send("unload"), UNLOADED)
    talk.reply(talk.send("start"), LOADED)
    assert [(line["type"], line.get("words")) for line in talk.lines] == [("start", None)]


def test_an_align_is_a_request_like_that_of_a_file() -> None:
    talk = Talk()
    align = talk.send("align", audio="/a.wav", text="one", language="en")
    assert [line["text"] for line in talk.next_process()] == ["one"]
    reply = decode(json.dumps({**ALIGNED, "id": align["id"]}).encode())
    talk.kept.received(reply)
    assert isinstance(reply, Aligned)
    assert (reply.replayed, talk.types) == (True, [])


def test_a_stopped_stream_is_kept_until_it_owes_nothing() -> None:
    talk = Talk()
    talk.stream()
    talk.utterance()
    talk.chunk()
    stop = talk.send("stop_stream")
    stopped = {"type": "stream_stopped", "stream_id": "mic", "dropped_samples": 1, "queued": 1}
    talk.reply(stop, {**stopped, "cancelled_utterances": []})
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance", "stop_stream"]
    talk.outcome("mic-1")
    assert talk.types == []
    talk.stream()
    talk.utterance()
    talk.reply(talk.send("stop_stream", mode="discard"), {**stopped, "cancelled_utterances": ["mic-1"]})
    assert talk.types == []


def test_a_restart_drops_the_open_utterance() -> None:
    talk = Talk()
    talk.stream()
    talk.utterance()
    talk.chunk()
    talk.stream(restart=True)
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance", "start_stream"]
    talk.outcome("mic-1")
    assert talk.types == ["start_stream"]


def test_a_refused_restart_changes_nothing() -> None:
    talk = Talk()
    talk.stream(partials=True)
    talk.chunk(0)
    restart = talk.send("start_stream", restart=True, sample_rate=1)
    talk.reply(restart, ERROR)
    talk.chunk(1)
    assert talk.send("end_utterance")["utterance_id"] == "mic-1"
    assert talk.types == ["start_stream", "audio_chunk", "audio_chunk", "end_utterance"]


def test_a_restart_without_a_reply_is_repeated_behind_what_was_open() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk(0)
    restart = talk.send("start_stream", restart=True)
    talk.chunk(0)
    talk.next_process()
    assert talk.types == ["start_stream", "audio_chunk", "start_stream", "audio_chunk"]
    talk.reply(restart, READY)
    assert talk.types == ["start_stream", "audio_chunk"]


def test_a_restart_that_splits_ends_the_keeping() -> None:
    talk = Talk()
    talk.stream()
    talk.utterance()
    talk.chunk()
    assert talk.kept.streams == {"mic"}
    split = talk.send("start_stream", restart=True, on_limit="split")
    talk.reply(split, READY)
    assert "utterance_id" not in talk.chunk()
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance", "stop_stream"]
    assert talk.kept.streams == set()
    talk.outcome("mic-1")
    assert talk.types == []


def test_a_restart_that_splits_and_is_lost_was_none() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk()
    talk.send("start_stream", restart=True, on_limit="split")
    talk.next_process()
    talk.chunk(1)
    assert talk.types == ["start_stream", "audio_chunk", "audio_chunk"]


def test_a_cancel_is_kept_as_long_as_its_utterance() -> None:
    talk = Talk()
    talk.stream(partials=True)
    talk.utterance()
    result = {"type": "cancel_result", "state": "cancelled"}
    talk.reply(talk.send("cancel", utterance_id="mic-1"), result)
    talk.chunk()
    talk.reply(talk.send("cancel", utterance_id="mic-2"), {**result, "dropped_samples": 1})
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance", "cancel"]
    talk.outcome("mic-1")
    assert talk.types == ["start_stream"]


def test_a_refused_boundary_leaves_its_audio_to_the_next() -> None:
    talk = Talk()
    talk.stream(partials=True)
    talk.chunk()
    assert talk.reply(talk.send("end_utterance"), ERROR) == []
    assert talk.send("end_utterance")["utterance_id"] == "mic-1"
    talk.outcome("mic-1")
    assert talk.types == ["start_stream"]


def test_the_name_of_a_refused_boundary_is_not_that_of_the_open_utterance() -> None:
    talk = Talk()
    talk.stream()
    talk.reply(talk.send("end_utterance", utterance_id="x"), ERROR)
    talk.reply(talk.send("end_utterance"), ERROR)
    talk.chunk()
    assert talk.send("end_utterance")["utterance_id"] == "mic-1"
    talk.chunk(utterance_id="y")
    talk.reply(talk.send("end_utterance", utterance_id="x"), ERROR)
    assert talk.send("end_utterance")["utterance_id"] == "y"


def test_a_boundary_that_a_later_process_refuses_is_a_lost_utterance() -> None:
    talk = Talk()
    talk.stream()
    talk.utterance()
    assert talk.reply(talk.next_process()[-1], ERROR) == [("mic-1", RequestFailed.__name__)]
    assert talk.types == ["start_stream"]


def test_a_chunk_that_is_refused_is_not_kept() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk(0)
    talk.chunk(1)
    talk.refuse_chunk(0)
    assert talk.types == ["start_stream", "audio_chunk"]


def test_a_chunk_of_an_earlier_stream_of_the_name_stays() -> None:
    talk = Talk()
    for _ in range(2):
        talk.stream()
        for seq in range(3):
            talk.chunk(seq)
        talk.reply(talk.send("end_utterance"), {**QUEUED, "utterance_id": "mic-1"})
        stopped = {"type": "stream_stopped", "stream_id": "mic", "dropped_samples": 0, "queued": 1}
        talk.reply(talk.send("stop_stream"), {**stopped, "cancelled_utterances": []})
    talk.stream()
    talk.chunk(0)
    refused = talk.chunk(1)
    talk.refuse_chunk(refused["seq"])
    talk.refuse_chunk(None)
    talk.refuse_chunk(None, None)
    chunks = 7
    assert talk.types.count("audio_chunk") == chunks
    assert talk.types[-2:] == ["start_stream", "audio_chunk"]


def test_numbers_begin_anew_and_go_on_without_false_gaps() -> None:
    talk = Talk()
    talk.stream(partials=True)
    for seq in range(2):
        talk.chunk(seq)
    talk.send("end_utterance")
    talk.chunk(2)
    cancelled = {"type": "cancel_result", "state": "cancelled", "dropped_samples": 1}
    talk.reply(talk.send("cancel", utterance_id="mic-2"), cancelled)
    talk.next_process()
    assert talk.seqs == [0, 1]
    assert talk.chunk(3)["seq"] == 2
    talk.outcome("mic-1")
    assert talk.seqs == [0]
    assert talk.chunk(4)["seq"] == 1


@pytest.mark.parametrize(("refused", "seqs"), [(0, [1, 2, 3]), (1, [0, 2, 3]), (2, [0, 2, 3])])
def test_a_refused_chunk_stays_a_gap(refused: int, seqs: list[int]) -> None:
    talk = Talk()
    talk.stream()
    for seq in range(3):
        talk.chunk(seq)
    talk.refuse_chunk(refused)
    talk.send("end_utterance")
    talk.chunk(3)
    talk.next_process()
    assert talk.seqs == seqs


def test_a_chunk_behind_a_refused_one_follows_a_gap() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk(0)
    talk.chunk(1)
    talk.refuse_chunk(1)
    talk.chunk(2)
    talk.chunk(3)
    talk.next_process()
    assert talk.seqs == [0, 2, 3]


def test_an_id_that_is_used_again_belongs_to_the_later_request() -> None:
    talk = Talk()
    boundary = {"stream_id": "mic", "pcm16": "AAAA"}
    for type, reply in (("start_stream", READY), ("end_utterance", {**QUEUED, "utterance_id": "mic-1"})):
        talk.kept.add({**boundary, "type": type, "id": "x"}, lambda _: None)
        talk.reply({"id": "x"}, reply)
    talk.kept.add({"type": "status", "id": "x"}, lambda _: None)
    start, ended, status = talk.next_process()
    assert status["id"] == "x"
    assert "x" not in (start["id"], ended["id"])
    assert start["id"] != ended["id"]
    assert talk.reply(ended, ERROR) == [("mic-1", RequestFailed.__name__)]
    assert talk.kept.ids == {"x"}


HALF = encoded_pcm(bytes(8_000))  # a second at 8 kHz has two


class TestTheTimeInTheStream:
    """A later process counts from the first sample that it gets; the app, from the first that it appended."""

    def test_it_is_that_of_the_process_until_one_is_lost(self) -> None:
        talk = Talk()
        talk.stream(sample_rate=8_000)
        talk.say(2)
        assert talk.stream_start("mic-1", 0.125) == 0.125

    def test_it_goes_on_behind_what_was_delivered(self) -> None:
        talk = Talk()
        talk.stream(sample_rate=8_000)
        talk.say(2)
        talk.say(3)
        talk.say(1, ends=False)
        talk.stream_start("mic-1")
        talk.next_process()
        assert talk.stream_start("mic-2") == 1.0
        talk.say(1)
        assert talk.stream_start("mic-3", 1.5) == 2.5
        talk.say(4)
        assert talk.stream_start("mic-4") == 3.5
        talk.send("end_utterance", pcm16=HALF)
        assert talk.stream_start("mic-5", None) is None

    def test_audio_that_was_refused_or_cancelled_is_counted_as_the_bridge_counts_it(self) -> None:
        talk = Talk()
        talk.stream(sample_rate=8_000, partials=True)
        talk.say(4)
        talk.say(2)
        talk.say(2, ends=False)
        talk.refuse_chunk(1)
        cancelled = {"type": "cancel_result", "state": "cancelled", "dropped_samples": 1}
        talk.reply(talk.send("cancel", utterance_id="mic-3"), cancelled)
        talk.say(1)
        talk.refuse_chunk(8)
        talk.say(1)
        talk.next_process()
        assert [talk.stream_start(name) for name in ("mic-1", "mic-2", "mic-4", "mic-5")] == [0.0, 1.5, 3.5, 3.5]

    def test_it_goes_on_behind_audio_that_was_lost(self) -> None:
        talk = Talk(limit=40_000)
        talk.stream(sample_rate=8_000)
        talk.say(4, ends=False)
        talk.kept.lost(LOST)
        with pytest.raises(BridgeExited):
            talk.send("end_utterance")
        talk.say(1)
        talk.next_process()
        assert talk.stream_start("mic-1") == 2.0

    def test_a_refused_boundary_leaves_its_begin_to_the_next(self) -> None:
        talk = Talk()
        talk.stream(sample_rate=8_000)
        talk.say(2)
        talk.say(2, ends=False)
        refused = talk.send("end_utterance")
        talk.say(2, ends=False)
        talk.send("end_utterance", utterance_id="own")
        talk.reply(refused, ERROR)
        talk.say(2, ends=False)
        talk.reply(talk.send("end_utterance"), ERROR)
        talk.say(2)
        talk.next_process()
        assert [talk.stream_start(name) for name in ("mic-1", "own", "mic-3")] == [0.0, 1.0, 3.0]

    def test_a_restart_counts_anew_unless_it_is_refused(self) -> None:
        talk = Talk()
        talk.stream(sample_rate=8_000)
        talk.say(2)
        talk.say(1, ends=False)
        refused = talk.send("start_stream", restart=True, sample_rate=1)
        talk.say(1, ends=False)
        talk.reply(refused, ERROR)
        talk.say(1)
        talk.say(1)
        talk.next_process()
        assert [talk.stream_start(name) for name in ("mic-1", "mic-2", "mic-3")] == [0.0, 1.0, 2.5]
        talk.stream(restart=True)
        talk.say(2)
        talk.say(2)
        assert [talk.stream_start(name) for name in ("mic-4", "mic-5")] == [0.0, 0.5]


def test_the_work_for_a_reply_does_not_grow_with_the_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def type_of(sent: Sent) -> str:
        nonlocal looks
        looks += 1
        return str(sent.members["type"])

    talk = Talk()
    talk.stream()
    for seq in range(2000):
        talk.chunk(seq)
    monkeypatch.setattr(Sent, "type", property(type_of))
    boundary = talk.send("end_utterance")
    talk.reply(boundary, {**QUEUED, "utterance_id": "mic-1"})
    talk.reply(talk.send("flush"), ERROR)
    talk.outcome("mic-1")
    assert looks < 100
    assert talk.types == ["start_stream"]


def test_the_limit_ends_its_work_where_a_restart_has_no_reply() -> None:
    talk = Talk(limit=400)
    talk.stream()
    talk.chunk(0, pcm16="A" * 200)
    talk.send("start_stream", restart=True)
    talk.chunk(0)
    talk.send("end_utterance")
    talk.chunk(1, pcm16="A" * 100)
    talk.chunk(2, pcm16="A" * 100)
    talk.chunk(3, pcm16="A" * 200)
    assert talk.types.count("audio_chunk") == 0


def test_beyond_the_limit_the_oldest_utterance_is_dropped() -> None:
    talk = Talk(limit=400)
    talk.stream()
    first = talk.utterance()
    second = talk.utterance()
    assert talk.names == [None, "mic-1", None, "mic-2"]
    waits = talk.send("end_utterance", pcm16="A" * 200)
    assert talk.lines[-1]["utterance_id"] == waits["utterance_id"] == "mic-3"
    assert [each.utterance_id for each in talk.kept.lost(LOST)] == [first["utterance_id"], second["utterance_id"]]
    assert talk.kept.ids == {waits["id"]}


def test_a_pause_is_not_sent_again_and_no_boundary_that_keeps_a_rest_is_sent() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk()
    assert talk.kept.has({"type": "pause", "stream_id": "mic"}) is False
    with pytest.raises(ValueError, match="rest"):
        talk.send("end_utterance", samples=1)
    talk.send("end_utterance", samples=1, rest="drop")
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance"]


def test_an_open_utterance_that_is_dropped_fails_once_to_its_boundary() -> None:
    talk = Talk(limit=200)
    talk.stream()
    for seq in range(4):
        talk.chunk(seq)
    assert talk.types == ["start_stream"]
    talk.kept.lost(LOST)
    for _ in range(2):
        with pytest.raises(BridgeExited):
            talk.chunk()
    with pytest.raises(BridgeExited):
        talk.send("end_utterance")
    assert talk.utterance()["utterance_id"] == "mic-1"


def test_an_abandoned_request_is_not_sent_again_but_an_utterance_is() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk()
    boundary, file = talk.send("end_utterance"), talk.send("transcribe", audio="/a.wav")
    talk.kept.abandon(boundary["id"])
    talk.kept.abandon(file["id"])
    assert talk.types == ["start_stream", "audio_chunk", "end_utterance"]
    assert talk.kept.ids == set()
