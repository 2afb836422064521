"""The command line; see scripts/qwen3-asr-mlx-wyoming."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import NamedTuple
from urllib.parse import urlsplit

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.client import ClientError
from qwen3_asr_mlx_runtime.command import complain, guarded, note
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.limits import ProcessLimits
from qwen3_asr_mlx_runtime.tools.command import bridge_command, bridge_model, note_model
from qwen3_asr_mlx_runtime.tools.doors.life import listening
from qwen3_asr_mlx_runtime.tools.doors.options import add_bridge_options, command_of, is_loopback, public_name

PROGRAM = "qwen3-asr-mlx-wyoming"
STDIO = "stdio://"
URI = "tcp://127.0.0.1:10300"
MAX_AUDIO_SECONDS, MAX_CONNECTIONS = ProcessLimits.max_utterance_seconds, 32
EXAMPLES = f"""examples:
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B --uri tcp://0.0.0.0:10300 --allow-network
  echo '{{"type":"describe"}}' | {PROGRAM} --model demo --uri stdio://
"""


class Address(NamedTuple):
    host: str
    port: int


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None, bridge: Sequence[str] | None = None) -> int:
    """Exit code 0 at the end of stdin; 1 if the address is taken or the bridge cannot be started; 2 for a bad command
    line; 130, 143 or 129 after SIGINT, SIGTERM or SIGHUP; 5 if the parent has gone. `bridge`: the command line of a
    bridge to use instead of this package's."""
    parser = _parser()
    options = parser.parse_args(arguments)
    address: Address | None = options.uri
    is_open = address is not None and not is_loopback(address.host)
    if is_open and not options.allow_network:
        parser.error("--uri is open to other machines, and Wyoming knows no password: it needs --allow-network")
    options.model = bridge_model(options)
    import_module("wyoming")  # of the extra `wyoming`: it is named where it is missing
    from qwen3_asr_mlx_runtime.tools.wyoming.pipes import Pipes
    from qwen3_asr_mlx_runtime.tools.wyoming.server import Plan, run

    plan = Plan(
        program=PROGRAM,
        command=command_of(options, bridge or bridge_command()),
        env=os.environ,
        model=public_name(options.model),
        max_audio_seconds=options.max_audio_seconds,
        max_connections=options.max_connections,
        sends_partials=options.partials,
        loads=not options.lazy,
        parent_pid=options.parent_pid,
    )
    with nullcontext(Pipes.claimed()) if address is None else listening(*address) as source:
        note_model(PROGRAM, options)
        if is_open:
            note(f"{PROGRAM}: whoever reaches this address can have audio transcribed: Wyoming knows no password")
        try:
            return asyncio.run(run(plan, source))
        except ClientError as error:
            return complain(PROGRAM, error.line)


def _uri(text: str) -> Address | None:
    """None for stdin and stdout."""
    if text == STDIO:
        return None
    try:
        parts = urlsplit(text)
        if parts.hostname and parts.port is not None and parts == ("tcp", parts.netloc, "", "", ""):
            return Address(parts.hostname, parts.port)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected {STDIO} or tcp://HOST:PORT, got {text!r}")


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Transcribe for Home Assistant and other programs that speak Wyoming.", EXAMPLES)
    add = parser.add_argument
    add(
        "--uri",
        type=_uri,
        default=URI,
        help="tcp://HOST:PORT, where port 0 is a free one, or stdio:// (default: %(default)s, this machine only)",
    )
    add(
        "--allow-network",
        action="store_true",
        help="listen on an address that other machines reach: anybody there can have audio transcribed",
    )
    add_bridge_options(parser)
    add(
        "--partials",
        action="store_true",
        help="send stable text as chunks while audio comes; the transcript may differ from it",
    )
    add(
        "--max-audio-seconds",
        type=values.seconds(0.1, MAX_AUDIO_SECONDS),
        default=MAX_AUDIO_SECONDS,
        metavar="SECONDS",
        help="of one utterance (default: %(default)g)",
    )
    add(
        "--max-connections",
        type=values.whole_number(1, 64),
        default=MAX_CONNECTIONS,
        metavar="COUNT",
        help="at a time; others get an error (default: %(default)s)",
    )
    return parser
