"""What a vLLM server answers, as types. Whatever is not one of these raises EngineIncompatible; a request that the
server has ended, as where it shuts down, raises NoAnswer."""

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import msgspec

from qwen3_asr_mlx_runtime.engines.remote.exchange import Broken, NoAnswer
from qwen3_asr_mlx_runtime.engines.transcript import SEVERITY, loops
from qwen3_asr_mlx_runtime.errors import EngineIncompatible

VLLM = "expected an answer as vLLM from 0.17 on gives it"
_EVENT = b"data: "
_DONE = b"[DONE]"
_UNFINISHED = ("abort", "error")
_SERVER_ERROR = 500
Body = TypeVar("Body")


class Version(msgspec.Struct, frozen=True):
    version: str


class ServedModel(msgspec.Struct, frozen=True):
    """`max_model_len`: positions of prompt and text together."""

    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class ServedModels(msgspec.Struct, frozen=True):
    data: list[ServedModel]


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int | None = None


class _TokenLogprob(msgspec.Struct, frozen=True):
    """`bytes`: of the token's text; a special token may have some although the content lacks them."""

    logprob: float
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[_TokenLogprob]


class _Message(msgspec.Struct, frozen=True):
    content: str | None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None
    logprobs: _Logprobs
    token_ids: list[int]


class ChatCompletion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: Usage


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _ChunkChoice(msgspec.Struct, frozen=True):
    delta: _Delta
    finish_reason: str | None = None


class _StreamError(msgspec.Struct, frozen=True):
    code: int = _SERVER_ERROR


class _Chunk(msgspec.Struct, frozen=True):
    """`error`: in place of the rest, of a server that has failed since it began to answer."""

    choices: list[_ChunkChoice] = []
    usage: Usage | None = None
    error: _StreamError | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The decoded text of one segment.

    `token_ids` end with the EOS token if there was one; `logprobs`: natural logarithms, one for each; both are empty
    where the server tells none. `token_ends`: where in `raw_text` each token ends, in code points, None for one without
    text; None where that is not known. `finish_reason`: `stop`, `length` or `repetition`. `prompt_tokens`: of the whole
    prompt, by the server's count.
    """

    raw_text: str
    finish_reason: str
    prompt_tokens: int
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    token_ends: tuple[int | None, ...] | None = None


def decoded(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
        raise EngineIncompatible(f"{VLLM}: {reason}") from None


def chat_answer(body: bytes) -> Answer:
    completion = decoded(body, ChatCompletion)
    if len(completion.choices) != 1:
        raise EngineIncompatible(f"{VLLM}: {len(completion.choices)} choices")
    choice = completion.choices[0]
    tokens, ids = choice.logprobs.content, tuple(choice.token_ids)
    if len(tokens) != len(ids):
        raise EngineIncompatible(f"{VLLM}: {len(tokens)} log-probabilities of {len(ids)} tokens")
    reason = _reason(choice.finish_reason)
    raw = choice.message.content or ""
    answer = Answer(raw, reason, completion.usage.prompt_tokens, ids, tuple(min(each.logprob, 0.0) for each in tokens))
    texts = [bytes(each.bytes or ()) for each in tokens]
    if reason == "stop" and texts:
        texts[-1] = b""  # EOS
    ends = _ends(texts)
    if _text(texts) != raw:
        return answer
    return _without_loop(replace(answer, token_ends=ends), texts)


def transcription_answer(body: bytes) -> Answer:
    """Of server-sent events."""
    text, reason, usage = "", None, None
    for line in body.splitlines():
        if not line.startswith(_EVENT) or line.removeprefix(_EVENT) == _DONE:
            continue
        chunk = decoded(line.removeprefix(_EVENT), _Chunk)
        if chunk.error is not None:
            raise Broken(chunk.error.code)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    if usage is None:
        raise EngineIncompatible(f"{VLLM}: no usage")
    return Answer(text, _reason(reason), usage.prompt_tokens)


def _reason(reason: str | None) -> str:
    if reason in _UNFINISHED:
        raise NoAnswer("it has ended the request", was_sent=True)
    if reason not in SEVERITY:
        raise EngineIncompatible(f"{VLLM}: a finish reason that is none of {', '.join(SEVERITY)}")
    return reason


def _text(texts: Iterable[bytes]) -> str:
    return b"".join(texts).decode("utf-8", "replace")


def _ends(texts: Sequence[bytes]) -> tuple[int | None, ...]:
    """Where each ends in the text of all; one that ends within a character, behind it."""
    ends, written, decoder = list[int | None](), 0, codecs.getincrementaldecoder("utf-8")("replace")
    for text in texts:
        written += len(decoder.decode(text))
        ends.append(written + bool(decoder.getstate()[0]) if text else None)
    return tuple(ends)


def _without_loop(answer: Answer, texts: Sequence[bytes]) -> Answer:
    """End it where this runtime's own decoder would have: once it loops."""
    for count in range(1, len(texts) + 1):
        if loops(answer.token_ids[:count]):
            return replace(
                answer,
                raw_text=_text(texts[:count]),
                finish_reason="repetition",
                token_ids=answer.token_ids[:count],
                logprobs=answer.logprobs[:count],
                token_ends=_ends(texts[:count]),
            )
    return answer
