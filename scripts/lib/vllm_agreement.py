"""Compares what the demonstration checkpoint writes here and in a vLLM that serves it, clip by clip.

    scripts/reference --vllm [--split test] [--seed 2026] [--scale 1.0]

The clips are those of scripts/demo/evaluate.py, with its options. Both get the same PCM16 and decode greedily in
float32, this runtime one clip after the other, vLLM eight at a time. Compared is all that the model wrote, its language
tag too, before any parser. Prints a Markdown table with a row for each set. A clip can differ in both, tag and text;
differing clips have their numbers, from 0 on, and the others the largest difference of a token's log-probability.

The exit status is 1 where a clip differs, or a log-probability by more than the parity tests allow.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
import soundfile
from reference.activations import Array
from reference.differences import LOGPROBS_LIMIT, max_abs
from support.real_vllm import real_vllm

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.remote.answers import ServedModels, decoded
from qwen3_asr_mlx_runtime.engines.remote.server import chat_request
from qwen3_asr_mlx_runtime.engines.remote.wav import wav_bytes
from qwen3_asr_mlx_runtime.engines.transcript import ASR_TEXT
from qwen3_asr_mlx_runtime.engines.utterance import Utterance

ROOT = Path(__file__).resolve().parents[2]
AT_A_TIME = 8
ANSWER_SECONDS = 300
HEADER = (
    "| set | equal | language tag differs | text differs | differing clips | log-probability, max abs |\n"
    "|---|---|---|---|---|---|"
)


class Written(NamedTuple):
    """All that the model writes, and the natural-log probability of each token: float64 (T,)."""

    text: str
    logprobs: Array


Write = Callable[[Utterance], Written]


@dataclass
class Count:
    """Of a set: clips; those whose language tag or text differs; the numbers of these; the largest difference of a
    log-probability in the others."""

    clips: int = 0
    languages: int = 0
    texts: int = 0
    differing: list[int] = field(default_factory=list)
    apart: float = 0.0

    def add(self, ours: Written, theirs: Written) -> None:
        (our_tag, our_text), (their_tag, their_text) = parts(ours.text), parts(theirs.text)
        self.languages += our_tag != their_tag
        self.texts += our_text != their_text
        if (our_tag, our_text) == (their_tag, their_text):
            self.apart = max(self.apart, max_abs(ours.logprobs, theirs.logprobs))
        else:
            self.differing.append(self.clips)
        self.clips += 1

    @property
    def agrees(self) -> bool:
        return not self.differing and self.apart <= LOGPROBS_LIMIT

    def row(self, name: str) -> str:
        equal, numbers = self.clips - len(self.differing), ", ".join(map(str, self.differing))
        return f"| {name} | {equal} of {self.clips} | {self.languages} | {self.texts} | {numbers} | {self.apart:.1e} |"


def count(ours: Write, theirs: Write, utterances: Iterable[Utterance]) -> Count:
    """`theirs` is called by several threads. An error of either ends it."""
    found, clips, pool = Count(), [*map(as_pcm16, utterances)], ThreadPoolExecutor(AT_A_TIME)
    try:
        for utterance, expected in zip(clips, pool.map(theirs, clips), strict=True):
            found.add(ours(utterance), expected)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def parts(written: str) -> tuple[str | None, str]:
    """The language tag, None where none is written, and the text."""
    tag, separator, text = written.partition(ASR_TEXT)
    return (tag, text) if separator else (None, written)


def as_pcm16(utterance: Utterance) -> Utterance:
    """As it crosses to the server."""
    samples, _ = soundfile.read(BytesIO(wav_bytes(utterance.samples)), dtype="float32")
    return replace(utterance, samples=samples)


def local(recognizer: Recognizer) -> Write:
    def write(utterance: Utterance) -> Written:
        transcript = recognizer.transcribe(replace(utterance, logprobs=True))
        return Written(transcript.raw_text, np.array(transcript.logprobs))

    return write


def served(url: str) -> Write:
    """By the server at `url`, which has one model. A refusal raises httpx2.HTTPStatusError."""
    [model] = decoded(httpx2.get(f"{url}/v1/models").content, ServedModels).data

    def write(utterance: Utterance) -> Written:
        request = chat_request(model, utterance)
        response = httpx2.post(f"{url}/v1/chat/completions", json=request, timeout=ANSWER_SECONDS)
        [choice] = response.raise_for_status().json()["choices"]
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
        return Written(choice["message"]["content"] or "", np.array(logprobs))

    return write


@guarded("reference --vllm")
def main() -> int:
    from testsets import TAKES, test_sets

    parser = argparse.ArgumentParser(
        prog="scripts/reference --vllm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=sorted(TAKES), default="test")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks the sets (default: %(default)s)")
    options = parser.parse_args()
    data = Path(os.environ.get("QWEN3_ASR_MLX_TEST_DATA") or ROOT.parent / "shared" / "data")
    sets = [*test_sets(data, options.split, options.seed, options.scale)]
    ours = local(Recognizer.load("demo", dtype="float32"))
    # The sets whose language is given need a server that takes the prompt from the request.
    theirs = served(real_vllm("--trust-request-chat-template").url)
    print(HEADER, flush=True)
    status = 0
    for name, cases in sets:
        found = count(ours, theirs, (case.utterance for case in cases))
        print(found.row(name), flush=True)
        status = status if found.agrees else 1
    return status


if __name__ == "__main__":
    sys.exit(main())
