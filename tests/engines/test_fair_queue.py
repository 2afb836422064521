"""Streams take turns and go before files, and no file waits for ever."""

from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.engines.fair_queue import INTERACTIVE_IN_A_ROW, FairQueue

Entry = tuple[int, str]


def queue_of(lanes: str) -> FairQueue[Entry]:
    """Each letter is the lane of an entry, a dot or a comma a file of one of two kinds."""
    queue: FairQueue[Entry] = FairQueue(lambda entry: None if entry[1] in ".," else entry[1], kind_of)
    for entry in enumerate(lanes):
        queue.append(entry)
    return queue


def kind_of(entry: Entry) -> str:
    return "," if entry[1] == "," else "."


def taken(queue: FairQueue[Entry]) -> str:
    order = ""
    while (entry := queue.take()) is not None:
        order += entry[1]
    return order


def test_row_67_streams_take_turns() -> None:
    assert taken(queue_of("aaaaabc")) == "abcaaaa"


def test_row_67_streams_go_before_files_and_one_file_goes_after_every_four() -> None:
    assert taken(queue_of("...aaaaaaaaaa")) == "aaaa.aaaa.aa."
    assert INTERACTIVE_IN_A_ROW == 4


def test_a_file_waits_for_entries_of_its_kind_alone() -> None:
    assert taken(queue_of(",aaaaa")) == "aaaaa,"  # every a is of the other kind


def test_an_entry_that_was_removed_has_no_turn() -> None:
    queue = queue_of("ab.")
    queue.remove((0, "a"))
    queue.remove((0, "a"))
    assert len(queue) == 2
    assert [queue.take(), queue.take(), queue.take()] == [(1, "b"), (2, "."), None]


def test_an_entry_that_stays_is_chosen_again() -> None:
    queue = queue_of(".a")
    assert "".join(entry[1] for _ in range(7) if (entry := queue.choose())) == "aaaa.aa"


def test_an_entry_without_room_keeps_its_turn() -> None:
    queue = queue_of("ab")
    assert queue.take(lambda entry: entry[1] == "b") == (1, "b")
    assert queue.take() == (0, "a")


@given(st.text("ab.,", max_size=30), st.sets(st.integers(0, 29)))
def test_nothing_is_lost_and_every_lane_keeps_its_order(lanes: str, removed: set[int]) -> None:
    queue = queue_of(lanes)
    left = [entry for entry in enumerate(lanes) if entry[0] not in removed]
    for entry in [entry for entry in queue if entry[0] in removed]:
        queue.remove(entry)
    assert sorted(queue) == left
    order = []
    while (entry := queue.take()) is not None:
        order.append(entry)
    assert sorted(order) == left
    for lane in "ab.,":
        assert [entry for entry in order if entry[1] == lane] == [entry for entry in left if entry[1] == lane]


@given(st.text("ab.", max_size=60))
def test_a_file_waits_for_no_more_than_four_entries_of_streams(lanes: str) -> None:
    order = taken(queue_of(lanes))
    until_the_last_file = order[: order.rfind(".") + 1]
    assert all(len(live) <= INTERACTIVE_IN_A_ROW for live in until_the_last_file.split("."))
