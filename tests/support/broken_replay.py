"""Code, planted before a bridge begins, that breaks what it decodes again after an end of its engine."""

_PROGRAM = """
from qwen3_asr_mlx_runtime.errors import EngineCrashed
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
again = Scheduler._decode_again
def broken(self, segment, *, was_alone):
    {0}
Scheduler._decode_again = broken
"""
FAILS = _PROGRAM.format("self._finish(segment.transcription, EngineCrashed('planted'))")


def is_of_samples(count: int) -> str:
    """It decodes only so many samples again."""
    return _PROGRAM.format(f"segment.samples = segment.samples[:{count}]; again(self, segment, was_alone=was_alone)")
