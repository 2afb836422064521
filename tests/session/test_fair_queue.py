from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.session.fair_queue import LIVE_BEFORE_A_FILE, Turns
from qwen3_asr_mlx_runtime.session.tasks import Options, Task


def task(number: int, lane: str | None) -> Task:
    return Task(number, None, Options(0, None, ""), lane=lane)


def anything(_: Task) -> bool:
    return True


def taken(turns: Turns) -> list[str]:
    """The lanes in the order of their turns; a file is a dot."""
    order = []
    while (one := turns.take(anything)) is not None:
        order.append(one.lane or ".")
    return order


def turns_of(lanes: str) -> Turns:
    turns = Turns()
    for number, lane in enumerate(lanes):
        turns.put(task(number, None if lane == "." else lane))
    return turns


def test_row_67_streams_take_turns() -> None:
    assert "".join(taken(turns_of("aaaaabc"))) == "abcaaaa"


def test_row_67_streams_go_before_files_but_files_are_not_forgotten() -> None:
    assert "".join(taken(turns_of("...aaaaaaaaaa"))) == "aaaa.aaaa.aa."
    assert LIVE_BEFORE_A_FILE == 4


def test_what_was_taken_out_has_no_turn() -> None:
    turns = Turns()
    tasks = [task(0, "a"), task(1, "b"), task(2, None)]
    for one in tasks:
        turns.put(one)
    turns.remove(tasks[0])
    turns.remove(tasks[0])
    assert len(turns) == 2
    assert [turns.take(anything), turns.take(anything), turns.take(anything)] == [tasks[1], tasks[2], None]


@given(st.text("ab.", max_size=30))
def test_nothing_is_lost_and_every_lane_keeps_its_order(lanes: str) -> None:
    turns = turns_of(lanes)
    order = []
    while (one := turns.take(anything)) is not None:
        order.append(one)
    assert sorted(one.id for one in order) == list(range(len(lanes)))
    for lane in ("a", "b", None):
        numbers = [one.id for one in order if one.lane == lane]
        assert numbers == sorted(numbers)


@given(st.text("ab.", max_size=60))
def test_a_file_waits_for_no_more_than_four_utterances(lanes: str) -> None:
    order = "".join(taken(turns_of(lanes)))
    until_the_last_file = order[: order.rfind(".") + 1]
    assert all(len(live) <= LIVE_BEFORE_A_FILE for live in until_the_last_file.split("."))
