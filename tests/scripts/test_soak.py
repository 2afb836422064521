"""The soak: three hundred utterances of it, and that it would notice what it is there to notice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.broken_replay import FAILS, is_of_samples

UTTERANCES = 300


@pytest.fixture(scope="module")
def scripts(repository: Path) -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(repository / "scripts" / "lib"))
    try:
        import soak.__main__
        import soak.figures
        import soak.ledger
        import soak.speech

        yield {"main": soak.__main__, "figures": soak.figures, "ledger": soak.ledger, "speech": soak.speech}
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def soaked(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What three hundred short utterances came to."""
    report = tmp_path_factory.mktemp("soak") / "report.json"
    command = [sys.executable, "-m", "soak", "--quiet", "--utterances", str(UTTERANCES), "--json", str(report)]
    command += ["--longest", "1.2", "--every", "20", "--limit", "1000"]
    paths = f"{repository / 'scripts' / 'lib'}{os.pathsep}{repository / 'src'}"
    process = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(report.read_text())


def test_every_utterance_has_one_outcome_and_only_those_that_were_cancelled_have_no_text(soaked: dict) -> None:
    assert soaked["oddities"] == []
    assert soaked["unanswered"] == 0
    assert soaked["exit_code"] == 0
    assert UTTERANCES <= sum(soaked["outcomes"].values()) <= UTTERANCES + 4
    assert set(soaked["outcomes"]) <= {"text", "cancelled"}
    assert soaked["outcomes"]["text"] > UTTERANCES * 0.8


def test_when_nothing_is_left_to_do_nothing_is_held(soaked: dict) -> None:
    first, *warm = soaked["samples"]
    assert len(warm) > 5
    assert max(sample["active"] for sample in warm) < first["active"] + 1
    assert max(sample["cache"] for sample in warm) <= 33
    assert {sample["descriptors"] for sample in warm} == {first["descriptors"]}
    assert {sample["threads"] for sample in warm[2:]} == {warm[2]["threads"]}


def test_memory_stays_within_bounds(soaked: dict) -> None:
    warm = [sample["rss"] for sample in soaked["samples"] if sample["utterances"] >= UTTERANCES / 3]
    assert max(warm) - min(warm) < 40


def sample(scripts: dict, utterances: int, rss: float, footprint: float | None = None) -> object:
    return scripts["figures"].Sample(utterances, 0.0, rss, footprint, 7.0, 1.0, 9.0, 5, 9)


def test_the_slope_is_that_of_the_line_with_the_least_squares(scripts: dict) -> None:
    samples = [sample(scripts, count, rss) for count, rss in [(0, 50), (1000, 100), (2000, 102), (3000, 104)]]
    assert scripts["figures"].slope(scripts["figures"].after(samples, 1000)) == pytest.approx((2.0, 0.0))
    grown, error = scripts["figures"].slope(samples)
    assert grown > 10
    assert error > 5
    charged = [sample(scripts, count, 50.0, footprint) for count, footprint in [(0, 1.0), (1000, 2.0), (2000, 3.0)]]
    assert scripts["figures"].slope(charged)[0] == pytest.approx(1.0)
    assert scripts["figures"].table(samples).count("\n") == 1 + 4


def result(scripts: dict, **changes: object) -> object:
    fine = {
        "samples": [],
        "warm_up": 0,
        "slope": 0.5,
        "slope_error": 0.1,
        "outcomes": {},
        "oddities": [],
        "unanswered": 0,
        "audio_seconds": 1.0,
        "exit_code": 0,
    }
    return scripts["main"].Result(**{**fine, **changes})


def test_a_run_fails_for_growth_for_what_is_missing_and_for_what_is_odd(scripts: dict) -> None:
    assert result(scripts).failures(1.0) == []
    for change in ({"slope": 1.1}, {"slope": float("nan")}, {"unanswered": 1}, {"oddities": ["x"]}, {"exit_code": 4}):
        assert len(result(scripts, **change).failures(1.0)) == 1
    assert len(result(scripts, exit_code=None).failures(1.0)) == 1


def test_the_ledger_knows_what_is_missing_reported_twice_or_not_as_it_should_be(scripts: dict) -> None:
    ledger = scripts["ledger"].Ledger()

    def deliver(utterance: str, **outcome: object) -> None:
        item = {"stream_id": "s", "utterance_id": utterance, **outcome}
        ledger.receive({"type": "realtime_batch_final", "items": [item]})

    for name in ("a", "b", "c"):
        ledger.expect(("s", name), cancelled=name == "b")
    deliver("a", text="One.")
    deliver("b", error={"code": "cancelled"})
    assert (ledger.unanswered, ledger.oddities, dict(ledger.outcomes)) == (1, [], {"text": 1, "cancelled": 1})
    deliver("a", text="One.")
    assert len(ledger.oddities) == 1
    deliver("c", error={"code": "cancelled"})
    assert len(ledger.oddities) == 2
    ledger.expect("r1", 3, cancelled=True)
    ledger.receive({"type": "error", "id": "r1", "code": "cancelled"})
    assert (ledger.unanswered, ledger.outcomes["cancelled"]) == (0, 5)
    ledger.receive({"type": "stream_error", "code": "bad_base64"})
    assert len(ledger.oddities) == 3


def test_a_bridge_that_ends_too_early_is_not_waited_for(scripts: dict) -> None:
    ledger = scripts["ledger"].Ledger()
    ledger.expect("r1")
    ledger.receive(None)
    with pytest.raises(scripts["ledger"].Broken):
        ledger.wait_until_open(0)


def test_a_bridge_that_cannot_load_its_model_fails_the_run(scripts: dict, capsys: pytest.CaptureFixture) -> None:
    assert scripts["main"].main(["--utterances", "5", "--quiet", "--bridge", "--memory-limit-mb 2"]) == 1
    assert "refused: out_of_memory" in capsys.readouterr().out


def test_the_same_seed_speaks_the_same_and_within_its_lengths(scripts: dict, repository: Path) -> None:
    folder = repository / "examples" / "audio"
    first, second = (scripts["speech"].Speech(folder, 0.3, 40.0, 7) for _ in range(2))
    utterances = [first.utterance() for _ in range(40)]
    assert all((one == second.utterance()).all() for one in utterances)
    seconds = sorted(len(one) / 16_000 for one in utterances)
    assert seconds[0] >= 0.29
    assert seconds[-1] <= 40.01
    assert seconds[-1] > 10 * seconds[0]


def ended(scripts: dict, *lines: dict) -> list[str]:
    """Oddities of audio that failed with the engine, after these lines."""
    ledger = scripts["ledger"].Ledger()
    for name in ("a", "b"):
        ledger.expect(name)
    for line in lines:
        ledger.receive(line)
    return ledger.oddities


def test_audio_that_fails_with_the_engine_needs_two_ends_and_the_second_for_itself(scripts: dict) -> None:
    end = {"type": "engine_restarting", "event": True, "attempt": 1}
    a, b = ({"type": "error", "id": name, "code": "engine_crashed"} for name in ("a", "b"))
    assert ended(scripts, end, end, a, end, b) == []
    assert len(ended(scripts, end, a)) == 1
    assert len(ended(scripts, end, end, a, b)) == 1


def test_stable_text_that_does_not_go_on_is_odd(scripts: dict) -> None:
    partial = {"type": "partial_result", "event": True, "stream_id": "s", "utterance_id": "u"}
    grown, changed = ({**partial, "stable_text": text} for text in ("one two", "one three"))
    assert ended(scripts, {**partial, "stable_text": "one"}, grown, grown) == []
    assert len(ended(scripts, grown, changed)) == 1


def test_row_83_a_worker_that_ends_thirty_times_loses_nothing_and_changes_no_text(
    scripts: dict, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    assert scripts["main"].main(["--kill", "30", "--longest", "5", "--json", str(report)]) == 0
    told = json.loads(report.read_text())
    assert (told["kills"] >= 30, told["different"], told["failures"]) == (True, 0, [])
    assert 0 < told["compared"] <= told["outcomes"]["text"]


BROKEN_REPLAYS = {"texts differ": is_of_samples(1_600), "ended as engine_crashed": FAILS}


@pytest.mark.parametrize("failure", BROKEN_REPLAYS)
def test_a_replay_that_is_broken_fails_the_run(
    scripts: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, failure: str
) -> None:
    bridge = sys.modules["soak.bridge"]
    program = bridge._PROGRAM.replace("\n", "\n" + BROKEN_REPLAYS[failure], 1)
    monkeypatch.setattr(bridge, "_PROGRAM", program)
    assert scripts["main"].main(["--kill", "6", "--longest", "5"]) == 1
    assert failure in capsys.readouterr().out


def test_rows_52_54_no_worker_outlives_a_bridge_that_is_killed(scripts: dict) -> None:
    assert scripts["main"].main(["--kill-bridge", "5"]) == 0
