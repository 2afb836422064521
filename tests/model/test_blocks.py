"""Where a prompt is cut: the same for a whole utterance and for an open one."""

from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.model.blocks import block_ends, closed_windows
from qwen3_asr_mlx_runtime.model.features import final_frame_count


def test_a_short_head_goes_with_the_first_window_and_a_long_one_alone():
    assert block_ends(12, 2, 104) == (116, 220)
    assert block_ends(65, 2, 104) == (65, 169, 273)
    assert block_ends(64, 0, 104) == ()
    assert block_ends(65, 0, 104) == (65,)


def test_a_window_is_closed_with_the_last_sample_of_its_last_frame():
    assert [closed_windows(count, 800) for count in (0, 128_039, 128_040, 256_040)] == [0, 0, 1, 2]


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_windows_stay_closed(count, more):
    assert closed_windows(count, 800) <= closed_windows(count + more, 800)
    assert closed_windows(count, 800) * 800 <= final_frame_count(count)
