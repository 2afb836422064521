from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.checkpoint.progress import INTERVAL_SECONDS, Reporter
from qwen3_asr_mlx_runtime.engines.api import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_new_stage_is_told_at_once():
    told: list[Progress] = []
    report = Reporter(told.append, Clock())
    for stage in ("resolve", "download", "verify", "verify"):
        report(stage)
    assert told == [Progress("resolve"), Progress("download"), Progress("verify")]


def test_within_a_stage_at_most_four_are_told_a_second_and_the_last_one_always():
    told: list[Progress] = []
    clock = Clock()
    report = Reporter(told.append, clock)
    for step in range(100):
        clock.now = step / 50
        report("download", step, 100)
    report("download", 100, 100)
    assert told[0] == Progress("download", 0, 100)
    assert told[-1] == Progress("download", 100, 100)
    assert len(told) == 2 / INTERVAL_SECONDS + 1


@given(st.lists(st.tuples(st.sampled_from(["download", "waiting_for_lock"]), st.integers(0, 50), st.floats(0, 1))))
def test_a_stage_never_goes_back(calls):
    told: list[Progress] = []
    clock = Clock()
    report = Reporter(told.append, clock)
    for stage, done, passed in calls:
        clock.now += passed
        report(stage, done, 50)
    for stage in ("download", "waiting_for_lock"):
        values = [progress.done for progress in told if progress.stage == stage]
        assert values == sorted(values)


def test_without_a_listener_nothing_happens():
    Reporter()("resolve")
