import pytest
from support.conversation import Conversation, pcm


@pytest.mark.parametrize("refused", [{"seq": -1}, {"seq": True}, {"pcm16": 5}, {"id": {}}, {"id": "in flight"}])
def test_a_chunk_that_is_refused_before_its_stream_sees_it_leaves_a_gap(refused: dict) -> None:
    talk = Conversation()
    talk.send("start_stream")
    talk.load()
    talk.send("transcribe", id="in flight", audio="/a.wav")
    talk.chunk()
    [error] = talk.send("audio_chunk", **{"pcm16": pcm(1600), **refused})
    assert error["type"] == "error"
    talk.chunk()
    talk.send("end_utterance")
    talk.send("flush")
    [batch] = talk.decode()
    assert [item["audio_gap"] for item in batch["items"]] == [True]
