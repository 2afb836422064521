from support.conversation import Conversation


def test_a_file_that_is_still_read_when_a_flush_brings_other_options_is_decoded_with_these() -> None:
    talk = Conversation()
    talk.send("start_stream", max_batch_delay_ms=0)
    talk.load()
    talk.send("end_utterance", audio="/slow.wav")
    talk.wait(1.0)  # the timer has it decoded ahead, once it is read
    assert talk.send("flush", max_new_tokens=5) == []
    assert [reply["type"] for reply in talk.read("/slow.wav")] == ["utterance_queued"]
    assert [job.utterance.max_new_tokens for job in talk.jobs.values()] == [5]
    [batch] = talk.decode()
    assert [item["utterance_id"] for item in batch["items"]] == ["default-1"]
