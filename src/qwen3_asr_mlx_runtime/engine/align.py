"""Texts and their audio → the times of their words, by the forced aligner.

The aligner is loaded when it is first needed, and freed apart from the recogniser. Its weights are read on the decoder
loop's thread, one layer a step.
"""

import gc
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import mlx.core as mx

from qwen3_asr_mlx_runtime.checkpoint.files import read_config
from qwen3_asr_mlx_runtime.checkpoint.integrity import Verified
from qwen3_asr_mlx_runtime.checkpoint.weights import aligner_steps, loaded_bytes
from qwen3_asr_mlx_runtime.engine.aligner_files import AlignerFiles, load_failure
from qwen3_asr_mlx_runtime.engine.job_memory import JobMemory
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engine.sequence import Steps, failure
from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, Failed, Word
from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count, frame_count
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples
from qwen3_asr_mlx_runtime.errors import (
    AlignerDownloading,
    BridgeError,
    Cancelled,
    EngineStalled,
    LanguageUnsupported,
    ModelCorrupt,
    ModelUnsupported,
    NonFiniteOutput,
    TooManyUnits,
)
from qwen3_asr_mlx_runtime.model import word_times
from qwen3_asr_mlx_runtime.model.aligner import Aligner, ForcedAligner, Logits
from qwen3_asr_mlx_runtime.model.config import AlignerConfig
from qwen3_asr_mlx_runtime.model.device import as_device_failure
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.model.word_units import WordUnits, word_units
from qwen3_asr_mlx_runtime.model_name import chosen_aligner
from qwen3_asr_mlx_runtime.settings import Settings

FILES_SECONDS = 120.0  # to find and check the files
KEEP_SECONDS = 60.0  # without an Align: then an idle engine frees the aligner
_WAIT_SECONDS = 0.01  # for another thread, before the loop looks at its inbox again
_PACKED_SAMPLES = 30 * SAMPLE_RATE  # of segments that share a pass: a final waits for one pass
_MAX_PACKED = 8

Outcomes = list[Aligned | Failed]


@dataclass(eq=False, slots=True)
class _Job:
    """`units` once they are found. `alone`: the pass that it shared has failed."""

    request: Align
    samples: Samples
    units: WordUnits | None = None
    alone: bool = False
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def letters(self) -> list[str]:
        return [unit.letters for unit in self.units.units] if self.units else []

    def aligned(self, model: str, words: list[Word]) -> Aligned:
        warning = self.units and self.units.warning
        return Aligned(self.request.id, words, model, self.watch.busy, [warning] if warning else [])


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The aligner, and what its jobs take."""

    aligner: Aligner
    memory: JobMemory

    @property
    def max_positions(self) -> int:
        return self.aligner.model.config.text.max_position_embeddings


class Alignments:
    """Waiting Aligns, in the order they came. A step finds the units of one, reads a layer of the aligner, or is one
    pass of the aligner: of one segment, or of several short ones where the network packs them."""

    def __init__(self, settings: Settings, governor: Governor, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._name = chosen_aligner(settings.aligner, settings.model)
        self._governor = governor
        self._clock = clock
        self._jobs: list[_Job] = []
        self._is_wanted = False  # by a LoadAligner
        self._verified = Verified(settings.state_dir)
        self._languages: frozenset[str] | None = None  # once its configuration is read
        self._files: AlignerFiles | None = None
        self._files_at = 0.0
        self._loading: Steps | None = None
        self._loaded: _Loaded | None = None
        self._segmenter: threading.Thread | None = None  # imports that of Japanese, which takes seconds
        self._used_at = 0.0

    @property
    def is_busy(self) -> bool:
        return bool(self._jobs) or self._is_wanted

    @property
    def is_ready(self) -> bool:
        """Whether there is a step to take; otherwise all that wait, wait for another thread."""
        files = self._files
        waits = self._loaded is None and files is not None and not self._is_news(files)
        return self._unmeasured is not None or ((bool(self._measured) or self._is_wanted) and not waits)

    def _is_news(self, files: AlignerFiles) -> bool:
        """Whether there is something to do about files that are looked for. A download is news to Aligns that wait."""
        is_late = not files.is_downloading and self._clock() >= self._files_at + FILES_SECONDS
        return files.has_ended or is_late or (bool(self._jobs) and files.changed.is_set())

    @property
    def _measured(self) -> list[_Job]:
        return [job for job in self._jobs if job.units is not None]

    @property
    def _unmeasured(self) -> _Job | None:
        """The next one whose units can be found now."""
        waits = self._segmenter is not None and self._segmenter.is_alive()
        found = (job for job in self._jobs if job.units is None)
        return next((job for job in found if not (waits and job.request.language == "Japanese")), None)

    @property
    def open_ids(self) -> list[int]:
        return [job.request.id for job in self._jobs]

    def add(self, request: Align, samples: Samples) -> None:
        self._jobs.append(_Job(request, samples))

    def load(self) -> None:
        """Load the aligner before an Align needs it."""
        self._used_at = self._clock()  # where it is loaded already
        self._is_wanted = self._loaded is None

    def cancel(self, job_id: int) -> Failed | None:
        """Cancel a waiting Align; None if there is none with this id."""
        for job in [job for job in self._jobs if job.request.id == job_id]:
            self._jobs.remove(job)
            if not self.is_busy and self._loading is not None:
                self.drop()
            return Failed(job_id, Cancelled("cancelled before its words had times"))
        return None

    def drop(self) -> None:
        """Free the aligner, or what is read of it. It is loaded again when it is needed."""
        if self._loading is not None:
            self._loading.close()
            self._loading = None
        if self._governor.aligner_bytes:
            self._loaded, self._governor.aligner_bytes = None, 0
            gc.collect()  # a layer of the decoder and its compiled steps refer to each other

    def idle(self) -> bool:
        """Call when no job has waited for a while. False once the aligner is freed."""
        if self._clock() - self._used_at >= KEEP_SECONDS:
            self.drop()
        return self._loaded is not None

    def wait(self) -> None:
        """Wait a moment for another thread."""
        if self._segmenter is not None and self._segmenter.is_alive():
            self._segmenter.join(_WAIT_SECONDS)
        elif self._files is not None:
            self._files.join(_WAIT_SECONDS)

    def step(self) -> Outcomes:
        """The outcomes of the Aligns that ended in this step."""
        if (unmeasured := self._unmeasured) is not None:
            return self._find_units(unmeasured)
        return self._load_step() if self._loaded is None else self._align(self._loaded)

    # One job before its pass.

    def _find_units(self, job: _Job) -> Outcomes:
        request = job.request
        if request.language == "Japanese" and self._segmenter is None:
            self._segmenter = threading.Thread(target=_import_segmenter, name="segmenter", daemon=True)
            self._segmenter.start()
            return []
        try:
            with job.watch.stage("units"):
                job.units = word_units(request.text, request.language)
            if not job.units.units:
                self._jobs.remove(job)
                return [job.aligned(self._name, [])]
            self._check_room(job, len(job.units.units))
            self._check_language(request)
        except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
            self._jobs.remove(job)
            return [Failed(request.id, failure(error))]
        return []

    def _check_room(self, job: _Job, units: int) -> None:
        room = -(-_milliseconds(job.samples) // word_times.CLASS_MS) if frame_count(len(job.samples)) else 0
        if units > room and (job.request.decoder == "viterbi" or not room):
            raise _too_many(units, room)

    def _check_language(self, request: Align) -> None:
        """Before the configuration is read, nothing is refused."""
        names = request.language.split(",") if request.language and self._languages else ()
        for name in names:
            if name.casefold() not in (self._languages or ()):
                raise LanguageUnsupported("the aligner was not trained on this language", language=name)

    # Loading.

    def _load_step(self) -> Outcomes:
        try:
            if self._loading is None:
                return self._next_files()
            next(self._loading)
        except StopIteration:
            self._loading = None
        except Exception as error:  # noqa: BLE001 only the Aligns that wait fail; the next one tries again
            self.drop()
            return self._fail_all(as_device_failure(error) or load_failure(error))
        failed = self._fail_unsupported()
        self._is_wanted = self._is_wanted and self._loaded is None
        return failed

    def _next_files(self) -> Outcomes:
        """Look for the files, or begin to load what was found."""
        files = self._files
        if files is None:
            self._files = AlignerFiles(self._name, self._settings, self._verified)
            self._files_at = self._clock()
            self._files.start()
            return []
        if files.is_downloading and not files.has_ended:
            return self._fail_jobs(AlignerDownloading("the aligner is downloaded", model=self._name))
        if not files.has_ended:
            self._files = None  # its thread is abandoned
            return self._fail_all(EngineStalled(f"no answer about the aligner's files for {FILES_SECONDS:g} s"))
        self._files = None
        if files.error is None:
            self._loading = self._load(files)
            return []
        if files.is_downloading:
            self._next_files()  # try again, also where this was the first Align to hear of it
        return self._fail_all(files.error)

    def _load(self, files: AlignerFiles) -> Steps:
        settings, folder = self._settings, files.folder
        with files.guard:
            config = read_config(folder, AlignerConfig)
            self._languages = frozenset(name.casefold() for name in config.languages)
            if config.timestamp_segment_time != word_times.CLASS_MS:
                message = f"expected classes of {word_times.CLASS_MS} ms, found {config.timestamp_segment_time:g}"
                raise ModelUnsupported(f"config.json: {message}", field="timestamp_segment_time")
            yield
            size = loaded_bytes(folder, settings.dtype, settings.quantize, ForcedAligner)
            gc.collect()  # what is left of a faulty aligner
            self._governor.reserve(size + self._next_bytes(config), "the aligner")
            self._governor.aligner_bytes, self._governor.evict_aligner = size, self.drop
            tokenizer = Tokenizer.from_folder(folder)
            model = yield from aligner_steps(
                folder,
                settings.dtype,
                quantize=settings.quantize,
                force_4bit_tower=settings.force_4bit_tower,
            )
        self._used_at = self._clock()
        self._loaded = _Loaded(Aligner(model, tokenizer), JobMemory(model.config, model.dtype.size))

    def _next_bytes(self, config: AlignerConfig) -> int:
        """What the next pass takes at most: a token has a byte or more."""
        if not self._measured:
            return 0
        job = self._measured[0]
        text = sum(len(unit.encode()) + 2 for unit in job.letters)
        positions = text + audio_token_count(frame_count(len(job.samples)))
        return JobMemory(config, mx.float32.size).alignment(len(job.samples), positions, len(job.letters))

    def _fail_unsupported(self) -> Outcomes:
        """Those that wait in a language that turned out to be unknown. The last of them ends the load."""
        failed: Outcomes = []
        for job in [*self._jobs]:
            try:
                self._check_language(job.request)
            except LanguageUnsupported as error:
                self._jobs.remove(job)
                failed.append(Failed(job.request.id, error))
        if not self.is_busy:
            self.drop()
        return failed

    def _fail_all(self, error: BridgeError) -> Outcomes:
        self._is_wanted = False
        return self._fail_jobs(error)

    def _fail_jobs(self, error: BridgeError) -> Outcomes:
        failed, self._jobs = self._jobs, []
        return [Failed(job.request.id, error) for job in failed]

    # A pass.

    def _align(self, loaded: _Loaded) -> Outcomes:
        self._used_at = self._clock()
        jobs = self._next_jobs(loaded)
        watch = Stopwatch()
        try:
            with watch.stage("align"):
                scores = self._scores(loaded, jobs)
        except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
            if len(jobs) > 1:
                for job in jobs:
                    job.alone = True
                return []
            self._jobs.remove(jobs[0])
            return [Failed(jobs[0].request.id, self._pass_failure(error))]
        finally:
            self._governor.after_job()
        total = sum(len(job.samples) for job in jobs)
        for job in jobs:
            self._jobs.remove(job)
            job.watch.add("align", watch.seconds["align"] * len(job.samples) / total)
        return [self._decode(job, rows) for job, rows in zip(jobs, scores, strict=True)]

    def _next_jobs(self, loaded: _Loaded) -> list[_Job]:
        first, *others = self._measured
        chosen, samples = [first], len(first.samples)
        for job in others if loaded.aligner.model.packs and not first.alone else ():
            samples += len(job.samples)
            if job.alone or samples > _PACKED_SAMPLES or len(chosen) == _MAX_PACKED:
                break
            chosen.append(job)
        return chosen

    def _scores(self, loaded: _Loaded, jobs: Sequence[_Job]) -> list[Logits]:
        letters = [job.letters for job in jobs]
        audio = [audio_token_count(frame_count(len(job.samples))) for job in jobs]
        positions = [tokens + loaded.aligner.positions(units) for tokens, units in zip(audio, letters, strict=True)]
        if max(positions) > loaded.max_positions:
            raise _too_many(max(map(len, letters)), loaded.max_positions // 2)
        samples, units = sum(len(job.samples) for job in jobs), sum(map(len, letters))
        self._governor.reserve(loaded.memory.alignment(samples, max(positions), units, len(jobs)))
        return loaded.aligner.logits([log_mel(job.samples) for job in jobs], letters)

    def _pass_failure(self, error: Exception) -> BridgeError:
        if isinstance(error, NonFiniteOutput):  # read the weights again: they may have been damaged in memory
            self.drop()
            return ModelCorrupt("the aligner gives logits that are not finite")
        return failure(error)

    def _decode(self, job: _Job, scores: Logits) -> Aligned | Failed:
        try:
            with job.watch.stage("decode"):
                if job.request.decoder == "official":
                    times = word_times.official(scores)
                else:
                    times = word_times.viterbi(scores, _milliseconds(job.samples))
        except word_times.TooManyUnits as error:  # the audio is longer than the aligner has classes
            return Failed(job.request.id, _too_many(error.units, error.room))
        except Exception as error:  # noqa: BLE001 any failure becomes the job's outcome
            return Failed(job.request.id, failure(error))
        units = job.units.units if job.units else ()
        words = [
            Word(time.start_ms, time.end_ms, unit.char_start, unit.char_end, round(time.time_confidence, 4))
            for unit, time in zip(units, times, strict=True)
        ]
        return job.aligned(self._name, words)


def _import_segmenter() -> None:
    with suppress(Exception):  # it fails again where it is used
        word_units("", "Japanese")


def _milliseconds(samples: Samples) -> int:
    return len(samples) * 1000 // SAMPLE_RATE


def _too_many(units: int, room: int) -> TooManyUnits:
    return TooManyUnits(f"expected at most {room} words in this audio, got {units}", units=units, room=room)
