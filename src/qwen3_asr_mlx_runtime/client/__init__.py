"""A client of the bridge: starts it, exchanges typed messages, and ends it. docs/clients.md describes it.

    with Bridge(["scripts/qwen3-asr-mlx-bridge", "--model", "demo"]) as bridge:
        text = bridge.transcribe("examples/audio/sample.wav").text

Imports no MLX and no numpy.
"""

from qwen3_asr_mlx_runtime.client.aio import AsyncBridge, AsyncStream
from qwen3_asr_mlx_runtime.client.bridge import Bridge, Stream
from qwen3_asr_mlx_runtime.client.errors import (
    BridgeClosed,
    BridgeExited,
    BridgeFatal,
    BridgeHung,
    BridgeNotExecutable,
    BridgeNotFound,
    BridgePipeClosed,
    BridgeStartFailed,
    ClientError,
    LaunchError,
    LossError,
    ProtocolError,
    ProtocolUnsupported,
    RequestFailed,
    RequestTimeout,
    RestartLimit,
)
from qwen3_asr_mlx_runtime.client.events import BridgeLost, Event, EventsLost, UtteranceLost
from qwen3_asr_mlx_runtime.client.exits import Exit
from qwen3_asr_mlx_runtime.client.life import Limits
from qwen3_asr_mlx_runtime.client.messages import Unknown
from qwen3_asr_mlx_runtime.client.session import State
from qwen3_asr_mlx_runtime.client.setup import Setup
from qwen3_asr_mlx_runtime.terms import Term

__all__ = [
    "AsyncBridge",
    "AsyncStream",
    "Bridge",
    "BridgeClosed",
    "BridgeExited",
    "BridgeFatal",
    "BridgeHung",
    "BridgeLost",
    "BridgeNotExecutable",
    "BridgeNotFound",
    "BridgePipeClosed",
    "BridgeStartFailed",
    "ClientError",
    "Event",
    "EventsLost",
    "Exit",
    "LaunchError",
    "Limits",
    "LossError",
    "ProtocolError",
    "ProtocolUnsupported",
    "RequestFailed",
    "RequestTimeout",
    "RestartLimit",
    "Setup",
    "State",
    "Stream",
    "Term",
    "Unknown",
    "UtteranceLost",
]
