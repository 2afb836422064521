"""What a server is asked for."""

import numpy as np
import pytest

from qwen3_asr_mlx_runtime.engines.remote.answers import ServedModel
from qwen3_asr_mlx_runtime.engines.remote.server import chat_request
from qwen3_asr_mlx_runtime.engines.remote.wav import wav_bytes
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance

SECONDS, AUDIO, LIKELY, PROMPT = 10, 130, 152, 32  # of audio, and in tokens


def budget(max_model_len: int | None, max_new_tokens: int = 0, context: str = "") -> int:
    utterance = Utterance(np.zeros(SECONDS * SAMPLE_RATE, np.float32), context=context, max_new_tokens=max_new_tokens)
    return chat_request(ServedModel("m", max_model_len=max_model_len), utterance)["max_tokens"]


@pytest.mark.parametrize(
    ("max_model_len", "max_new_tokens", "tokens"),
    [
        (None, 0, LIKELY),
        (None, 9999, 9999),
        (2048, 9999, 2048 - AUDIO - PROMPT),
        (2048, 4, 4),
        (200, 0, LIKELY),  # the server says that it is too long: text is not cut unseen
        (200, 4, 4),
    ],
)
def test_the_budget_is_what_was_asked_for_within_the_positions_of_the_server(
    max_model_len: int | None, max_new_tokens: int, tokens: int
) -> None:
    assert budget(max_model_len, max_new_tokens) == tokens


def test_a_context_takes_positions() -> None:
    assert budget(2048, 9999, "né") == 2048 - AUDIO - PROMPT - 3


def test_decoding_is_greedy_and_tells_its_tokens() -> None:
    asked = chat_request(ServedModel("m"), Utterance(np.zeros(SAMPLE_RATE, np.float32)))
    fixed = {"temperature": 0, "repetition_penalty": 1, "logprobs": True, "return_token_ids": True, "model": "m"}
    assert fixed.items() <= asked.items()


def test_pcm_crosses_as_it_was() -> None:
    pcm = np.arange(-32768, 32768, dtype="<i2")
    assert wav_bytes((pcm / 32768).astype(np.float32))[44:] == pcm.tobytes()


def test_what_is_louder_than_pcm_is_clipped() -> None:
    assert [*np.frombuffer(wav_bytes(np.array([9.0, -9.0], np.float32))[44:48], "<i2")] == [32767, -32768]


@pytest.mark.parametrize(("count", "sent"), [(201, 400), (399, 400), (400, 400), (401, 401)])
def test_silence_follows_audio_that_is_too_short_for_the_server(count: int, sent: int) -> None:
    pcm = np.frombuffer(wav_bytes(np.ones(count, np.float32))[44:], "<i2")
    assert (len(pcm), np.count_nonzero(pcm)) == (sent, count)
