"""The bridge with a stand-in for the engine, by the name that a scenario gives it."""

import sys
from typing import NoReturn

from support.engine_requests import SentJob
from support.fake_engine import DIE, HOLD, FakeEngine, Step, transcript, transcript_of

from qwen3_asr_mlx_runtime.__main__ import main as bridge_main
from qwen3_asr_mlx_runtime.engines.api import Post
from qwen3_asr_mlx_runtime.errors import DecodeFailed, ModelNotFound
from qwen3_asr_mlx_runtime.settings import Settings


class BrokenEngine(FakeEngine):
    def submit(self, job: SentJob) -> NoReturn:
        raise ZeroDivisionError


def _count(job: SentJob) -> Step:
    return transcript_of(job, f"{len(job.utterance.samples)} samples")


# What becomes of each job in turn, the last step repeated.
SCRIPTS: dict[str, list[Step]] = {
    "speak": [transcript("Seven three one.")],
    "count": [_count],
    "hold": [HOLD],
    "second_fails": [_count, DecodeFailed("the decoder failed"), _count],
    "dies": [DIE, _count],
    "loading": [_count],
    "no_model": [_count],
    "broken": [_count],
}
LOADS = {"loading": [HOLD], "no_model": [ModelNotFound("the model is not in the cache", offline=True), None]}


def main(engine: str) -> NoReturn:
    def make_engine(_settings: Settings, post: Post) -> FakeEngine:
        kind = BrokenEngine if engine == "broken" else FakeEngine
        return kind(post, SCRIPTS[engine], LOADS.get(engine, ()))

    bridge_main(make_engine)


if __name__ == "__main__":
    main(sys.argv.pop(1))
