"""The command line, in the Python that the folder is for. main.py, or the launcher of a checkout, chooses that."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import CalledProcessError

from qwen3_asr_mlx_runtime.command import complain
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.entry import interruptible, report_interrupt
from qwen3_asr_mlx_runtime.tools.install.environment import Failed
from qwen3_asr_mlx_runtime.tools.install.folder import Source, install
from qwen3_asr_mlx_runtime.tools.install.wheelhouse import OLDEST_MACOS, download

PROGRAM = "qwen3-asr-mlx-install"
EXTRAS = ("japanese", "media", "remote")
ABOUT = """Builds a folder that an app can ship: the Python packages that constraints.txt pins, the runtime, and
a launcher that starts it with `python -I` and installs nothing. The launcher's path is printed."""
EXAMPLES = f"""examples:
  {PROGRAM} --prefix build/qwen3-asr --python build/python
  {PROGRAM} --download-to build/wheels
  {PROGRAM} --prefix build/qwen3-asr --python build/python --wheelhouse build/wheels

--python names an interpreter, which must stand at its place whenever the folder is used; or the folder of a relocatable
one (as python-build-standalone unpacks), which is copied: then the folder needs no other Python and may be moved to any
machine of the same system, on a Mac from --macos on. A wheelhouse is filled on the system, and with the Python version,
that it is for.
docs/embedding.md says the rest.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """BACKEND and INTERPRETER come first, the folder to copy, or empty. Exit code 0; 1 with one line on stderr; 2 for
    bad usage."""
    backend, interpreter, *words = sys.argv[1:] if arguments is None else arguments
    options = parse(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    copied = Path(interpreter) if interpreter else None
    source = Source(backend, copied, options.macos, tuple(sorted({*getattr(options, "with")})))
    try:
        with interruptible():
            _build(source, options)
    except Failed as error:
        return complain(PROGRAM, str(error))
    except CalledProcessError as error:
        return complain(PROGRAM, f"{Path(error.cmd[0]).name} ended with {error.returncode}: its own words are above")
    except OSError as error:
        return complain(PROGRAM, f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        return report_interrupt()
    return 0


def _build(source: Source, options: argparse.Namespace) -> None:
    if options.download_to:
        download(source.requirements(), source.constraints, _physical(options.download_to), source.macos)
    if options.prefix:
        wheelhouse = options.wheelhouse or options.download_to
        launcher = install(source, _physical(options.prefix), wheelhouse and _physical(wheelhouse))
        sys.stdout.write(f"{launcher}\n")


def _physical(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve would raise where links go round


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Exits for --help, --version and bad usage."""
    parser = Parser(PROGRAM, ABOUT, EXAMPLES)
    parser.add_argument("--prefix", type=Path, metavar="DIR", help="the folder to build; one built before is replaced")
    parser.add_argument("--wheelhouse", type=Path, metavar="DIR", help="take packages from here, and use no network")
    parser.add_argument("--download-to", type=Path, metavar="DIR", help="fill a wheelhouse with what is needed")
    parser.add_argument("--python", metavar="PATH", help="an interpreter, or the folder of a relocatable one")
    parser.add_argument(
        "--macos",
        type=_macos,
        metavar="VERSION",
        default=OLDEST_MACOS if sys.platform == "darwin" else None,
        help=f"the oldest macOS that it is to run on (default: {OLDEST_MACOS}, the oldest that MLX has wheels for)",
    )
    parser.add_argument(
        "--with",
        action="append",
        choices=EXTRAS,
        default=[],
        help="more packages: `media` reads m4a, mp4, webm and more, with FFmpeg, parts of which are under the GPL;"
        " `japanese` finds words of Japanese as the reference does; `remote` is for --engine",
    )
    options = parser.parse_args(argv)
    if options.macos and sys.platform != "darwin":
        parser.error("--macos is for a Mac: which packages are needed there is found out there")
    if not options.prefix and not options.download_to:
        parser.error("expected --prefix or --download-to")
    if options.wheelhouse and options.download_to:
        parser.error("a wheelhouse is either filled or used: --download-to and --wheelhouse are two calls")
    return options


def _macos(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d(\.\d{1,2})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"expected a version as 14 or 14.2, got {text!r}")
    return text
