"""Schedules a worker that holds only the aligner, beside a remote engine."""

import numpy as np

from qwen3_asr_mlx_runtime.engine.align import Alignments
from qwen3_asr_mlx_runtime.engine.memory import Governor
from qwen3_asr_mlx_runtime.engines.api import Align, Aligned, Append, Failed, LoadAligner, Request
from qwen3_asr_mlx_runtime.engines.utterance import NO_SAMPLES, Samples
from qwen3_asr_mlx_runtime.settings import Settings


class AlignScheduler:
    """One step at a time, as EngineScheduler."""

    def __init__(self, settings: Settings) -> None:
        self._governor = Governor(
            None,
            0,
            limit_bytes=settings.memory_limit_bytes,
            cache_limit_bytes=settings.cache_limit_bytes,
            wired_limit_bytes=settings.wired_limit_bytes,
        )
        self._alignments = Alignments(settings, self._governor)
        self._samples: dict[int, list[Samples]] = {}

    @property
    def is_busy(self) -> bool:
        return self._alignments.is_busy

    def take(self, request: Request) -> None:
        match request:
            case Append(audio_id, samples):
                self._samples.setdefault(audio_id, []).append(samples)
            case Align():
                samples = np.concatenate([NO_SAMPLES, *self._samples.pop(request.audio_id, ())])
                self._alignments.add(request, samples)
            case LoadAligner():
                self._alignments.load()

    def forget(self, audio_id: int) -> None:
        self._samples.pop(audio_id, None)

    def cancel(self, job_id: int) -> Failed | None:
        return self._alignments.cancel(job_id)

    def step(self) -> list[Aligned | Failed]:
        if self._alignments.is_ready:
            return self._alignments.step()
        self._alignments.wait()
        return []

    def idle(self) -> bool:
        again = self._alignments.idle()
        self._governor.on_idle()
        return again
