"""Utterances → transcripts: the engine behind one class, usable without the bridge.

recognizer = Recognizer.load("demo")
transcript = recognizer.transcribe(Utterance(samples))
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from qwen3_asr_mlx_runtime.packages import missing

try:
    import mlx.core as mx
except ImportError as error:
    error.msg = missing(error)
    raise
import msgspec
import numpy as np

from qwen3_asr_mlx_runtime.checkpoint.files import check_files, weight_files
from qwen3_asr_mlx_runtime.checkpoint.hub import STALL_SECONDS, Hub
from qwen3_asr_mlx_runtime.checkpoint.integrity import Verification, Verified, unchanged
from qwen3_asr_mlx_runtime.checkpoint.integrity import verify as verify_files
from qwen3_asr_mlx_runtime.checkpoint.page_cache import load_source
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model, loaded_bytes, named_parameters
from qwen3_asr_mlx_runtime.engine.align import Alignments
from qwen3_asr_mlx_runtime.engine.memory import Governor, MemoryLimits
from qwen3_asr_mlx_runtime.engine.prepare import Preparation
from qwen3_asr_mlx_runtime.engine.scheduler import EngineScheduler
from qwen3_asr_mlx_runtime.engines.api import (
    DecoderMode,
    Failed,
    Finished,
    Job,
    LoadSource,
    OnProgress,
)
from qwen3_asr_mlx_runtime.engines.profile import Memory, Stopwatch
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Utterance
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, NonFiniteOutput
from qwen3_asr_mlx_runtime.model.device import check_device, device_failures
from qwen3_asr_mlx_runtime.model.drift import Drift, StreamingDrift
from qwen3_asr_mlx_runtime.model.features import Features
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.settings import Settings

MAX_SEGMENT_SECONDS = 30.0
NO_LIMITS = MemoryLimits()
DEFAULTS = Settings()
_WARM_UP_TOKENS = 4


class Recognizer:
    """A loaded model and its tokenizer. Use it only on the thread that loaded it: MLX arrays cannot change threads."""

    def __init__(
        self,
        model: Qwen3ASR,
        tokenizer: Tokenizer,
        max_segment_seconds: float = MAX_SEGMENT_SECONDS,
        limits: MemoryLimits = NO_LIMITS,
    ) -> None:
        tokenizer.check_ids(model.config)
        self.model = model
        self.max_segment_seconds = max_segment_seconds
        self.model_dir = ""
        self.load_profile: dict[str, Any] = {}
        self.load_source: LoadSource = "cold"
        self._tokenizer = tokenizer
        held = sum(value.nbytes for _, value in named_parameters(model))
        self._governor = Governor(model.config, held, dtype=model.dtype, **limits._asdict())
        self._preparation = Preparation(model, tokenizer, self._governor, max_segment_seconds)
        self._drift = Drift(model, self._governor.has_room)
        self._streaming_drift = StreamingDrift(model, packs=self._preparation.packs)

    @classmethod
    @device_failures()
    def load(
        cls,
        model: str,
        *,
        cache_dir: Path | None = None,
        dtype: str | None = None,
        quantize: str | None = None,
        force_4bit_tower: bool = False,
        local_files_only: bool = False,
        max_segment_seconds: float = MAX_SEGMENT_SECONDS,
        verify: str = "once",
        state_dir: Path | None = None,
        stall_seconds: float = STALL_SECONDS,
        limits: MemoryLimits = NO_LIMITS,
        on_progress: OnProgress | None = None,
    ) -> "Recognizer":
        """Load `demo`, a folder, or `owner/name` from the hub or its cache. Raises a ModelError, or an EngineError if
        the device fails.

        `quantize`: `8bit` or `mixed`, None for weights as they are stored. `force_4bit_tower`: accept the loss.
        `verify`: check the digests of the weights `once`, `always` or `never`; `state_dir` keeps which files passed. A
        download fails after `stall_seconds` without a byte. `limits` are those of the process; raises OutOfMemory
        before any weight is read if they leave no room.
        """
        check_device()
        _avoid_jit_files()
        watch, report = Stopwatch(), Reporter(on_progress)
        report("resolve")
        with watch.stage("resolve"):
            hub = Hub(cache=cache_dir, stall_seconds=stall_seconds)
            folder = resolve(model, hub, local_files_only=local_files_only, report=report)
        with unchanged(files := check_files(folder)):
            source = load_source(weight_files(folder))
            report("verify")
            with watch.stage("verify"):
                verification = verify_files(files, verify, Verified(state_dir), partial(report, "verify"))
            report("load")
            with watch.stage("tokenizer"):
                tokenizer = Tokenizer.from_folder(folder)
            Governor.check_model(loaded_bytes(folder, dtype, quantize), limits.limit_bytes)
            with watch.stage("weights"):
                weights = load_model(
                    folder,
                    dtype,
                    quantize=quantize,
                    force_4bit_tower=force_4bit_tower,
                    on_layer=partial(report, "load"),
                )
        recognizer = cls(weights, tokenizer, max_segment_seconds, limits)
        report("warmup")
        with watch.stage("warmup"):
            recognizer.warm_up()
        recognizer.model_dir = str(folder)
        recognizer.load_source = source
        recognizer.load_profile = _load_profile(folder, weights, verification, watch)
        return recognizer

    def warm_up(self) -> None:
        """Decode a few tokens of noise, so that the first utterance finds all kernels compiled and in memory. Raises
        ModelCorrupt if the logits are not finite."""
        noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * np.float32(0.02)
        try:
            self.transcribe(Utterance(noise, max_new_tokens=_WARM_UP_TOKENS))
        except NonFiniteOutput as error:
            raise ModelCorrupt("the weights give logits that are not finite") from error

    def transcribe(self, utterance: Utterance) -> Transcript:
        """Transcribe one utterance. Raises InvalidParams for a context that does not fit, or an
        EngineError."""
        [outcome] = self.outcomes([Job(0, utterance)])
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.transcript

    def transcribe_batch(
        self, utterances: Iterable[Utterance], decoder_mode: DecoderMode = "sequential", *, drift_guard: bool = True
    ) -> list[Transcript]:
        """Transcribe several utterances; results in the same order. Raises the error of the first that fails.

        `sequential` decodes one after the other. `batched` decodes all together, and decodes those again whose text
        might differ from that of `sequential`, unless `drift_guard` is off.
        """
        jobs = [Job(number, utterance, decoder_mode, drift_guard) for number, utterance in enumerate(utterances)]
        outcomes = self.outcomes(jobs)
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                raise outcome.error
        return [outcome.transcript for outcome in outcomes if isinstance(outcome, Finished)]

    def outcomes(self, jobs: Iterable[Job]) -> list[Finished | Failed]:
        """Run jobs with distinct ids to the end. One outcome for each, in the order of the ids."""
        schedule = self.schedule()
        for job in jobs:
            schedule.submit(job)
        outcomes: list[Finished | Failed] = []
        while schedule.is_busy:
            outcomes += (outcome for outcome in schedule.step() if isinstance(outcome, Finished | Failed))
        return sorted(outcomes, key=lambda outcome: outcome.job_id)

    def schedule(self, settings: Settings = DEFAULTS) -> EngineScheduler:
        """A new scheduler, for jobs that come and go. `settings` choose the aligner and how it is loaded."""
        return EngineScheduler(
            self.model,
            self._tokenizer,
            self._preparation,
            self._governor,
            self._drift,
            self._streaming_drift,
            Alignments(settings, self._governor),
        )

    def encode(self, features: Features) -> mx.array:
        """Log-mel float32 (F, 128) → audio embeddings (T, D) in the model's dtype."""
        return self.model.embed_audio([features])[0]


def _avoid_jit_files() -> None:
    """Turn off MLX's fused kernels on the CPU. MLX compiles them with the system's C++ compiler and loads them from the
    temporary directory: a slower start, no gain later, and an unsafe folder to load code from."""
    if mx.default_device() == mx.cpu:
        mx.disable_compile()


def _load_profile(folder: Path, model: Qwen3ASR, verification: Verification, watch: Stopwatch) -> dict[str, Any]:
    return {
        "stage": "load",
        "files": [file.name for file in weight_files(folder)],
        "weight_count": len(named_parameters(model)),
        "dtype": str(model.dtype).removeprefix("mlx.core."),
        "device": "cpu" if mx.default_device() == mx.cpu else "gpu",
        "quantization": msgspec.to_builtins(model.quantization),
        "verification": msgspec.to_builtins(verification),
        "resolve_seconds": watch.read("resolve"),
        "verify_seconds": watch.read("verify"),
        "tokenizer_seconds": watch.read("tokenizer"),
        "weights_seconds": watch.read("weights"),
        "warmup_seconds": watch.read("warmup"),
        "total_seconds": watch.total,
        "memory": msgspec.to_builtins(Memory.read()),
    }
