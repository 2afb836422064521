"""Transcripts and their audio → when each word is said: the forced aligner, usable without the bridge.

aligner = WordAligner(recognizer, Settings(model="demo"))
aligner.load()
[segments] = aligner.align([(utterance, recognizer.transcribe(utterance))])
"""

from collections.abc import Iterable

import numpy as np

from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve_aligner
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, Append, Failed, OnProgress
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.errors import BridgeError
from qwen3_asr_mlx_runtime.model_name import chosen_aligner
from qwen3_asr_mlx_runtime.settings import Settings


class WordAligner:
    """The aligner that `settings` choose, beside a recogniser. Use it only on the recogniser's thread."""

    def __init__(self, recognizer: Recognizer, settings: Settings) -> None:
        self.name = chosen_aligner(settings.aligner, settings.model)
        self._settings = settings
        self._schedule = recognizer.schedule(settings)

    def load(self, on_progress: OnProgress | None = None) -> None:
        """Download the files that are missing, load the aligner, and align a second of noise, which compiles kernels.
        Raises a ModelError or an EngineError."""
        settings, report = self._settings, Reporter(on_progress)
        hub = Hub(cache=settings.cache_dir, stall_seconds=settings.stall_seconds)
        report("resolve")
        resolve_aligner(self.name, hub, local_files_only=settings.local_files_only, report=report)
        report("load")
        noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32) * np.float32(0.02)
        [outcome] = self._outcomes([(noise, "a", None)])
        if isinstance(outcome, BridgeError):
            raise outcome

    def align(self, transcribed: Iterable[tuple[Utterance, Transcript]]) -> list[list[Aligned | BridgeError]]:
        """For each utterance and its transcript: the outcome of each of the transcript's `segments`, in their order.

        Times are in ms from the first sample of the segment, ranges in code points of its text. A segment without text
        has no words. A BridgeError says why there are none, as `Align` lists. The first call loads the aligner, if
        `load` was not called; it fails with AlignerDownloading where files are missing.
        """
        pairs = list(transcribed)
        texts = [
            (utterance.samples[segment.start : segment.end], segment.text, segment.language)
            for utterance, transcript in pairs
            for segment in transcript.segments
        ]
        outcomes = iter(self._outcomes(texts))
        return [[next(outcomes) for _ in transcript.segments] for _, transcript in pairs]

    def _outcomes(self, texts: Iterable[tuple[Samples, str, str | None]]) -> list[Aligned | BridgeError]:
        """`texts`: float32 (N,) at 16 kHz, the text, its language."""
        schedule = self._schedule
        found: dict[int, Aligned | BridgeError] = {}
        for id, (samples, text, language) in enumerate(texts):
            found[id] = Aligned(id, [], "", 0.0)
            if text:
                schedule.append(Append(id, samples))
                schedule.align(Align(id, id, text, language, self._settings.align_decoder))
        while schedule.is_busy:
            for outcome in schedule.step():
                if isinstance(outcome, Aligned | Failed):
                    found[outcome.job_id] = outcome.error if isinstance(outcome, Failed) else outcome
        return list(found.values())
