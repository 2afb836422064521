"""Who is next in the engine."""

from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engine.line import LIVE_IN_A_ROW, Line
from qwen3_asr_mlx_runtime.engines.api import Job


def line_of(kinds: str) -> Line[Job]:
    """Live jobs are an l, others a dot; their ids are their places."""
    line = Line(lambda job: job)
    for number, kind in enumerate(kinds):
        line.append(Job(number, None, live=kind == "l"))
    return line


def taken(line: Line[Job]) -> list[Job]:
    order = []
    while len(line):
        order.append(line.choose())
        line.remove(order[-1])
    return order


def test_live_jobs_go_first_and_one_other_after_every_four() -> None:
    order = taken(line_of("..." + "l" * 10))
    assert "".join("l" if job.live else "." for job in order) == "llll.llll.ll."
    assert LIVE_IN_A_ROW == 4


def test_one_that_keeps_its_place_is_chosen_again() -> None:
    line = line_of(".l")
    assert [line.choose().id for _ in range(7)] == [1, 1, 1, 1, 0, 1, 1]


@given(st.text("l.", max_size=40), st.sets(st.integers(0, 39)))
def test_nothing_is_lost_and_both_keep_their_order(kinds: str, gone: set[int]) -> None:
    line = line_of(kinds)
    for number in gone:
        line.remove_job(number)
    order = taken(line)
    left = [number for number in range(len(kinds)) if number not in gone]
    assert sorted(job.id for job in order) == left
    for live in (True, False):
        numbers = [job.id for job in order if job.live is live]
        assert numbers == sorted(numbers)
