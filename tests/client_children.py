"""Small programs that stand in for a bridge, and mostly misbehave."""

import json
import sys
from collections.abc import Sequence

from qwen3_asr_mlx_runtime.client import Limits, Setup
from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities
from qwen3_asr_mlx_runtime.protocol.replies import encode_line
from qwen3_asr_mlx_runtime.settings import Settings

CAPABILITIES = json.loads(encode_line(capabilities(Settings())))
PONG = {"type": "pong", "uptime_s": 1.0, "state": "ready", "busy_ms": None, "last_progress_ms_ago": None}
STOPPED = {
    "type": "stopped",
    "reason": "stop",
    "completed": 0,
    "unfinished": [],
    "dropped_samples": 0,
    "items": [],
}
_START = f"""
import json, os, signal, subprocess, sys
CAPABILITIES, PONG, STOPPED = {CAPABILITIES!r}, {PONG!r}, {STOPPED!r}
def say(message, **more):
    os.write(1, json.dumps({{**message, **more}}, separators=(",", ":")).encode() + b"\\n")
def hear():
    line = sys.stdin.buffer.readline()
    return json.loads(line) if line else sys.exit(0)
def greet(**more):
    say(CAPABILITIES, id=hear()["id"], **more)
"""


def child(program: str, *arguments: str) -> list[str]:
    """The command of a child: `say` writes a message, `hear` reads one or exits, `greet` answers `hello`."""
    return [sys.executable, "-I", "-S", "-c", _START + program, *arguments]


def setup(command: Sequence[str], **limits: float) -> Setup:
    """Short times, so that what is late is late soon."""
    times = {"grace_seconds": 0.2, "hang_seconds": 30.0, "engine_pause_seconds": 0.0, **limits}
    return Setup(command=command, limits=Limits(**times))  # type: ignore[arg-type]
