"""The command line; see scripts/qwen3-asr-mlx-serve."""

import argparse
import asyncio
import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.client import ClientError
from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.limits import ProcessLimits
from qwen3_asr_mlx_runtime.tools.command import bridge_command, bridge_model, note_model
from qwen3_asr_mlx_runtime.tools.doors.life import listening
from qwen3_asr_mlx_runtime.tools.doors.options import add_bridge_options, command_of, is_loopback, public_name

PROGRAM = "qwen3-asr-mlx-serve"
TOKEN_VARIABLE = "QWEN3_ASR_MLX_TOKEN"  # noqa: S105 a name
HOST, PORT = "127.0.0.1", 8000
MAX_AUDIO_SECONDS, MAX_UPLOAD_MB, MAX_REQUESTS = 4 * 3600.0, 200, 32
EXAMPLES = f"""examples:
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B
  {PROGRAM} --model Qwen/Qwen3-ASR-0.6B --port 9000 --allow-origin http://localhost:3000
  {PROGRAM} --host 0.0.0.0 --token-file TOKEN --bridge '--quantize 8bit'
  curl -F file=@TALK.m4a -F response_format=srt http://127.0.0.1:8000/v1/audio/transcriptions
"""
_PACKAGES = ("prometheus_client", "python_multipart", "starlette", "uvicorn", "websockets")
_TOKEN = re.compile(r"[!-~]{8,}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+|null")


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None, bridge: Sequence[str] | None = None) -> int:
    """Exit code 1 if the address is taken or the bridge cannot be started; 2 for a bad command line; 130, 143 or 129
    after SIGINT, SIGTERM or SIGHUP; 5 if the parent has gone. `bridge`: the command line of a bridge to use instead of
    this package's."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.model = bridge_model(options)
    token = _token(parser, options)
    for package in _PACKAGES:  # of the extra `serve`: one that is missing is named
        import_module(package)
    from qwen3_asr_mlx_runtime.tools.serve.app import Access
    from qwen3_asr_mlx_runtime.tools.serve.server import Plan, run

    plan = Plan(
        program=PROGRAM,
        command=command_of(options, bridge or bridge_command(), *_own_options(options)),
        env={name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE},
        model=public_name(options.model),
        access=Access([options.host, *options.allow_host], options.allow_origin, token),
        max_upload_bytes=options.max_upload_mb * values.MIB,
        max_requests=options.max_requests,
        loads=not options.lazy,
        words=options.words,
        parent_pid=options.parent_pid,
    )
    with listening(options.host, options.port) as listener:
        note_model(PROGRAM, options)
        try:
            return asyncio.run(run(plan, listener))
        except ClientError as error:
            return complain(PROGRAM, error.line)


def _token(parser: Parser, options: argparse.Namespace) -> str | None:
    """From the file, or from the environment; never from the command line, which every user of a machine can read.
    Raises OSError."""
    file: Path | None = options.token_file
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
    else:
        token = file.read_text(encoding="utf-8", errors="replace").strip()
    if file is not None or token:
        if _TOKEN.fullmatch(token) is None:
            parser.error("expected a token of at least 8 visible ASCII characters")
        return token
    if not is_loopback(options.host):
        parser.error(f"--host {options.host} is open to other machines: it needs --token-file or {TOKEN_VARIABLE}")
    return None


def _own_options(options: argparse.Namespace) -> list[str]:
    """Of the bridge: a stream for each session."""
    streams = max(options.max_requests, ProcessLimits.max_streams)
    return ["--max-audio-seconds", f"{options.max_audio_seconds:g}", "--max-streams", str(streams)]


def _origin(text: str) -> str:
    if _ORIGIN.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"expected an origin, as http://localhost:3000, got {text!r}")
    return text


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Transcribe over HTTP and WebSocket as OpenAI's API does, on this machine.", EXAMPLES)
    _add_network_options(parser)
    add_bridge_options(parser)
    add = parser.add_argument
    add(
        "--max-audio-seconds",
        type=values.seconds(0.1),
        default=MAX_AUDIO_SECONDS,
        metavar="SECONDS",
        help="of one file (default: %(default)g)",
    )
    add("--words", action="store_true", help="load the aligner too at the start, for times of words and subtitles")
    return parser


def _add_network_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--host", default=HOST, type=values.name, help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=values.whole_number(0, 65535), default=PORT, help="0: a free one (default: %(default)s)")
    add("--token-file", type=Path, metavar="FILE", help=f"holds the token that requests must have ({TOKEN_VARIABLE})")
    add("--allow-host", action="append", default=[], metavar="NAME", help="also answer requests for this host name")
    add(
        "--allow-origin",
        action="append",
        default=[],
        type=_origin,
        metavar="ORIGIN",
        help="also answer web pages from there, as http://localhost:3000 (default: none)",
    )
    add(
        "--max-upload-mb",
        type=values.whole_number(1, 1 << 20),
        default=MAX_UPLOAD_MB,
        metavar="MEBIBYTES",
        help="of one request (default: %(default)s)",
    )
    add(
        "--max-requests",
        type=values.whole_number(1, 256),
        default=MAX_REQUESTS,
        metavar="COUNT",
        help="requests and realtime sessions at a time; others get 503 (default: %(default)s)",
    )
