from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.checkpoint.progress import INTERVAL_SECONDS, Reporter
from qwen3_asr_mlx_runtime.engines.api import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_new_stage_is_reported_at_once():
    reported: list[Progress] = []
    report = Reporter(reported.append, Clock())
    for stage in ("resolve", "download", "verify", "verify"):
        report(stage)
    assert reported == [Progress("resolve"), Progress("download"), Progress("verify")]


def test_within_a_stage_at_most_four_are_reported_a_second_and_the_last_one_always():
    reported: list[Progress] = []
    clock = Clock()
    report = Reporter(reported.append, clock)
    for step in range(100):
        clock.now = step / 50
        report("download", step, 100)
    report("download", 100, 100)
    assert reported[0] == Progress("download", 0, 100)
    assert reported[-1] == Progress("download", 100, 100)
    assert len(reported) == 2 / INTERVAL_SECONDS + 1


def test_a_stage_in_which_nothing_changes_goes_on_to_be_reported():
    reported: list[Progress] = []
    clock = Clock()
    report = Reporter(reported.append, clock)
    for step in range(100):
        clock.now = step / 50
        report("waiting_for_lock", 100, 100)
    assert reported == [Progress("waiting_for_lock", 100, 100)] * int(2 / INTERVAL_SECONDS)


@given(st.lists(st.tuples(st.sampled_from(["download", "waiting_for_lock"]), st.integers(0, 50), st.floats(0, 1))))
def test_a_stage_never_goes_back(calls):
    reported: list[Progress] = []
    clock = Clock()
    report = Reporter(reported.append, clock)
    for stage, done, passed in calls:
        clock.now += passed
        report(stage, done, 50)
    for stage in ("download", "waiting_for_lock"):
        values = [progress.done for progress in reported if progress.stage == stage]
        assert values == sorted(values)


def test_without_a_callback_nothing_happens():
    Reporter()("resolve")
