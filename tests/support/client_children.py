"""Small programs that stand in for a bridge, and mostly misbehave."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
FINAL = {
    "type": "realtime_batch_final",
    "event": True,
    "n": 2,
    "reason": "batch_size",
    "count": 1,
    "failed": 0,
    "items": [
        {
            "type": "final_result",
            "job": 1,
            "stream_id": "mic",
            "utterance_id": "mic-1",
            "source": "buffer",
            "samples": 1,
            "text": "Seven three one.",
            "queue_seconds": 0.1,
            "audio_gap": False,
        }
    ],
    "total_seconds": None,
    "load_seconds": 0.0,
    "decoder_mode": "sequential",
    "redecoded": 0,
    "profile": {"stage": "batch"},
}
READY = {
    "type": "stream_ready",
    "stream_id": "mic",
    "sample_rate": 16000,
    "batch_size": 1,
    "max_batch_delay_ms": 1,
    "auto_flush": True,
    "decoder_mode": "sequential",
    "on_limit": "refuse",
    "dropped_samples": 0,
}
_START = f"""
import json, os, signal, subprocess, sys
CAPABILITIES, PONG, STOPPED = {CAPABILITIES!r}, {PONG!r}, {STOPPED!r}
FINAL, READY = {FINAL!r}, {READY!r}
def say(message, **more):
    os.write(1, json.dumps({{**message, **more}}, separators=(",", ":")).encode() + b"\\n")
def read():
    line = sys.stdin.buffer.readline()
    return json.loads(line) if line else sys.exit(0)
def hold():
    open(sys.argv[1]).close()
def greet(**more):
    say(CAPABILITIES, id=read()["id"], **more)
"""


def child(program: str, *arguments: str) -> list[str]:
    """The command of a child: `say` writes a message, `read` reads one or exits, `greet` answers `hello`,
    `hold` waits until the named pipe that is its first argument is opened for writing."""
    return [sys.executable, "-I", "-S", "-c", _START + program, *arguments]


def named_pipe(folder: Path) -> Path:
    pipe = folder / "held"
    os.mkfifo(pipe)
    return pipe


def release(pipe: Path) -> None:
    """Release the child that waits on this pipe, once it waits."""
    pipe.open("w").close()


def setup(command: Sequence[str], **limits: float) -> Setup:
    """No pause after an engine that was lost; other times as they are given."""
    times = {"grace_seconds": 5.0, "hang_seconds": 30.0, "engine_pause_seconds": 0.0, **limits}
    return Setup(command=command, limits=Limits(**times))  # type: ignore[arg-type]
