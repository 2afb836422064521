"""Options that every door has: the bridge behind it, and the process that it does not outlive."""

import argparse
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.limits import MAX_KEEP_ALIVE_SECONDS
from qwen3_asr_mlx_runtime.model_name import DEFAULT_MODEL, model
from qwen3_asr_mlx_runtime.tools.command import add_bridge_option


def add_bridge_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--model", type=model, help=f"repository, folder, or demo (QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL})")
    add(
        "--keep-alive-seconds",
        type=values.seconds(0.0, MAX_KEEP_ALIVE_SECONDS),
        metavar="SECONDS",
        help="unload the model after so many idle seconds (default: never)",
    )
    add("--lazy", action="store_true", help="load the model with the first request, not at the start")
    add_bridge_option(parser)
    add("--parent-pid", type=values.whole_number(1, 2**31 - 1), help="exit when this process has gone")


def command_of(options: argparse.Namespace, bridge: Sequence[str], *own: str) -> list[str]:
    """The command line of the bridge. `bridge`: how it is started. `own`: options that this door gives it."""
    command = [*bridge, "--model", options.model, *own]
    if options.keep_alive_seconds is not None:
        command += ["--keep-alive-seconds", f"{options.keep_alive_seconds:g}"]
    return [*command, *(["--lazy"] if options.lazy else []), *options.bridge]


def public_name(model: str) -> str:
    """Of a folder only its last part."""
    path = values.expanded(model) or Path(model)
    return path.resolve().name if path.is_dir() else model


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
