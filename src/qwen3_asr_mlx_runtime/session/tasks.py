"""One piece of audio on its way to a transcript, and how it is to be decoded."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import numpy as np

from qwen3_asr_mlx_runtime.engines.api import DecoderMode, FinalPolicy, Job
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.languages import AUTO
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES, Decoding
from qwen3_asr_mlx_runtime.settings import Settings

Result = Transcript | BridgeError
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode, with nothing left open."""

    max_new_tokens: int
    language: str | None
    context: str
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    logprobs: bool = False

    def serve(self, asked: "Options") -> bool:
        """Whether what was decoded with these need not be decoded again: the mode alone changes no text, but in a batch
        without the guard."""
        alike = (self.max_new_tokens, self.language, self.context) == (
            asked.max_new_tokens,
            asked.language,
            asked.context,
        )
        return alike and self.logprobs >= asked.logprobs and self._is_exact >= asked._is_exact

    @property
    def _is_exact(self) -> bool:
        """Whether the text is that of `sequential`."""
        return self.drift_guard or self.decoder_mode == "sequential"


def resolve(settings: Settings, asked: Iterable[Decoding]) -> Options:
    """Each option as the first of `asked` that gives it says, or else as the process's settings do."""
    process = Decoding(
        max_new_tokens=settings.max_new_tokens,
        language=settings.language or AUTO,
        context=settings.context,
        decoder_mode=DECODER_MODES[0],
        drift_guard=True,
        logprobs=False,
    )
    said = [*asked, process]
    language = _first(one.language for one in said)
    return Options(
        max_new_tokens=_first(one.max_new_tokens for one in said),
        language=None if language == AUTO else language,
        context=_first(one.context for one in said),
        decoder_mode=cast(DecoderMode, _first(one.decoder_mode for one in said)),
        drift_guard=_first(one.drift_guard for one in said),
        logprobs=_first(one.logprobs for one in said),
    )


def _first(given: Iterable[Value | None]) -> Value:
    return next(value for value in given if value is not None)


def rms_dbfs(samples: Samples) -> float | None:
    """How loud it is on the whole, 0 for a square wave at full scale; None for digital silence, which has no level."""
    energy = float(np.einsum("i,i->", samples, samples, dtype=np.float64))  # np.dot would start threads of a BLAS
    power = energy / max(1, len(samples))
    return round(10 * math.log10(power), 1) if power else None


class Owner(Protocol):
    """Who is told what becomes of a task: that its file was read, and, once, its outcome."""

    def was_read(self, task: "Task") -> None: ...

    def settled(self, task: "Task") -> None: ...


@dataclass(slots=True, eq=False)
class Task:
    """Audio from acceptance to its one outcome. `lane` is its stream; None: a file that no stream waits for.

    `path` is None for audio that came over the wire. `samples` are None before they are read and after the outcome.
    `expires`: the time after which it fails with `timeout`. `rms_dbfs`: of what was transcribed. `speech`: the number
    under which the engine has listened to it, until it has the job too.
    """

    id: int
    owner: Owner
    options: Options
    lane: str | None = None
    path: str | None = None
    samples: Samples | None = None
    expires: float | None = None
    speech: int | None = None
    final_policy: FinalPolicy = "guarded"
    wanted: bool = False
    warnings: tuple[str, ...] = ()
    read_seconds: float | None = None
    outcome: Result | None = None
    rms_dbfs: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.samples is None else len(self.samples) / SAMPLE_RATE

    @property
    def total_seconds(self) -> float | None:
        """The work spent on it: reading, features, tower and decoder; not the waiting."""
        if not isinstance(self.outcome, Transcript):
            return None
        measured = [s for s in (self.read_seconds, self.outcome.profile.total_seconds) if s is not None]
        return round(sum(measured), 4) if measured else None

    def job(self) -> Job:
        """What the engine gets. The samples are there."""
        if self.samples is None:
            raise ValueError("audio that was not read cannot be decoded")
        utterance = Utterance(
            samples=self.samples,
            language=self.options.language,
            context=self.options.context,
            max_new_tokens=self.options.max_new_tokens,
            logprobs=self.options.logprobs,
            warnings=self.warnings,
        )
        return Job(
            id=self.id,
            utterance=utterance,
            decoder_mode=self.options.decoder_mode,
            drift_guard=self.options.drift_guard,
            live=self.lane is not None,
            speech=self.speech,
            final_policy=self.final_policy,
        )
