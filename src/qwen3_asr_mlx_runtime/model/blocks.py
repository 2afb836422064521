"""Where a prompt is cut into blocks for the prefill: the same for a whole utterance and for an open one.

A window of audio is closed once its last frame is final. From then on its embeddings and their keys and values are
kept. The open window and the text after the audio go through the decoder in one block.
"""

from qwen3_asr_mlx_runtime.model.features import final_frame_count

_LONG_HEAD = 64  # positions: a shorter head is no separate block, which would cost a pass over the weights


def closed_windows(sample_count: int, window_frames: int) -> int:
    """The windows of an utterance of so many samples whose frames are all final."""
    return final_frame_count(sample_count) // window_frames


def block_ends(head: int, windows: int, window_tokens: int) -> tuple[int, ...]:
    """The ends of the blocks before the last: a long head, and each closed window. `head`: positions before the
    audio."""
    ends = [head] if head > _LONG_HEAD else []
    return (*ends, *(head + window_tokens * (index + 1) for index in range(windows)))
