"""The bridge with a stand-in for the engine, by the name that a scenario gives it."""

import sys
from typing import Any, NoReturn

from support.engine_requests import SentAlign, SentJob
from support.fake_engine import DIE, HOLD, FakeEngine, Step, repaired_of, transcript_of

from qwen3_asr_mlx_runtime.__main__ import main as bridge_main
from qwen3_asr_mlx_runtime.engines.api import Cancel, Post, Request
from qwen3_asr_mlx_runtime.errors import BridgeError, DecodeFailed, ModelNotFound
from qwen3_asr_mlx_runtime.settings import Settings


class BrokenEngine(FakeEngine):
    def submit(self, job: SentJob) -> NoReturn:
        raise ZeroDivisionError


class HeldWords(FakeEngine):
    """An Align ends when it is cancelled. A job without words waits until an Align was sent, so that its text says that
    another text waits only for its words."""

    def __init__(self, *arguments: Any, **scripts: Any) -> None:
        super().__init__(*arguments, **scripts)
        self._held: dict[int, SentAlign] = {}
        self._behind: list[SentJob] = []

    def send(self, request: Request) -> None:
        super().send(request)
        if isinstance(request, Cancel) and (align := self._held.pop(request.job_id, None)) is not None:
            self._inbox.put(align)

    def submit(self, job: SentJob) -> None:
        if _has_words(job) or self.aligns:
            super().submit(job)
        else:
            self._behind.append(job)

    def _start_align(self, align: SentAlign) -> None:
        self.aligns.append(align)
        self._held[align.id] = align
        behind, self._behind = self._behind, []
        for job in behind:
            super().submit(job)


class LateWords(FakeEngine):
    """With a script of held Aligns: each waits for a job without words."""

    def submit(self, job: SentJob) -> None:
        super().submit(job)
        if not _has_words(job):
            self.release()


def _has_words(job: SentJob) -> bool:
    return job.utterance.logprobs  # the confidence of a word is made of them


def _count(job: SentJob) -> Step:
    return transcript_of(job, f"{len(job.utterance.samples)} samples")


def _list_terms(job: SentJob) -> Step:
    return transcript_of(job, ", ".join(f"{term.text} {term.weight:g}" for term in job.utterance.terms))


def _echo(job: SentJob) -> Step:
    """Where words were given, they were echoed."""
    return transcript_of(job, "", context_echo=bool(job.utterance.context or job.utterance.terms))


# What becomes of each job in turn, the last step repeated.
SCRIPTS: dict[str, list[Step]] = {
    "speak": [transcript_of],
    "count": [_count],
    "terms": [_list_terms],
    "echo": [_echo],
    "hold": [HOLD],
    "second_fails": [_count, DecodeFailed("the decoder failed"), _count],
    "dies": [DIE, _count],
    "loops": [repaired_of],
    "loading": [_count],
    "no_model": [_count],
    "broken": [_count],
    "words_fail": [_count],
    "words_held": [_count],
    "words_late": [_count],
    "words_die": [_count],
}
LOADS = {"loading": [HOLD], "no_model": [ModelNotFound("the model is not in the cache", offline=True), None]}
ALIGNS: dict[str, list[str | BridgeError | None]] = {
    "words_fail": [DecodeFailed("the aligner failed")],
    "words_late": [HOLD],
    "words_die": [DIE, None],
}
KINDS = {"broken": BrokenEngine, "words_held": HeldWords, "words_late": LateWords}


def main(engine: str) -> NoReturn:
    def make_engine(_settings: Settings, post: Post) -> FakeEngine:
        kind = KINDS.get(engine, FakeEngine)
        return kind(post, SCRIPTS[engine], LOADS.get(engine, ()), align_script=ALIGNS.get(engine, ()))

    bridge_main(make_engine)


if __name__ == "__main__":
    main(sys.argv.pop(1))
