"""The interface between session and engine: requests go in, outcomes come back.

The bridge holds an `Engine` and never more of it than this; a fake engine in tests has the same face.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from qwen3_asr_mlx_runtime.engines.info import EngineInfo
from qwen3_asr_mlx_runtime.engines.profile import Memory
from qwen3_asr_mlx_runtime.engines.transcript import Hypothesis, Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Samples, Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.settings import AlignDecoder
from qwen3_asr_mlx_runtime.terms import Term

DecoderMode = Literal["sequential", "batched"]
LoadSource = Literal["cold", "warm", "none"]


class Load(msgspec.Struct, frozen=True, tag=True):
    """Load the model, or report again what is loaded. Answered by Loaded or LoadFailed."""


class Append(msgspec.Struct, frozen=True, tag=True, eq=False):
    """More samples of an utterance: float32 (N,), N at least 1. The first opens it. Not answered.

    `audio_id` is unique in the process. The engine owns the samples until a Finalize, an Align or a Forget.
    """

    audio_id: int
    samples: Samples


class Partial(msgspec.Struct, frozen=True, tag=True):
    """Compute a hypothesis of an open utterance, when nothing more urgent is to be done. Answered by PartialDone or
    Failed; by Failed(Cancelled) as soon as a Finalize or a Forget ends the utterance.

    `id` is unique among jobs. Of one utterance no more than one waits for its outcome. `language`, `context`,
    `max_new_tokens`, `languages` and `terms` as in Utterance: always the same for one utterance.
    """

    id: int
    audio_id: int
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0
    languages: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()


class Finalize(msgspec.Struct, frozen=True, tag=True):
    """End an open utterance and transcribe it. Answered by Finished or Failed.

    `id` is unique among jobs; the outcome carries it back. `language` to `terms` as in Utterance, `decoder_mode`,
    `drift_guard` and `interactive` as in Job. With the options of its partials, the latest text is a draft that the
    final verifies.
    """

    id: int
    audio_id: int
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0
    logprobs: bool = False
    languages: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    interactive: bool = False

    def job(self, samples: Samples) -> "Job":
        """With the samples of its utterance."""
        asked = (self.language, self.context, self.max_new_tokens, self.logprobs, self.languages)
        utterance = Utterance(samples, *asked, terms=self.terms)
        return Job(self.id, utterance, self.decoder_mode, self.drift_guard, self.interactive)


class Provisional(msgspec.Struct, frozen=True, tag=True, eq=False):
    """Transcribe an open utterance as if it ended here, when no final and no Align waits; it stays open. Answered by
    Finished or Failed, before any other outcome of the utterance is computed.

    It has the first `samples` samples, and behind them `tail`: what a resampler gives at its end. The other fields as
    in Finalize; the text is that of `sequential`. A Finalize of the utterance, or a Forget, ends it: Failed(Cancelled).
    """

    id: int
    audio_id: int
    samples: int
    tail: Samples
    language: str | None = None
    context: str = ""
    max_new_tokens: int = 0
    logprobs: bool = False
    languages: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()


class Promote(msgspec.Struct, frozen=True, tag=True):
    """The utterance of a Provisional has ended: it goes before other work as a Finalize does. Not answered."""

    job_id: int


class Align(msgspec.Struct, frozen=True, tag=True):
    """End an open utterance and find when each word of its `text` is said. Answered by Aligned or Failed.

    The utterance is one segment, or as long. `id` is unique among jobs. `language`: a canonical name, or several joined
    by commas; None if it is unknown. `decoder`: `viterbi` gives every word a time of its own within the audio,
    `official` the times of qwen-asr. Fails with LanguageUnsupported, TooManyUnits, or AlignerDownloading while the
    aligner is fetched; with a ModelError if it cannot be loaded, which the next Align tries again.
    """

    id: int
    audio_id: int
    text: str
    language: str | None = None
    decoder: AlignDecoder = "viterbi"


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Drop an open utterance: no Finalize and no Align comes of it. Its partial ends."""

    audio_id: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """End a Finalize, a Partial or an Align at its next decoder step, or before it starts: Failed(Cancelled), unless it
    finished first."""

    job_id: int


class LoadAligner(msgspec.Struct, frozen=True, tag=True):
    """Load the aligner, when nothing more urgent is to be done. Not answered: a failure is that of the next Align."""


Request = Load | Append | Partial | Provisional | Promote | Finalize | Align | LoadAligner | Forget | Cancel


@dataclass(frozen=True, slots=True)
class Job:
    """One utterance to transcribe, with its samples.

    `decoder_mode`: `sequential`, one after the other in the order they came, or `batched`, together with other batched
    jobs. `drift_guard`: a row whose text may differ from that of `sequential` is decoded again, alone. `interactive`: a
    speaker waits for it, so it goes before jobs that are not, also before the next step of one that has begun; these
    still get one turn in five. `provisional`: it goes behind interactive ones and before all others.
    """

    id: int
    utterance: Utterance
    decoder_mode: DecoderMode = "sequential"
    drift_guard: bool = True
    interactive: bool = False
    provisional: bool = False

    @property
    def lane(self) -> str | None:
        """Its lane in a FairQueue of the engine."""
        return "interactive" if self.interactive else None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is ready. `load_profile` holds what was loaded and how long each step took, in seconds; `source`:
    `warm` where nearly all weights were in the page cache; for a request that waited for no load, `none`. `engine`:
    what a remote engine has found; None for a local one."""

    model: str
    model_dir: str
    load_seconds: float
    load_profile: dict[str, Any] = {}
    source: LoadSource = "cold"
    engine: EngineInfo | None = None


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    error: BridgeError


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far a load has come: a `stage` of `resolve`, `download`, `waiting_for_lock`, `verify`, `load`, `warmup`; of
    a remote engine, `connect`.

    `done` of `total`, in bytes, if the stage knows them; `done` never decreases within a stage.
    """

    stage: str
    done: int | None = None
    total: int | None = None


class Finished(msgspec.Struct, frozen=True, tag=True):
    job_id: int
    transcript: Transcript


class PartialDone(msgspec.Struct, frozen=True, tag=True):
    """The hypothesis of a partial job."""

    job_id: int
    hypothesis: Hypothesis


class Word(msgspec.Struct, frozen=True):
    """Milliseconds from the first sample, and code points of the text. The ranges of the words cover the text, with the
    punctuation and whitespace behind each. `time_confidence`: the probability of the less certain of the two times."""

    start_ms: int
    end_ms: int
    char_start: int
    char_end: int
    time_confidence: float


class Aligned(msgspec.Struct, frozen=True, tag=True):
    """The times of the words, none for a text without letters and digits. `model`: the aligner's name. `seconds`: of
    work. `warnings` as in WordUnits."""

    job_id: int
    words: list[Word]
    model: str
    seconds: float
    warnings: list[str] = []


class Failed(msgspec.Struct, frozen=True, tag=True):
    """`seconds`: of work, if it was a Partial."""

    job_id: int
    error: BridgeError
    seconds: float = 0.0


class EngineEnded(msgspec.Struct, frozen=True, tag=True):
    """The engine has ended, with all that it had. Jobs without an outcome get none; the next Load starts another.

    `reason`: the name of a signal, `exit_N`, `stalled`, `corrupt_frame`, `gpu_ignored`, `non_finite_output`.
    """

    reason: str


class Unloaded(msgspec.Struct, frozen=True, tag=True):
    """The model has left memory, and the engine has nothing of what it had. `freed_bytes`: the size of its process at
    its end, 0 where none ran."""

    freed_bytes: int


Outcome = EngineEnded | Unloaded | Loaded | LoadFailed | Progress | Finished | PartialDone | Aligned | Failed
Post = Callable[[Outcome], None]
OnProgress = Callable[[Progress], None]


class Engine(Protocol):
    """What the bridge asks of an engine. Every call returns at once; outcomes come through the `post` the engine was
    made with, on a thread of its own: any number of Progress during a load, and exactly one other for each Load,
    Partial, Finalize and Align, unless an EngineEnded ends them all. These three come after a successful load."""

    @property
    def heartbeats(self) -> int:
        """Grows with every step the engine takes: as long as it does, the engine is not stuck. Read on any thread."""

    @property
    def load_stage(self) -> str | None:
        """Of a load, for the first time or again, which takes no steps: the stage of its latest Progress, `start`
        before the first. None while none is under way. Read on any thread."""

    @property
    def memory(self) -> Memory | None:
        """Of the engine's process, by its latest report; None while none runs. Read on any thread."""

    @property
    def pid(self) -> int | None:
        """Of the engine's process, None while none runs."""

    def send(self, request: Request) -> None:
        """Do what is requested, in the order of the calls; a Cancel or a Forget does not wait for the jobs before."""

    def kill(self, reason: str) -> None:
        """End it now, whatever it does: EngineEnded with this reason."""

    def unload(self) -> None:
        """Free the memory of the model, whatever the engine does: Unloaded. No Load, Partial, Finalize or Align
        comes before that."""

    def close(self) -> None:
        """End it for good. Nothing is posted once this has returned and `join` came back."""

    def join(self, timeout: float) -> bool:
        """Wait for its end at most `timeout` seconds; True if it has ended."""
