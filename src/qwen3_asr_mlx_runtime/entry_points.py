"""The commands that pip installs. Each imports what it needs only now, and names in one line what is missing."""

import sys
from functools import partial
from importlib import import_module

from qwen3_asr_mlx_runtime.packages import missing


def _start(name: str, module: str) -> int:
    """Exit code 1 where a package is missing, and that of the command otherwise."""
    try:
        return int(import_module(f"qwen3_asr_mlx_runtime.{module}").main())
    except ImportError as error:
        sys.stderr.write(f"qwen3-asr-mlx-{name}: {missing(error)}\n")
        return 1


doctor = partial(_start, "doctor", "tools.doctor.main")
evaluate = partial(_start, "evaluate", "tools.evaluate.main")
live = partial(_start, "live", "tools.live.main")
monitor = partial(_start, "monitor", "tools.monitor.main")
perftest = partial(_start, "perftest", "tools.perftest.main")
quantize = partial(_start, "quantize", "quantize_command")
score = partial(_start, "score", "tools.score.main")
