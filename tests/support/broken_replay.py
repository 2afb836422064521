"""Code, planted before a bridge begins, that breaks what it decodes again after an end of its engine."""

_PROGRAM = """
from qwen3_asr_mlx_runtime.errors import EngineCrashed
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
again = Scheduler._run_again
def broken(self, job, *, was_alone):
    {0}
Scheduler._run_again = broken
"""
FAILS = _PROGRAM.format("self.fail(job.transcription, EngineCrashed('planted'))")


def is_of_samples(count: int) -> str:
    """It decodes only so many samples again."""
    return _PROGRAM.format(f"job.samples = job.samples[:{count}]; again(self, job, was_alone=was_alone)")
