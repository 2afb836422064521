"""One vLLM server: what it is, and how it is asked for the text of a segment."""

import base64
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count, token_budget
from qwen3_asr_mlx_runtime.engines.remote.answers import (
    Answer,
    ServedModel,
    ServedModels,
    Version,
    chat_answer,
    decoded,
    transcription_answer,
)
from qwen3_asr_mlx_runtime.engines.remote.exchange import Broken, Exchange, NoAnswer
from qwen3_asr_mlx_runtime.engines.remote.wav import wav_bytes
from qwen3_asr_mlx_runtime.engines.transcript import ASR_TEXT
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import EngineIncompatible, EngineRejected, UnsupportedByEngine
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.model_name import SERVED

HEALTH_READ_SECONDS = 10.0
READ_SECONDS = 120.0  # and the length of the audio: a server that is busy, or compiles its first answer
ForcedLanguage = Literal["chat_template", "transcriptions"]
_PROMPT_TOKENS = 32  # of a prompt, at most, beside its audio and its context
_PROBE_TOKENS = 32
_PROBE_LANGUAGE = "English"
_BAD_REQUEST = 400
_ISO_639_1 = 2  # letters
_CONTROL = re.compile(r"<(?=\||asr_text>)")
# Of a server that takes templates from requests: this runtime's prompt, which names the language.
_TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}{{- '<|im_start|>assistant\nlanguage LANGUAGE<asr_text>' -}}"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """`model`: as it is served. `forced_language`: how this server is made to write in a named language; None where it
    is not. `takes_both`: a context beside it, too."""

    name: str
    version: str | None
    model: ServedModel
    forced_language: ForcedLanguage | None
    takes_both: bool


class Server:
    """`url`: without a slash at its end. `facts`: None until it has been probed."""

    def __init__(self, url: str, exchange: Exchange) -> None:
        self.url = url
        self.facts: Facts | None = None
        self._exchange = exchange

    async def check_health(self) -> None:
        """Raises what `Exchange` raises."""
        await self._get("/health")

    async def identify(self, wanted: str) -> None:
        """Look for the model, and probe it where that or the server's version is new or not known. Raises
        EngineIncompatible, and what `Exchange` raises."""
        known = self.facts
        models = decoded(await self._get("/v1/models"), ServedModels).data
        model = _chosen(models, wanted if known is None else known.model.id)
        version = await self._version()
        if known is None or version is None or (known.model, known.version) != (model, version):
            self.facts = await self._probe(model, version)

    def writes_in(self, utterance: Utterance) -> bool:
        """Whether it can be made to write in the language of an utterance."""
        facts, language = self.facts, utterance.language
        if language is None:
            return True
        if facts is None or facts.forced_language is None or (utterance.context and not facts.takes_both):
            return False
        # The path of transcriptions knows languages by ISO 639-1, which has no code for Cantonese and Filipino.
        return facts.forced_language == "chat_template" or len(LANGUAGE_CODES[language]) == _ISO_639_1

    async def _get(self, path: str) -> bytes:
        return await self._exchange.get(self.url + path, HEALTH_READ_SECONDS)

    async def transcribe(self, utterance: Utterance) -> Answer:
        """The text of one segment. Raises UnsupportedByEngine too."""
        if self.facts is None:
            raise NoAnswer("it was not tried yet")
        if not self.writes_in(utterance):
            message = "the server cannot be made to write in this `language`, or not beside a `context`: docs/remote.md"
            raise UnsupportedByEngine(message, feature="language", language=utterance.language)
        if utterance.language is not None and self.facts.forced_language == "transcriptions":
            return await self._transcription(self.facts.model, utterance)
        return await self._chat(self.facts.model, utterance)

    async def _chat(self, model: ServedModel, utterance: Utterance) -> Answer:
        message = chat_request(model, utterance)
        body = await self._exchange.post_json(self.url + "/v1/chat/completions", message, _patience(utterance))
        return chat_answer(body)

    async def _transcription(self, model: ServedModel, utterance: Utterance) -> Answer:
        fields = {
            "model": model.id,
            "response_format": "json",
            "stream": "true",
            "stream_include_usage": "true",
            "temperature": "0",
            "repetition_penalty": "1",
            "max_completion_tokens": str(_budget(model, utterance)),
        }
        if utterance.context:
            fields["prompt"] = _plain(utterance.context)
        if utterance.language is not None:  # older ones know it by the second name, and ignore the first
            fields["language"] = fields["to_language"] = LANGUAGE_CODES[utterance.language]
        wav = wav_bytes(utterance.samples)
        url = self.url + "/v1/audio/transcriptions"
        return transcription_answer(await self._exchange.post_form(url, fields, wav, _patience(utterance)))

    async def _first_answer(self, model: ServedModel, utterance: Utterance) -> Answer:
        """Raises EngineIncompatible for a model that takes no audio, or is no Qwen3-ASR."""
        try:
            answer = await self._chat(model, utterance)
        except EngineRejected as error:
            if error.data["status"] != _BAD_REQUEST:
                raise
            answer = None
        if answer is None or ASR_TEXT not in answer.raw_text:
            message = f"the model {model.id} does not answer as Qwen3-ASR does: start the server with one that is"
            raise EngineIncompatible(message, model=model.id)
        return answer

    async def _version(self) -> str | None:
        with suppress(EngineIncompatible, EngineRejected):  # some proxies do not pass it on
            return decoded(await self._get("/version"), Version).version
        return None

    async def _probe(self, model: ServedModel, version: str | None) -> Facts:
        """Raises EngineIncompatible where the model answers as no Qwen3-ASR does."""
        name = model.owned_by or "vllm"
        free = probe()
        named = replace(free, language=_PROBE_LANGUAGE)
        answer = await self._first_answer(model, free)
        # By what it does: a prompt that names a language is longer.
        with suppress(EngineRejected, EngineIncompatible, Broken):
            forced = await self._chat(model, named)
            if forced.prompt_tokens > answer.prompt_tokens and ASR_TEXT not in forced.raw_text:
                return Facts(name, version, model, "chat_template", takes_both=True)
        with suppress(EngineRejected, EngineIncompatible, Broken):
            without = await self._transcription(model, free)
            forced = await self._transcription(model, named)
            if forced.prompt_tokens > without.prompt_tokens:
                both = await self._transcription(model, replace(named, context=_PROBE_LANGUAGE))
                return Facts(name, version, model, "transcriptions", both.prompt_tokens > forced.prompt_tokens)
        return Facts(name, version, model, None, takes_both=False)


def probe() -> Utterance:
    """A second of noise, which has no text."""
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * np.float32(0.02)
    return Utterance(noise, max_new_tokens=_PROBE_TOKENS)


def chat_request(model: ServedModel, utterance: Utterance) -> dict[str, Any]:
    """The message to `/v1/chat/completions`, as JSON."""
    audio = base64.b64encode(wav_bytes(utterance.samples)).decode("ascii")
    turns: list[dict[str, Any]] = []
    if utterance.context:
        turns.append({"role": "system", "content": _plain(utterance.context)})
    part = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{audio}"}}
    turns.append({"role": "user", "content": [part]})
    message = {
        "model": model.id,
        "messages": turns,
        "temperature": 0,
        "repetition_penalty": 1,
        "max_tokens": _budget(model, utterance),
        "logprobs": True,
        "return_token_ids": True,
    }
    if utterance.language is not None:
        if not utterance.context:
            turns.insert(0, {"role": "system", "content": ""})
        message["chat_template"] = _TEMPLATE.replace("LANGUAGE", utterance.language)
    return message


def _plain(context: str) -> str:
    """Control tokens in it stay text, and half a surrogate pair becomes a question mark."""
    return _CONTROL.sub("< ", context).encode("utf-8", "replace").decode("utf-8")


def _budget(model: ServedModel, utterance: Utterance) -> int:
    """The budget of tokens, within the positions that the server has for prompt and text."""
    likely = token_budget(utterance.seconds)
    wanted = utterance.max_new_tokens or likely
    if model.max_model_len is None:
        return wanted
    audio = audio_token_count(frame_count(len(utterance.samples)))
    room = model.max_model_len - audio - len(utterance.context.encode("utf-8", "replace")) - _PROMPT_TOKENS
    return min(wanted, max(room, min(wanted, likely)))


def _patience(utterance: Utterance) -> float:
    return READ_SECONDS + utterance.seconds


def _chosen(models: list[ServedModel], wanted: str) -> ServedModel:
    """The model of this name, or the only one if any will do."""
    named = [model for model in models if model.id == wanted]
    found = named or (models if wanted == SERVED else [])
    if len(found) == 1:
        return found[0]
    names = ", ".join(model.id for model in models[:8]) or "none"
    what = "any one model" if wanted == SERVED else f"the model {wanted}"
    raise EngineIncompatible(f"expected {what}, the server has {names}: name one with --model", models=names)
