"""Answers of a server: the tokens of a text, loops, and bodies that are refused."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engines.remote.answers import ServedModels, chat_answer, decoded, transcription_answer
from qwen3_asr_mlx_runtime.engines.remote.exchange import Broken, NoAnswer
from qwen3_asr_mlx_runtime.errors import EngineIncompatible


def chat(tokens: list[tuple[bytes, int]], content: str | None = None, reason: str = "stop") -> bytes:
    """`tokens`: text and id of each, EOS included."""
    text = b"".join(text for text, _ in tokens if text != b"<eos>").decode("utf-8", "replace")
    logprobs = [{"token": "?", "logprob": -0.5, "bytes": [*text]} for text, _ in tokens]
    message = {"content": text if content is None else content}
    choice = {"message": message, "finish_reason": reason, "logprobs": {"content": logprobs}}
    body = {"choices": [{**choice, "token_ids": [id for _, id in tokens]}], "usage": {"prompt_tokens": 9}}
    return json.dumps(body).encode()


def test_each_token_ends_in_the_text_and_eos_has_none() -> None:
    answer = chat_answer(chat([(b"One", 1), (b" two", 2), (b"<eos>", 0)]))
    assert (answer.raw_text, answer.finish_reason, answer.prompt_tokens) == ("One two", "stop", 9)
    assert (answer.token_ids, answer.token_ends) == ((1, 2, 0), (3, 7, None))
    assert answer.logprobs == (-0.5,) * 3


def test_a_character_of_several_tokens_ends_behind_it() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    answer = chat_answer(chat([(b"a", 1), (first, 2), (second, 3), (b"<eos>", 0)]))
    assert (answer.raw_text, answer.token_ends) == ("aé", (1, 2, 2, None))


def test_without_the_texts_of_tokens_their_ends_are_not_known() -> None:
    answer = chat_answer(chat([(b"One", 1), (b"<eos>", 0)], content="Something else"))
    assert (answer.raw_text, answer.token_ends, answer.token_ids) == ("Something else", None, (1, 0))


def test_a_loop_ends_where_the_local_engine_ends_it() -> None:
    answer = chat_answer(chat([(b"a ", 1), *[(b"b ", 2)] * 30], reason="length"))
    assert (answer.finish_reason, answer.raw_text) == ("repetition", "a " + "b " * 20)
    assert len(answer.token_ids) == len(answer.logprobs) == len(answer.token_ends) == 21


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_request_that_the_server_has_ended_has_no_answer(reason: str) -> None:
    with pytest.raises(NoAnswer) as caught:
        chat_answer(chat([(b"One", 1)], reason=reason))
    assert caught.value.was_sent


def test_a_loop_may_have_been_ended_by_the_server() -> None:
    assert chat_answer(chat([(b"One", 1)], reason="repetition")).finish_reason == "repetition"


def test_no_probability_is_above_one() -> None:
    assert chat_answer(chat([(b"One", 1)], reason="length").replace(b"-0.5", b"1e300")).logprobs == (0.0,)


def events(*chunks: dict) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def test_a_transcription_is_the_sum_of_its_events() -> None:
    body = events(
        {"choices": [{"delta": {"content": "One"}}]},
        {"choices": [{"delta": {"content": " two"}, "finish_reason": "length"}]},
        {"choices": [], "usage": {"prompt_tokens": 35}},
    )
    answer = transcription_answer(body)
    assert (answer.raw_text, answer.finish_reason, answer.prompt_tokens) == ("One two", "length", 35)
    assert (answer.token_ids, answer.token_ends) == ((), None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"choices":[],"usage":{"prompt_tokens":1}}',
        chat([(b"One", 1)], reason="tool_calls"),
        chat([(b"One", 1)]).replace(b"[79,", b"[256,"),
        chat([(b"One", 1)]).replace(b'"token_ids": [1]', b'"token_ids": [1, 2]'),
        chat([(b"One", 1)]).replace(b"-0.5", b'"low"'),
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_named_and_not_quoted(body: bytes) -> None:
    with pytest.raises(EngineIncompatible, match="expected an answer as vLLM") as caught:
        chat_answer(body)
    assert "One" not in caught.value.message


def test_a_failure_behind_the_first_events_is_the_server_s() -> None:
    begun = {"choices": [{"delta": {"content": "One"}}]}
    with pytest.raises(Broken) as caught:
        transcription_answer(events(begun, {"error": {"message": "One", "type": "InternalServerError", "code": 503}}))
    assert caught.value.status == 503


def test_events_without_an_end_are_no_answer() -> None:
    for body in (events(), events({"choices": [{"delta": {"content": "One"}}]}), b"data: {"):
        with pytest.raises(EngineIncompatible):
            transcription_answer(body)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_raise_nothing_else(body: bytes) -> None:
    for read in (chat_answer, transcription_answer, lambda body: decoded(body, ServedModels)):
        for wrapped in (body, b"data: " + body):
            with suppress(EngineIncompatible):
                read(wrapped)
