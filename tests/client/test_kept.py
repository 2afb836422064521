"""What `resend` keeps, and when it forgets it; no process is needed."""

import json
from typing import Any

import pytest
from support.client_children import FINAL, READY

from qwen3_asr_mlx_runtime.client import BridgeExited, RequestFailed
from qwen3_asr_mlx_runtime.client.kept import Kept
from qwen3_asr_mlx_runtime.client.messages import decode, encode
from qwen3_asr_mlx_runtime.client.results import RealtimeBatchFinal

LOST = BridgeExited("gone", retryable=True)
QUEUED = {"type": "utterance_queued", "stream_id": "mic", "samples": 1, "queued": 1, "batch_size": 4}
ERROR = {"type": "error", "code": "limit_exceeded", "message": "no", "retryable": True, "data": {}}


class Talk:
    """What a client sends and receives."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self.kept = Kept(limit)
        self._count = 0

    def send(self, type: str, **members: Any) -> dict[str, Any]:
        self._count += 1
        id = {} if type == "audio_chunk" else {"id": self._count}
        named = self.kept.named({"type": type, **({} if type == "start" else {"stream_id": "mic"}), **members, **id})
        self.kept.add(named, encode(named))
        return named

    def stream(self, **options: Any) -> None:
        self.reply(self.send("start_stream", **options), READY)

    def chunk(self, seq: int = 0, **members: Any) -> dict[str, Any]:
        return self.send("audio_chunk", seq=seq, pcm16="AAAA", **members)

    def utterance(self, **members: Any) -> dict[str, Any]:
        """A chunk and a boundary that is queued."""
        self.chunk()
        boundary = self.send("end_utterance", **members)
        self.reply(boundary, {**QUEUED, "utterance_id": boundary["utterance_id"]})
        return boundary

    def reply(self, request: dict[str, Any], reply: dict[str, Any]) -> list[tuple[str, str]]:
        lost = self.kept.received(decode(json.dumps({**reply, "id": request["id"]}).encode()))
        return [(each.utterance_id, type(each.error).__name__) for each in lost]

    def outcome(self, name: str) -> bool:
        item = {**FINAL["items"][0], "utterance_id": name}  # type: ignore[index, dict-item]
        message = decode(json.dumps({**FINAL, "items": [item]}).encode())
        assert isinstance(message, RealtimeBatchFinal)
        self.kept.received(message)
        return message.items[0].replayed

    @property
    def types(self) -> list[str]:
        return [json.loads(line)["type"] for line in self.kept.lines]

    @property
    def names(self) -> list[str | None]:
        return [json.loads(line).get("utterance_id") for line in self.kept.lines][1:]


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
    talk.send("start")
    assert talk.types == ["start"]
    talk.send("hello")
    talk.send("stop")
    assert talk.types == ["start"]


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


def test_a_boundary_that_a_later_process_refuses_is_a_lost_utterance() -> None:
    talk = Talk()
    talk.stream()
    boundary = talk.utterance()
    talk.kept.lost(LOST)
    assert talk.reply(boundary, ERROR) == [("mic-1", RequestFailed.__name__)]
    assert talk.types == ["start_stream"]


def test_a_chunk_that_is_refused_is_not_kept() -> None:
    talk = Talk()
    talk.stream()
    talk.chunk(0)
    talk.chunk(1)
    error = {**ERROR, "type": "stream_error", "event": True, "n": 1, "stream_id": "mic", "seq": 0, "dropped_samples": 2}
    talk.kept.received(decode(json.dumps(error).encode()))
    assert [json.loads(line).get("seq") for line in talk.kept.lines] == [None, 1]


def test_beyond_the_limit_the_oldest_utterance_is_dropped() -> None:
    talk = Talk(limit=400)
    talk.stream()
    first = talk.utterance()
    second = talk.utterance()
    assert talk.names == [None, "mic-1", None, "mic-2"]
    waits = talk.send("end_utterance", pcm16="A" * 200)
    assert json.loads(talk.kept.lines[-1])["utterance_id"] == waits["utterance_id"] == "mic-3"
    assert [each.utterance_id for each in talk.kept.lost(LOST)] == [first["utterance_id"], second["utterance_id"]]
    assert talk.kept.ids == {waits["id"]}


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
