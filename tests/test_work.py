from conversation import Conversation

from qwen3_asr_mlx_runtime.work import READ_AHEAD


def test_row_67_the_file_of_an_utterance_is_read_before_those_of_a_batch() -> None:
    talk = Conversation()
    talk.send("start_stream")
    talk.load()
    paths = [f"/{number}.wav" for number in range(2 * READ_AHEAD)]
    talk.send("batch_transcribe", id="batch", audio=paths)
    for path in paths[:READ_AHEAD]:
        talk.read(path)
    assert not talk.reads  # as many as may be held wait for the engine
    talk.send("end_utterance", id="live", audio="/live.wav")
    assert list(talk.reads.values()) == ["/live.wav"]
    assert [reply["id"] for reply in talk.read("/live.wav")] == ["live"]
