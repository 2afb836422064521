"""scripts/live-benchmark: the cost of partials and finals; with a bridge --pause, its table and what it sends, --paced,
and random weights."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from live_benchmark import RANDOM_BRIDGE, bridge, costs, paced, paced_table
from live_benchmark import table as cost_table
from pause_benchmark import AHEAD, NO_PAUSE, WHOLE, Case, Speaker, Timed, table

from qwen3_asr_mlx_runtime.client.results import FinalResult, RealtimeBatchFinal
from qwen3_asr_mlx_runtime.engines import worker
from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.protocol.streams import PartialResult


def timed(case: Case, *milliseconds: float, length: float = 3.0, provisional: str | None = None) -> list[Timed]:
    return [Timed(length, case, each / 1000, 0.002, provisional, 9) for each in milliseconds]


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_a_row_has_percentiles_and_the_share_of_the_median_of_the_whole() -> None:
    figures = timed(WHOLE, 100, 200, 900) + timed(NO_PAUSE, 50) + timed(0.0, 30) + timed(0.1, 20)
    figures += timed(0.3, *range(101), provisional="ready") + timed(0.7, 4, provisional="running")
    assert rows(table(figures)) == [
        ["3", "no pause", "50.0", "50.0", "200.0", "25.0%", "0 of 1", "2.0"],
        ["3", "0", "30.0", "30.0", "200.0", "15.0%", "0 of 1", "2.0"],
        ["3", "100", "20.0", "20.0", "200.0", "10.0%", "0 of 1", "2.0"],
        ["3", "300", "50.0", "95.0", "200.0", "47.5%", "101 of 101", "2.0"],
        ["3", "700", "4.0", "4.0", "200.0", "2.0%", "0 of 1", "2.0"],
    ]


def test_lengths_have_their_own_whole() -> None:
    cases = (NO_PAUSE, *AHEAD)
    figures = [one for length, whole in ((10.0, 400), (3.0, 100)) for one in timed(WHOLE, whole, length=length)]
    figures += [one for length in (10.0, 3.0) for case in cases for one in timed(case, 10, length=length)]
    found = rows(table(figures))
    assert [row[0] for row in found] == ["3"] * 5 + ["10"] * 5
    assert {(row[0], row[4], row[5]) for row in found} == {("3", "100.0", "10.0%"), ("10", "400.0", "2.5%")}


def final(stream: str) -> RealtimeBatchFinal:
    item = FinalResult(
        job=1, stream_id=stream, utterance_id="u", source="buffer", samples=1, queue_seconds=0.0, audio_gap=False
    )
    item.generated_tokens, item.provisional = 9, "ready"
    return RealtimeBatchFinal(
        reason="pause",
        count=1,
        failed=0,
        items=[item],
        total_seconds=None,
        load_seconds=0.0,
        decoder_mode="sequential",
        redecoded=0,
        profile=Profile(stage="final"),
    )


class FakeStream:
    """A partial follows each chunk, a final each boundary. `sent`: by all streams of the bridge."""

    def __init__(self, name: str, sent: list[tuple], events: list[object], *, partials: bool) -> None:
        self._name = name
        self._sent = sent
        self._events = events
        self._partials = partials
        self._samples = 0

    def append(self, pcm: bytes) -> None:
        self._samples += len(pcm) // 2
        self._sent.append((self._name, len(pcm) // 2))
        if self._partials:
            seconds = self._samples / 16_000
            event = PartialResult(stream_id=self._name, samples_buffered=0, chunks=1, audio_seconds=seconds)
            self._events.append(event)

    def pause(self) -> None:
        self._sent.append((self._name, "pause"))

    def end_utterance(self, **members: object) -> None:
        self._sent.append((self._name, members))
        self._events.append(final(self._name))


class FakeBridge:
    def __init__(self) -> None:
        self.sent: list[tuple] = []
        self._events: list[object] = []

    def start_stream(self, name: str, *, partials: bool = False, **_: object) -> FakeStream:
        return FakeStream(name, self.sent, self._events, partials=partials)

    def ping(self) -> None:
        pass

    def next_event(self, _: float) -> object:
        return self._events.pop(0)


def test_silence_follows_a_pause_and_the_boundary_lies_before_it() -> None:
    bridge = FakeBridge()
    found = Speaker(bridge).say(np.zeros(32_000, np.float32), 0.1)
    assert (found.length, found.case, found.provisional, found.tokens) == (2.0, 0.1, "ready", 9)
    assert bridge.sent[0] == ("live", 16_000)
    assert bridge.sent[1:11] == [("live", 1_600)] * 10
    assert bridge.sent[11:] == [("live", "pause"), ("live", 1_600), ("live", {"samples": 32_000, "rest": "drop"})]


def test_the_whole_goes_to_the_stream_without_partials_and_has_no_pause() -> None:
    bridge = FakeBridge()
    Speaker(bridge).say(np.zeros(32_000, np.float32), WHOLE)
    assert bridge.sent == [("plain", 32_000), ("plain", {"samples": 32_000, "rest": "drop"})]


def options(**changes: object) -> Namespace:
    usual = {"demo": 1, "model": "demo", "dtype": "float32", "seconds": [1.0], "accepted": 0.5, "size": "tiny"}
    return Namespace(**{**usual, "repeats": 2, **changes})


@pytest.mark.parametrize("demo", [0, 1], ids=["random weights", "demo"])
def test_the_cost_of_partials_and_finals_beside_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: int
) -> None:
    monkeypatch.setattr(Tokenizer, "eos_ids", Tokenizer.eos_ids)  # random weights set it for the whole process
    measured = costs(options(demo=demo, seconds=[1.0, 2.0]), tmp_path)
    assert [*measured] == [1.0, 2.0]
    names = ["whole", "final"] if demo else ["tick", "tick, nothing accepted", "whole", "final"]
    assert [[*values] for values in measured.values()] == [names] * 2
    assert all(len(runs) == (demo or 2) and min(runs) > 0 for values in measured.values() for runs in values.values())
    assert [row[0] for row in rows(cost_table(measured))] == ["1", "2"]


@pytest.mark.once
def test_partials_at_the_pace_of_speech_have_an_age_and_their_texts_are_not_written(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    figures = paced(options(), tmp_path)
    assert figures["partials"] >= 1
    assert figures["first_partial_p50_seconds"] >= 0.5  # however fast: no partial comes before its audio
    assert figures["lag_p95_seconds"] >= figures["lag_p50_seconds"] > 0
    assert "text" not in str(figures).replace("first_text", "")
    silent = dict.fromkeys(("first_text_p50_seconds", "first_text_p95_seconds"))
    assert "| first_text | – | – |" in paced_table({**figures, **silent})


def test_another_model_takes_the_place_of_the_demonstration(tmp_path: Path) -> None:
    command, rounds = bridge(options(model="a folder", demo=3), tmp_path)
    assert command[-1] == "a folder"
    assert [[len(samples) for samples in one] for one in rounds] == [[16_000]] * 3


def test_random_weights_are_written_once_and_whole(tmp_path: Path) -> None:
    command, rounds = bridge(options(demo=None), tmp_path)
    assert command[-1] == str(tmp_path / "checkpoint")
    assert len([*rounds]) == 2
    written = (tmp_path / "checkpoint" / "config.json").stat().st_mtime_ns
    bridge(options(demo=None), tmp_path)
    assert (tmp_path / "checkpoint" / "config.json").stat().st_mtime_ns == written
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint", "tokenizer"]


def test_the_program_of_the_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_PROGRAM", worker._PROGRAM)
    monkeypatch.setattr("qwen3_asr_mlx_runtime.__main__.main", lambda: None)
    exec(RANDOM_BRIDGE.format(accepted=0.5), {})
    assert worker._PROGRAM.endswith("from random_worker import main; main({channel}, 0.5)")
