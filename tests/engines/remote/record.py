"""Records what a real vLLM answers about the examples: recorded.json, which the tests play.

scripts/test-vllm --record
"""

import asyncio
import json
from collections.abc import Iterator

import numpy as np
from support.real_vllm import real_vllm
from support.vllm_front import RECORDED, Answers, Front, Reply, asked, clips, forwarding

from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.engines.remote.exchange import Exchange
from qwen3_asr_mlx_runtime.engines.remote.server import Server
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance

STEP = SAMPLE_RATE // 2
CHUNK_SECONDS = 2.0  # --max-chunk-seconds of the test of long audio
CONTEXT = "names"
GETS = ("/health", "/version", "/v1/models")


def samples_of(pcm: bytes) -> Samples:
    return (np.frombuffer(pcm, "<i2") / 32768).astype(np.float32)


def utterances() -> Iterator[Utterance]:
    audio = {name: samples_of(pcm) for name, pcm in clips().items() if name != "probe"}
    for samples in audio.values():
        yield Utterance(samples)
    for name in ("english-ten.wav", "sample.wav"):
        for stop in range(STEP, len(audio[name]), STEP):
            yield Utterance(audio[name][:stop])
    for start, stop in split_at_quiet(audio["english-ten.wav"], CHUNK_SECONDS):
        yield Utterance(audio["english-ten.wav"][start:stop])
    sample = audio["sample.wav"]
    yield Utterance(audio["silence"], max_new_tokens=4)  # a scenario of the demonstration checkpoint
    yield Utterance(sample, context=CONTEXT)
    yield Utterance(sample, max_new_tokens=4)
    for language in ("English", "Arabic"):
        yield Utterance(sample, language)
    yield Utterance(sample, "English", CONTEXT)


class Recorder:
    def __init__(self, answers: Answers) -> None:
        self.gets: dict[str, str] = {}
        self.answers: list[dict] = []
        self.refused_template: dict | None = None
        self._answers = answers
        self._clips = clips()

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        reply = self._answers(method, path, headers, body)
        text = reply.body.decode("utf-8")
        entry = {"status": reply.status, "content_type": reply.content_type, "body": text}
        if method == "GET":
            self.gets[path] = text
        elif reply.status == 400:
            self.refused_template = entry
        else:
            request = asked(path, headers, body)
            name, start = self._place(request.pcm)
            what = {"path": path, "audio": name, "start": start, "samples": len(request.pcm) // 2}
            how = {"context": request.context, "language": request.language, "max_tokens": request.max_tokens}
            self.answers.append({**what, **how, **entry})
        return reply

    def _place(self, pcm: bytes) -> tuple[str, int]:
        return next((name, place // 2) for name, clip in self._clips.items() if (place := clip.find(pcm)) >= 0)


async def record(url: str) -> dict:
    recorder = Recorder(forwarding(url))
    front = Front(recorder)
    exchange = Exchange(None)
    server = Server(front.url, exchange)
    await server.check_health()
    await server.identify("served")
    for utterance in utterances():
        await server.transcribe(utterance)
    await exchange.close()
    front.stop()
    assert {*recorder.gets} == {*GETS}
    assert recorder.refused_template is not None, "the server takes templates: start it without that"
    return {"get": recorder.gets, "refused_template": recorder.refused_template, "answers": recorder.answers}


def main() -> None:
    recorded = asyncio.run(record(real_vllm().url))
    RECORDED.write_text(json.dumps(recorded, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
