"""The command line; see scripts/qwen3-asr-mlx-transcribe."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from qwen3_asr_mlx_runtime import option_values as values
from qwen3_asr_mlx_runtime.client import ClientError
from qwen3_asr_mlx_runtime.command import guarded, note
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.limits import MAX_STREAM_RATE, MIN_STREAM_RATE
from qwen3_asr_mlx_runtime.model_name import DEFAULT_MODEL, model
from qwen3_asr_mlx_runtime.tools.command import bridge_command, bridge_model, note_model
from qwen3_asr_mlx_runtime.tools.transcribe.formats import CAPTIONED, FORMATS
from qwen3_asr_mlx_runtime.tools.transcribe.screen import count, length, screen
from qwen3_asr_mlx_runtime.tools.transcribe.sources import (
    STDIN,
    STDIN_NAME,
    Source,
    listed,
    with_folders,
    with_outputs,
    without_done,
)
from qwen3_asr_mlx_runtime.tools.transcribe.spooled import spooled
from qwen3_asr_mlx_runtime.tools.transcribe.work import Work

PROGRAM = "qwen3-asr-mlx-transcribe"
MAX_AUDIO_SECONDS = 4 * 3600.0
EXAMPLES = f"""examples:
  {PROGRAM} TALK.m4a   # writes TALK.txt beside it
  {PROGRAM} --format srt,vtt --language en FILM.mp4
  {PROGRAM} --recursive --output-dir TEXTS RECORDINGS
  {PROGRAM} --model demo --stdout examples/audio/sample.wav
  ffmpeg -i TALK.m4a -f wav - | {PROGRAM} -
"""


@guarded(PROGRAM)
def main(arguments: Sequence[str] | None = None, bridge: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a file failed or the model cannot be loaded; 2 for a bad command line; 130 when interrupted.
    `bridge`: the command line of a bridge to use instead of this package's."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.model = bridge_model(options)
    _leave_cleanly()
    with ExitStack() as stack:
        every = _sources(parser, options, stack)
        sources = every if options.overwrite else [each for each in map(without_done, every) if _is_open(each)]
        if done := len(every) - len(sources):
            note(f"{done} of {count(len(every))} done before: --overwrite transcribes again")
        return _transcribe(options, [*map(with_folders, sources)], bridge or bridge_command()) if sources else 0


def _is_open(source: Source) -> bool:
    return bool(source.outputs or source.printed or source.trouble)


def _transcribe(options: argparse.Namespace, sources: Sequence[Source], bridge: Sequence[str]) -> int:
    note_model(PROGRAM, options)
    limit = ["--max-audio-seconds", f"{MAX_AUDIO_SECONDS:g}"]
    command = [*bridge, "--model", options.model, *limit, *options.bridge]
    with screen({each.name: _size(each.audio) for each in sources}) as shown:
        work, started = Work(_request(options), shown), time.monotonic()
        try:
            asyncio.run(work.run(command, sources))
        except ClientError as error:
            shown.say(f"{PROGRAM}: {error.line}")
            return 1
        finally:
            took = f"{length(work.seconds)} of audio in {length(time.monotonic() - started)}"
            shown.say(f"{work.done} of {count(len(sources))} done: {took}")
    return 1 if work.failed else 0


def _request(options: argparse.Namespace) -> dict[str, object]:
    """Members of each request."""
    words = bool(CAPTIONED.intersection(options.format)) if options.words is None else options.words
    return {
        "decoder_mode": "batched",
        "language": options.language,
        "languages": options.languages,
        "context": options.context,
        "terms": options.terms and msgspec.to_builtins(options.terms),
        "track": options.track,
        "segments": True,
        "words": words,
        "progress": True,
    }


def _sources(parser: Parser, options: argparse.Namespace, stack: ExitStack) -> list[Source]:
    """Raises InvalidParams and AudioTooLong."""
    paths = [path for path in options.files if path != STDIN]
    files = listed(paths, is_recursive=options.recursive, output_dir=options.output_dir)
    reads_stdin = STDIN in options.files
    prints_stdin = reads_stdin and not options.output_dir
    _check(parser, options, len(files) if options.stdout else 0, reads_stdin, prints_stdin)
    if not files and paths:
        parser.error("the folders hold no sound or video files" + ("" if options.recursive else ": try --recursive"))
    sources = with_outputs(files, () if options.stdout else options.format)
    if options.stdout:
        sources = [replace(each, printed=options.format[0]) for each in sources]
    if reads_stdin:
        audio = stack.enter_context(spooled(sys.stdin, options.pcm, MAX_AUDIO_SECONDS))
        folder = options.output_dir
        outputs = {each: folder / f"{STDIN_NAME}.{each}" for each in options.format} if folder else {}
        sources.append(Source(STDIN_NAME, audio, outputs, options.format[0] if prints_stdin else None))
    return sources


def _check(parser: Parser, options: argparse.Namespace, files: int, reads_stdin: bool, prints_stdin: bool) -> None:
    """`files`: how many are printed, without stdin."""
    printed = files + prints_stdin
    if options.pcm is not None and not reads_stdin:
        parser.error(f"--pcm is about stdin: name {STDIN} as a file")
    if options.stdout and options.output_dir:
        parser.error("--stdout writes no files into --output-dir: leave out one of them")
    if printed and len(options.format) > 1:
        parser.error("what is printed has one --format")
    if printed > 1 and options.format[0] in CAPTIONED:
        parser.error(f"{options.format[0]} is printed of one file, got {printed}")
    if printed and sys.stdout is None:
        parser.error("stdout is closed")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _leave_cleanly() -> None:
    """On SIGTERM, and when the terminal is closed: end the bridge, and leave no half file."""

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, leave)


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(f"expected {', '.join(FORMATS)}, got {name!r}")
    return names


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing")
    return text


def _folder(text: str) -> Path:
    return Path(_path(text))


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Transcribe sound and video files: text, subtitles or JSON beside each of them.", EXAMPLES)
    add = parser.add_argument
    add("files", metavar="FILE", type=_path, nargs="+", help="a file, a folder, or - for stdin, whose text is printed")
    add(
        "--format",
        type=_formats,
        default=["txt"],
        metavar="FORMAT,...",
        help=f"one or more of {', '.join(FORMATS)} (default: txt)",
    )
    add("--output-dir", type=_folder, metavar="FOLDER", help="where to write (default: beside each file)")
    add("--stdout", action="store_true", help="print, and write no files")
    add("--overwrite", action="store_true", help="also transcribe files whose outputs exist")
    add("-r", "--recursive", action="store_true", help="also the folders within a folder")
    add("--model", type=model, help=f"repository, folder, or demo (QWEN3_ASR_MLX_MODEL, or {DEFAULT_MODEL})")
    languages = parser.add_mutually_exclusive_group()
    languages.add_argument("--language", type=values.language, help="name or ISO code; by default the model decides")
    languages.add_argument(
        "--languages", type=values.languages, metavar="LANGUAGE,...", help="the model decides among these, file by file"
    )
    add("--context", type=values.context, help="words or text that the model may take as background")
    add("--terms", type=values.terms, metavar="TERM[=WEIGHT],...", help="what the text is likely to have")
    add(
        "--words",
        action=argparse.BooleanOptionalAction,
        help="find when each word is said, with a second model (default: for srt, vtt and tsv)",
    )
    add("--track", type=values.whole_number(1, 99), help="which audio track of a file, from 1")
    add(
        "--pcm",
        type=values.whole_number(MIN_STREAM_RATE, MAX_STREAM_RATE),
        metavar="RATE",
        help="stdin is raw PCM of this rate: 16 bits, little-endian, mono",
    )
    add(
        "--bridge",
        type=values.shell_words,
        default=[],
        metavar="OPTIONS",
        help="more of the bridge: --bridge='--quantize 8bit'",
    )
    return parser
