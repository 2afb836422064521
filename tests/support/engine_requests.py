"""Requests to an engine, put together with the samples they are about; and the way back, for tests of an engine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from qwen3_asr_mlx_runtime.engines.api import (
    Align,
    AlignDecoder,
    Append,
    DecoderMode,
    Finalize,
    Forget,
    Outcome,
    Partial,
    Provisional,
    Request,
)
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, Samples, Utterance
from qwen3_asr_mlx_runtime.terms import Term


@dataclass(frozen=True, eq=False)
class SentPartial:
    """`samples` are those appended since the partial before, `given` is how many the engine has."""

    id: int
    audio_id: int
    samples: Samples
    given: int
    language: str | None
    context: str
    max_new_tokens: int
    languages: tuple[str, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, eq=False)
class SentJob:
    """A Finalize with all samples of its utterance. `partials`: how many came before it."""

    id: int
    audio_id: int
    utterance: Utterance
    decoder_mode: DecoderMode
    drift_guard: bool
    interactive: bool
    partials: int

    @property
    def lane(self) -> str | None:
        return "interactive" if self.interactive else None


@dataclass(frozen=True, eq=False)
class SentAlign:
    """An Align with all samples of its utterance."""

    id: int
    audio_id: int
    samples: Samples
    text: str
    language: str | None
    decoder: AlignDecoder


class Inbox:
    """What an engine has of open utterances. It holds a client of the engine to the contract."""

    def __init__(self) -> None:
        self.open: dict[int, list[Samples]] = {}
        self.ended: set[int] = set()
        self._at_partial: dict[int, list[int]] = {}  # chunks at each partial

    def append(self, request: Append) -> None:
        assert len(request.samples), "nothing appended"
        assert request.audio_id not in self.ended, "appended after its end"
        self.open.setdefault(request.audio_id, []).append(request.samples)

    def partial(self, request: Partial) -> SentPartial:
        chunks, before = self.open[request.audio_id], self._at_partial.setdefault(request.audio_id, [0])
        new = np.concatenate(chunks[before[-1] :])
        before.append(len(chunks))
        options = request.language, request.context, request.max_new_tokens, request.languages, request.terms
        return SentPartial(request.id, request.audio_id, new, sum(map(len, chunks)), *options)

    def finalize(self, request: Finalize) -> SentJob:
        partials = len(self._at_partial.get(request.audio_id, [0])) - 1
        job = request.job(np.concatenate([NO_SAMPLES, *self._end(request.audio_id)]))
        return SentJob(
            job.id, request.audio_id, job.utterance, job.decoder_mode, job.drift_guard, job.interactive, partials
        )

    def provisional(self, request: Provisional) -> SentJob:
        """The utterance stays open."""
        whole = np.concatenate([NO_SAMPLES, *self.open[request.audio_id]])
        assert request.samples <= len(whole), "more than the engine has"
        samples = np.concatenate([whole[: request.samples], request.tail])
        asked = request.language, request.context, request.max_new_tokens, request.logprobs, request.languages
        utterance = Utterance(samples, *asked, terms=request.terms)
        partials = len(self._at_partial.get(request.audio_id, [0])) - 1
        return SentJob(request.id, request.audio_id, utterance, "sequential", True, False, partials)

    def align(self, request: Align) -> SentAlign:
        samples = np.concatenate([NO_SAMPLES, *self._end(request.audio_id)])
        return SentAlign(request.id, request.audio_id, samples, request.text, request.language, request.decoder)

    def forget(self, request: Forget) -> int:
        self._end(request.audio_id)
        return request.audio_id

    def _end(self, audio_id: int) -> list[Samples]:
        self.ended.add(audio_id)
        self._at_partial.pop(audio_id, None)
        return self.open.pop(audio_id, [])


def partial(id: int, audio_id: int, samples: Samples, **options: object) -> Iterator[Request]:
    """More of an utterance, and a partial of it."""
    yield Append(audio_id, samples)
    yield Partial(id, audio_id, **options)


def finalize(id: int, audio_id: int, rest: Utterance, **options: object) -> Iterator[Request]:
    """The rest of an utterance, and its end."""
    if len(rest.samples):
        yield Append(audio_id, rest.samples)
    asked = rest.language, rest.context, rest.max_new_tokens, rest.logprobs, rest.languages
    yield Finalize(id, audio_id, *asked, terms=rest.terms, **options)


def transcribe(id: int, utterance: Utterance, **options: object) -> Iterator[Request]:
    """A whole utterance."""
    return finalize(id, -1 - id, utterance, **options)


def align(id: int, samples: Samples, text: str, **options: object) -> Iterator[Request]:
    """A text and its audio."""
    if len(samples):
        yield Append(-1 - id, samples)
    yield Align(id, -1 - id, text, **options)


def send(schedule: object, requests: Iterable[Request]) -> None:
    """To a schedule of the engine, as its thread does."""
    for request in requests:
        schedule.take(request)


def run(schedule: object) -> list[Outcome]:
    """All steps of a schedule: its outcomes, in their order."""
    outcomes = []
    while schedule.is_busy:
        outcomes += schedule.step()
    return outcomes
