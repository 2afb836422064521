"""Where every command begins. Nothing that takes time is imported before Ctrl-C has its answer, which is one line and
exit code 130: KeyboardInterrupt in the middle of an import ends in a traceback, or in the crash of a native module."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import NoReturn

from qwen3_asr_mlx_runtime.packages import missing

INTERRUPTED = 130


COMMANDS = {
    "bridge": "qwen3_asr_mlx_runtime.__main__",
    "doctor": "qwen3_asr_mlx_runtime.tools.doctor.main",
    "evaluate": "qwen3_asr_mlx_runtime.tools.evaluate.main",
    "live": "qwen3_asr_mlx_runtime.tools.live.main",
    "monitor": "qwen3_asr_mlx_runtime.tools.monitor.main",
    "perftest": "qwen3_asr_mlx_runtime.tools.perftest.main",
    "quantize": "qwen3_asr_mlx_runtime.tools.quantize",
    "score": "qwen3_asr_mlx_runtime.tools.score.main",
}


def bridge() -> NoReturn:
    begin(COMMANDS["bridge"])


def doctor() -> NoReturn:
    begin(COMMANDS["doctor"])


def evaluate() -> NoReturn:
    begin(COMMANDS["evaluate"])


def live() -> NoReturn:
    begin(COMMANDS["live"])


def monitor() -> NoReturn:
    begin(COMMANDS["monitor"])


def perftest() -> NoReturn:
    begin(COMMANDS["perftest"])


def quantize() -> NoReturn:
    begin(COMMANDS["quantize"])


def score() -> NoReturn:
    begin(COMMANDS["score"])


def begin(module: str) -> NoReturn:
    """Import the module of a command, and leave with what its `main` returns: 1 where a package is missing, which a
    line on stderr names."""
    leave_when_interrupted()
    try:
        code = import_module(module).main()
    except ImportError as error:
        name = next((name for name, of in COMMANDS.items() if of == module), "command")
        sys.stderr.write(f"qwen3-asr-mlx-{name}: {missing(error)}\n")
        code = 1
    if code == INTERRUPTED:  # native threads may still compute: Python's own end could meet them
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def leave_when_interrupted() -> None:
    """From now on Ctrl-C ends the process at once. A process that was started with SIGINT ignored goes on so."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def parent_at_launch() -> int:
    """The process that started this one. A launcher has taken it down before Python began, beside its own process id:
    since then the parent may have ended, and another process have adopted this one."""
    launched, _, parent = os.environ.get("QWEN3_ASR_MLX_LAUNCHED", "").partition(" ")
    return int(parent) if launched == str(os.getpid()) and parent.isdecimal() else os.getppid()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt: for work that has something to put away."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _leave)


def say_interrupted() -> int:
    """The one line, and the exit code."""
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    return INTERRUPTED


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(say_interrupted())
