"""What a line costs until it is answered: a short one that makes much work may not come in without end."""

import json
import os
import queue

import pytest

from qwen3_asr_mlx_runtime.bridge.input_allowance import AUDIO_OVERHEAD_BYTES, LINE_OVERHEAD_BYTES, InputAllowance
from qwen3_asr_mlx_runtime.bridge.stdin_reader import EndOfInput, StdinReader

WAIT = 60


def sizes(*requests: dict) -> list[int]:
    """What is taken from the allowance for each."""
    read_end, write_end = os.pipe()
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    StdinReader(read_end, inbox.put, InputAllowance()).start()
    os.write(write_end, b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    os.close(write_end)
    received = [inbox.get(timeout=WAIT) for _ in requests]
    assert isinstance(inbox.get(timeout=WAIT), EndOfInput)
    os.close(read_end)
    return [one.size for one in received]


@pytest.mark.parametrize(
    ("request_", "items"),
    [
        ({"type": "ping"}, 0),
        ({"type": "no such thing"}, 0),
        ({"type": "audio_chunk", "pcm16": "AAA="}, 0),
        ({"type": "end_utterance", "pcm16": "AAA="}, 1),
        ({"type": "vad_boundary"}, 1),
        ({"type": "batch_transcribe", "audio": ["a"] * 256}, 256),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_line_costs_its_length_and_what_it_makes_to_be_kept(request_: dict, items: int) -> None:
    bare = len(json.dumps(request_)) + LINE_OVERHEAD_BYTES
    assert sizes(request_) == [bare + items * AUDIO_OVERHEAD_BYTES]
