"""Files read on threads: segment by segment as asked, whole, and no further than wanted."""

import os
import queue
import threading
from pathlib import Path

import numpy as np
import pytest
from support.wave_file import write_pcm16

from qwen3_asr_mlx_runtime.bridge.file_reader import FileReader
from qwen3_asr_mlx_runtime.engines.quiet import split_at_quiet
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, ReadAudio

WAIT = 60
RATE = 16_000


@pytest.fixture
def came() -> queue.SimpleQueue:
    return queue.SimpleQueue()


@pytest.fixture
def reader(came: queue.SimpleQueue) -> FileReader:
    return FileReader(3600.0, 2.0, came.put)


@pytest.fixture
def pcm() -> np.ndarray:
    return np.random.default_rng(1).integers(-3_000, 3_000, 9 * RATE).astype("<i2")


@pytest.fixture
def path(tmp_path: Path, pcm: np.ndarray) -> str:
    return write_pcm16(tmp_path / "a.wav", pcm)


def audio_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "audio"]


def until_over() -> None:
    for thread in audio_threads():
        thread.join(WAIT)
    assert not audio_threads()


def test_segments_come_one_for_each_request_cut_as_the_whole_is(
    reader: FileReader, came: queue.SimpleQueue, path: str, pcm: np.ndarray
) -> None:
    reader.start(ReadAudio(7, path, whole=False))
    segments = [came.get(timeout=WAIT)]
    while not segments[-1].is_last:
        assert came.empty()
        reader.read_more(7)
        segments.append(came.get(timeout=WAIT))
    whole = pcm.astype(np.float32) / 32768
    assert [segment.job_id for segment in segments] == [7] * len(segments)
    assert np.array_equal(np.concatenate([segment.samples for segment in segments]), whole)
    assert [len(segment.samples) for segment in segments] == [
        stop - start for start, stop in split_at_quiet(whole, 2.0)
    ]
    until_over()


def test_a_file_of_a_stream_comes_whole(reader: FileReader, came: queue.SimpleQueue, path: str) -> None:
    reader.start(ReadAudio(7, path, whole=True))
    read = came.get(timeout=WAIT)
    assert (len(read.samples), read.is_last) == (9 * RATE, True)
    until_over()


def test_a_file_that_is_stopped_is_closed(reader: FileReader, came: queue.SimpleQueue, path: str) -> None:
    before = len([*Path("/dev/fd").iterdir()])
    reader.start(ReadAudio(7, path, whole=False))
    assert isinstance(came.get(timeout=WAIT), AudioRead)
    reader.stop(7)
    until_over()
    assert len([*Path("/dev/fd").iterdir()]) == before
    reader.stop(7)
    reader.read_more(7)  # of a file that is over: nothing
    assert came.empty()


def test_a_file_that_breaks_off_fails_behind_its_first_segments(
    reader: FileReader, came: queue.SimpleQueue, path: str
) -> None:
    reader.start(ReadAudio(7, path, whole=False))
    came.get(timeout=WAIT)
    os.utime(path, ns=(1, 1))
    outcome = None
    while not isinstance(outcome, AudioFailed):
        reader.read_more(7)
        outcome = came.get(timeout=WAIT)
    assert outcome.error.code == "audio_changed"
    until_over()
