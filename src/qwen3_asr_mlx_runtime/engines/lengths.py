"""How long things get: samples → mel frames → audio tokens, and the tokens of a text."""

import math

N_FFT = 400
HOP_LENGTH = 160
MIN_SAMPLES = N_FFT // 2 + 1  # fewer cannot be reflected


def frame_count(sample_count: int) -> int:
    """Mel frames of a clip: floor(N / 160), and none where the clip is too short to be reflected (200 samples or
    fewer)."""
    return sample_count // HOP_LENGTH if sample_count >= MIN_SAMPLES else 0


def audio_token_count(frames: int) -> int:
    """Tokens the tower makes of mel frames: 13 for each whole second, ceil(r / 8) for the rest of r frames."""
    seconds, rest = divmod(frames, 100)
    return 13 * seconds + (rest + 7) // 8


def token_budget(seconds: float) -> int:
    """The maximal number of tokens that `seconds` of speech can need: max(128, 12 a second + 32)."""
    return max(128, math.ceil(12 * seconds) + 32)
