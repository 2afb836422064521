"""scripts/qwen3-asr-mlx-quantize: a checkpoint → a smaller one on disk. Progress goes to stderr; stdout gets one line
of JSON, `quantized` or `error`."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from qwen3_asr_mlx_runtime.checkpoint.files import check_files
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.integrity import Verified, unchanged, verify
from qwen3_asr_mlx_runtime.checkpoint.progress import Reporter
from qwen3_asr_mlx_runtime.checkpoint.quantize import SCHEMES
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve
from qwen3_asr_mlx_runtime.checkpoint.save import check_target, save_model
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
from qwen3_asr_mlx_runtime.command import guarded, note
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.engines.api import Progress
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.errors import BridgeError

PROGRAM = "qwen3-asr-mlx-quantize"


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 with an `error` line, 2 for a bad command line. An error or a signal leaves no files behind."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        result = _quantize(options)
    except BridgeError as error:
        return _failed(error.code, error.message)
    except OSError as error:
        return _failed("io_error", f"{error.strerror or type(error).__name__}: {error.filename or options.target}")
    _write({"type": "quantized", **result})
    return 0


def _parser() -> Parser:
    parser = Parser(
        PROGRAM,
        "Write a checkpoint with quantised weights, in the layout of mlx-community.",
        f"example: {PROGRAM} Qwen/Qwen3-ASR-0.6B models/0.6b-8bit --scheme 8bit",
    )
    parser.add_argument("source", metavar="SOURCE", help="repository, folder, or `demo`")
    parser.add_argument("target", metavar="TARGET", type=Path, help="the folder to write; must not exist")
    parser.add_argument(
        "--scheme",
        choices=SCHEMES,
        required=True,
        help="8bit; mixed: the decoder in 4 bits, all else in 8; 4bit: the tower in 4 bits too, which needs --force",
    )
    parser.add_argument("--force", action="store_true", help="write an audio tower of 4 bits nevertheless")
    parser.add_argument("--cache-dir", type=Path, help="where snapshots are kept (default: Hugging Face's own)")
    parser.add_argument("--local-files-only", action="store_true", help="never download")
    return parser


def _quantize(options: argparse.Namespace) -> dict[str, Any]:
    watch, report = Stopwatch(), Reporter(_show_progress)
    target = options.target.expanduser().absolute()
    check_target(target)
    report("resolve")
    source = resolve(
        options.source, Hub(cache=options.cache_dir), local_files_only=options.local_files_only, report=report
    )
    with unchanged(files := check_files(source)):
        verify(files, "once", Verified(None), partial(report, "verify"))
        report("quantize")
        model = load_model(source, quantize=options.scheme, force_4bit_tower=options.force, join=False)
        report("save")
        save_model(model, source, target)
    return {
        "source": str(source),
        "target": str(target),
        "scheme": options.scheme,
        "quantization": msgspec.to_builtins(model.quantization),
        "bytes": sum(file.stat().st_size for file in target.iterdir()),
        "seconds": watch.total,
    }


def _show_progress(progress: Progress) -> None:
    share = f" {progress.done / progress.total:.0%}" if progress.done is not None and progress.total else ""
    note(f"{progress.stage}{share}")


def _failed(code: str, message: str) -> int:
    note(message)
    _write({"type": "error", "code": code, "message": message})
    return 1


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
