import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.model.word_times import CLASS_MS, TooManyUnits, monotonic, official, viterbi

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "alignment.json").read_text(encoding="utf-8"))

finite = st.floats(-20, 20, width=32)


@st.composite
def clips(draw, words=3, classes=6):
    """Scores, and a duration that the words fit in; the scores may have fewer classes than the clip, or more."""
    n, C = draw(st.integers(0, words)), draw(st.integers(words + 1, classes))
    scores = draw(arrays(np.float32, (2 * n, C), elements=draw(st.sampled_from([finite, st.integers(-2, 2)]))))
    return scores, draw(st.integers(max(0, CLASS_MS * (n - 1)) + 1, CLASS_MS * (C + 1)))


def possible_paths(words, last):
    """Classes of every start and end that words can have."""
    for path in itertools.product(range(last + 1), repeat=2 * words):
        if all(later - before >= 1 - mark % 2 for mark, (before, later) in enumerate(itertools.pairwise(path))):
            yield path


@given(clips(words=2))
def test_viterbi_finds_the_best_times_of_all_that_are_possible(clip):
    scores, duration_ms = clip
    words, C = len(scores) // 2, scores.shape[1]
    last = min(-(-duration_ms // CLASS_MS), C - 1)
    found = [time for word in viterbi(scores, duration_ms) for time in (word.start_ms, word.end_ms)]
    sums = {
        path: sum(float(row[one]) for row, one in zip(scores, path, strict=True))
        for path in possible_paths(words, last)
    }
    best = max(sums.values())
    as_times = {tuple(min(CLASS_MS * one, duration_ms) for one in path): total for path, total in sums.items()}
    assert as_times[tuple(found)] == pytest.approx(best, abs=1e-9)
    if (scores == np.round(scores)).all():  # sums are exact, and so are ties
        equal = [path for path, total in sums.items() if total == best]
        assert found == [min(CLASS_MS * min(ones), duration_ms) for ones in zip(*equal, strict=True)]


@given(clips(words=12, classes=40))
def test_words_follow_each_other_last_a_while_and_end_within_the_clip(clip):
    scores, duration_ms = clip
    found = viterbi(scores, duration_ms)
    assert len(found) == len(scores) // 2
    assert all(0 <= word.start_ms < word.end_ms <= duration_ms for word in found)
    assert all(before.end_ms <= later.start_ms for before, later in itertools.pairwise(found))


def test_the_last_word_lasts_a_while_though_the_clip_ends_within_a_class():
    scores = np.zeros((2, 10), dtype=np.float32)
    scores[0, 5] = scores[1, 6] = 9
    (word,) = viterbi(scores, 5 * CLASS_MS + 1)
    assert (word.start_ms, word.end_ms) == (400, 401)
    (word,) = viterbi(scores, 6 * CLASS_MS)
    assert (word.start_ms, word.end_ms) == (400, 480)


def test_words_that_fill_every_class_have_one_each():
    found = viterbi(np.zeros((8, 100), dtype=np.float32), 4 * CLASS_MS - 10)
    assert [(word.start_ms, word.end_ms) for word in found] == [(0, 80), (80, 160), (160, 240), (240, 310)]


@pytest.mark.parametrize(("words", "classes", "duration_ms", "room"), [(4, 100, 240, 3), (4, 4, 9000, 3), (1, 9, 0, 0)])
def test_more_words_than_classes_are_refused(words, classes, duration_ms, room):
    with pytest.raises(TooManyUnits) as caught:
        viterbi(np.zeros((2 * words, classes), dtype=np.float32), duration_ms)
    assert (caught.value.units, caught.value.room) == (words, room)


@pytest.mark.parametrize("decode", [official, lambda scores: viterbi(scores, 800)])
def test_no_words_have_no_times(decode):
    assert decode(np.zeros((0, 5000), dtype=np.float32)) == []


@pytest.mark.parametrize("decode", [official, lambda scores: viterbi(scores, 800)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(decode, bad):
    scores = np.zeros((4, 20), dtype=np.float32)
    scores[2, 19] = bad
    with pytest.raises(NonFiniteOutput):
        decode(scores)
    with pytest.raises(NonFiniteOutput):
        decode(np.full((2, 20), -np.inf, dtype=np.float32))


@given(clips(words=8, classes=20), st.floats(-5, 5))
def test_logits_and_log_probabilities_give_the_same(clip, constant):
    """Integers, of which no sum is rounded: a tie stays a tie."""
    scores, duration_ms = np.round(clip[0]), clip[1]
    shifted = scores + np.float32(round(constant))
    for one, other in (
        (viterbi(scores, duration_ms), viterbi(shifted, duration_ms)),
        (official(scores), official(shifted)),
    ):
        assert one == other


def test_a_class_of_no_probability_is_taken_where_no_other_is_left():
    with np.errstate(divide="ignore"):
        scores = np.log(np.eye(4, 10, k=6, dtype=np.float32))  # the only possible times lie behind the clip
    found = viterbi(scores, 240)
    assert [(word.start_ms, word.end_ms, word.time_confidence) for word in found] == [(0, 80, 0), (80, 160, 0)]


def test_a_confidence_is_the_probability_of_the_class_among_all():
    scores = np.log(np.array([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]], dtype=np.float32)) + np.float32(7)
    (word,) = viterbi(scores, 100)
    assert (word.start_ms, word.end_ms) == (0, 100)
    assert [word.start_confidence, word.end_confidence] == pytest.approx([0.5, 0.6], abs=1e-6)
    assert word.time_confidence == word.start_confidence
    (beyond,) = viterbi(scores, 80)  # the best class of the end lies behind the clip
    assert beyond.end_confidence == pytest.approx(0.3, abs=1e-6)
    assert beyond.time_confidence == beyond.end_confidence


@pytest.mark.parametrize(("times", "mended"), GOLDEN["times"])
def test_times_are_mended_as_by_the_reference(times, mended):
    assert monotonic(times) == mended


@given(st.lists(st.integers(0, 9), max_size=14))
def test_the_times_that_stay_are_those_of_the_quadratic_search(times):
    times = [80 * time for time in times]
    lengths, before = [], []
    for index, time in enumerate(times):  # the first of the longest predecessors
        longest = max((lengths[other] for other in range(index) if times[other] <= time), default=0)
        lengths.append(longest + 1)
        before.append(next((o for o in range(index) if times[o] <= time and lengths[o] == longest), None))
    kept, index = set(), lengths.index(max(lengths)) if lengths else None
    while index is not None:
        kept.add(index)
        index = before[index]
    mended = monotonic(times)
    assert mended == sorted(mended)
    assert {one for one in kept if mended[one] != times[one]} == set()
    for one in {*range(len(times))} - kept:
        neighbours = {times[side] for side in kept}
        assert min(neighbours) <= mended[one] <= max(neighbours)


def test_official_times_are_the_mended_best_classes():
    """Also where a word lasts no time and where it ends behind the clip."""
    scores = np.zeros((8, 100), dtype=np.float32)
    for mark, best in enumerate([1, 1, 3, 9, 4, 4, 99, 99]):
        scores[mark, best] = 5
    scores[0, 7] = 5  # the first of two equal ones
    found = official(scores)
    assert [(word.start_ms, word.end_ms) for word in found] == [(80, 80), (240, 240), (320, 320), (7920, 7920)]


def test_a_mended_time_has_the_confidence_of_its_own_class():
    scores = np.zeros((4, 10), dtype=np.float32)
    for mark, best in enumerate([1, 9, 2, 3]):
        scores[mark, best] = 5
    first, second = official(scores)
    assert first.end_ms == 80
    assert first.end_confidence == pytest.approx(1 / (9 + np.exp(5)))
    assert first.start_confidence == pytest.approx(np.exp(5) / (9 + np.exp(5)))
    assert second.time_confidence == pytest.approx(first.start_confidence)


def test_where_every_best_class_is_possible_both_decoders_agree():
    draw = random.Random(1)
    classes = sorted(draw.sample(range(375), 200))
    scores = np.zeros((200, 5000), dtype=np.float32)
    scores[np.arange(200), classes] = 5
    assert viterbi(scores, 30_000) == official(scores)
