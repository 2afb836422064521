"""Where utterances begin and end, by a detector whose probabilities are given."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.audio.endpointing import FRAME_SAMPLES, Action, Boundary, Endpointer, Pause, Policy, Speech


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
