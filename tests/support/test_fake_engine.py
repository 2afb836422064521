"""The engine of the session's tests aligns as the contract says."""

import queue

import numpy as np
from support.engine_requests import align, partial
from support.fake_engine import HOLD, WAIT, FakeEngine, words

from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, Cancel, Failed, PartialDone, Word
from qwen3_asr_mlx_runtime.errors import AlignerDownloading


def test_words_share_the_audio_evenly_and_cover_the_text() -> None:
    assert words(" One, two three. ", 48_000) == [
        Word(0, 1_000, 0, 6, 0.9),
        Word(1_000, 2_000, 6, 10, 0.9),
        Word(2_000, 3_000, 10, 17, 0.9),
    ]
    assert words(" ", 48_000) == []


def test_aligns_follow_their_script_and_end_their_utterance() -> None:
    outcomes: queue.SimpleQueue = queue.SimpleQueue()
    engine = FakeEngine(outcomes.put, align_script=[None, AlignerDownloading("planted"), HOLD])
    samples = np.zeros(16_000, np.float32)
    for request in [
        *partial(1, 7, samples),
        Align(2, 7, "one two"),
        *align(3, samples, "one"),
        *align(4, samples, "one"),
    ]:
        engine.send(request)
    engine.send(Cancel(4))
    found = [outcomes.get(timeout=WAIT) for _ in range(4)]
    engine.close()
    assert [type(each) for each in found[1:]] == [Aligned, Failed, Failed]
    assert isinstance(found[0], PartialDone | Failed)
    assert found[1].words == words("one two", 16_000)
    assert [each.error.code for each in found[2:]] == ["aligner_downloading", "cancelled"]
    assert [(each.id, len(each.samples), each.text) for each in engine.aligns] == [
        (2, 16_000, "one two"),
        (3, 16_000, "one"),
        (4, 16_000, "one"),
    ]
