"""Samples of an open utterance → audio embeddings: final results are kept, the rest is computed again.

A mel frame is final once its samples are there, a second of the convolutions' output once its frames are final, a
window of the tower once its seconds are final. One exception: a louder frame lifts the floor under all others. Results
whose frames lie above both the old and the new floor are not affected.
"""

from collections.abc import Generator
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from qwen3_asr_mlx_runtime.engines.profile import Reuse, Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import Samples
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.blocks import closed_windows
from qwen3_asr_mlx_runtime.model.features import (
    Features,
    GrowingLogMel,
    apply_floor,
    final_frame_count,
    floor_under,
)


class Embedded(NamedTuple):
    """Embeddings of the closed windows and of the open one, (T, D) each. A kept window is the same array again."""

    windows: list[mx.array]
    open: list[mx.array]
    frames: int


class _Rows(NamedTuple):
    """The output for mel frames with this floor; `least`: their smallest cell before the floor."""

    rows: mx.array
    floor: np.float32
    least: np.float32

    def serves(self, floor: np.float32) -> bool:
        """Whether the output is the same with another floor."""
        return bool(floor == self.floor or max(floor, self.floor) <= self.least)


class IncrementalEncoder:
    """The audio side of one segment of an utterance."""

    def __init__(self, tower: AudioTower, dtype: mx.Dtype) -> None:
        self.reuse = Reuse()
        self._tower = tower
        self._dtype = dtype
        self._mel = GrowingLogMel()
        self._seconds: dict[int, _Rows] = {}
        self._windows: dict[int, _Rows] = {}

    @property
    def nbytes(self) -> int:
        kept = (*self._seconds.values(), *self._windows.values())
        return self._mel.kept.nbytes + sum(output.rows.nbytes for output in kept)

    def drop(self) -> None:
        """Evict everything that is kept."""
        self._mel = GrowingLogMel()
        self._seconds.clear()
        self._windows.clear()

    def embed(self, samples: Samples, watch: Stopwatch) -> Generator[None, None, Embedded]:
        """Encode all samples of the segment so far, or its beginning if it is cut: more than 200. Yields between
        windows."""
        with watch.stage("feature_extract"):
            frames = self._frames(samples)
        loudest = float(frames.max())
        size, seconds = self._tower.window_frames, final_frame_count(len(samples)) // self._tower.config.chunk_frames
        closed, windows = closed_windows(len(samples), size), []
        self._seconds = {index: kept for index, kept in self._seconds.items() if index < seconds}
        self._windows = {index: kept for index, kept in self._windows.items() if index < closed}
        for index in range(closed):
            self.reuse.of_windows += 1
            kept = self._windows.get(index)
            if kept is not None and kept.serves(floor_under(loudest)):
                self.reuse.windows += 1
            else:
                with watch.stage("audio_tower"):
                    kept = self._window(frames, loudest, index, seconds)
                yield
            windows.append(kept.rows)
        with watch.stage("audio_tower"):
            rest = range(closed, -(-len(frames) // size))
            opened = [self._window(frames, loudest, index, seconds).rows for index in rest]
        return Embedded(windows, opened, len(frames))

    def _frames(self, samples: Samples) -> Features:
        before = len(self._mel.kept)
        frames = self._mel.frames(samples)
        self.reuse.frames += min(before, len(frames))
        self.reuse.of_frames += len(frames)
        return frames

    def _window(self, frames: Features, loudest: float, index: int, final: int) -> _Rows:
        """Encode a window, and keep it if it is closed. `final`: the number of final seconds."""
        size, second = self._tower.window_frames, self._tower.config.chunk_frames
        stop = min((index + 1) * size, len(frames))
        numbers = range(index * size // second, -(-stop // second))
        rows = [self._second(frames, loudest, number, number < final) for number in numbers]
        encoded = self._tower.encode_window(rows[0] if len(rows) == 1 else mx.concatenate(rows))
        mx.eval(encoded)
        output = _rows(encoded, frames[index * size : stop], loudest)
        if stop == (index + 1) * size and numbers.stop <= final:
            self._windows[index] = output
            for number in numbers:
                self._seconds.pop(number, None)
        return output

    def _second(self, frames: Features, loudest: float, number: int, is_final: bool) -> mx.array:
        self.reuse.of_seconds += 1
        kept = self._seconds.get(number)
        if kept is not None and kept.serves(floor_under(loudest)):
            self.reuse.seconds += 1
            return kept.rows
        size = self._tower.config.chunk_frames
        cells = frames[number * size : (number + 1) * size]
        features = mx.array(apply_floor(cells, loudest)).astype(self._dtype)
        rows = self._tower.embed_chunks(features, part=len(frames) >= size)
        if is_final:
            mx.eval(rows)
            self._seconds[number] = _rows(rows, cells, loudest)
        return rows


def _rows(rows: mx.array, cells: Features, loudest: float) -> _Rows:
    return _Rows(rows, floor_under(loudest), cells.min())
