"""Entry points of all commands. The Ctrl-C handler (one line, exit code 130) is installed before any slow import:
KeyboardInterrupt in the middle of an import ends in a traceback, or in the crash of a native module."""

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
    "install": "qwen3_asr_mlx_runtime.tools.install.main",
    "live": "qwen3_asr_mlx_runtime.tools.live.main",
    "monitor": "qwen3_asr_mlx_runtime.tools.monitor.main",
    "perftest": "qwen3_asr_mlx_runtime.tools.perftest.main",
    "quantize": "qwen3_asr_mlx_runtime.tools.quantize",
    "score": "qwen3_asr_mlx_runtime.tools.score.main",
    "serve": "qwen3_asr_mlx_runtime.tools.serve.main",
    "transcribe": "qwen3_asr_mlx_runtime.tools.transcribe.main",
    "wyoming": "qwen3_asr_mlx_runtime.tools.wyoming.main",
}
_COMMAND = "qwen3_asr_mlx_runtime.command"  # which imports this module


def bridge() -> NoReturn:
    begin(COMMANDS["bridge"])


def doctor() -> NoReturn:
    begin(COMMANDS["doctor"])


def evaluate() -> NoReturn:
    begin(COMMANDS["evaluate"])


def install() -> NoReturn:
    begin(COMMANDS["install"])


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


def serve() -> NoReturn:
    begin(COMMANDS["serve"])


def transcribe() -> NoReturn:
    begin(COMMANDS["transcribe"])


def wyoming() -> NoReturn:
    begin(COMMANDS["wyoming"])


def begin(module: str) -> NoReturn:
    """Import the module of a command, and exit with what its `main` returns. If a package is missing: 1, and a line on
    stderr that names it."""
    leave_when_interrupted()
    name = next((name for name, path in COMMANDS.items() if path == module), "command")
    program = f"qwen3-asr-mlx-{name}"
    try:
        if sys.argv[1:] == ["--version"]:  # whatever the command imports, and whether it is installed
            code = import_module(_COMMAND).print_version(program)
        else:
            code = import_module(module).main()
    except ImportError as error:
        sys.stderr.write(f"{program}: {missing(error)}\n")
        code = 1
    if code == INTERRUPTED:  # native threads may still compute, which Python's own shutdown could crash
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def leave_when_interrupted() -> None:
    """From now on Ctrl-C ends the process at once. A process started with SIGINT ignored keeps ignoring it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def parent_at_launch() -> int:
    """The pid of the process that started this one. The launcher records it, with its own pid, before Python starts:
    the parent may end meanwhile, and another process adopt this one."""
    launched, _, parent = os.environ.get("QWEN3_ASR_MLX_LAUNCHED", "").partition(" ")
    return int(parent) if launched == str(os.getpid()) and parent.isdecimal() else os.getppid()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt: for work that has to clean up."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _leave)


def report_interrupt() -> int:
    """Write the line to stderr; return the exit code."""
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    return INTERRUPTED


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(report_interrupt())
