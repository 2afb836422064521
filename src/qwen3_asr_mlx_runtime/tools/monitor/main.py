"""scripts/qwen3-asr-mlx-monitor: figures of a bridge session, observed on its pipes."""

import argparse
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from qwen3_asr_mlx_runtime.command import complain, guarded
from qwen3_asr_mlx_runtime.command_line import Parser
from qwen3_asr_mlx_runtime.entry import parent_at_launch
from qwen3_asr_mlx_runtime.tools.monitor.figures import Figures, Summary
from qwen3_asr_mlx_runtime.tools.monitor.record import Recorder, read_record
from qwen3_asr_mlx_runtime.tools.monitor.relay import Relay, Tap, leave_as
from qwen3_asr_mlx_runtime.tools.monitor.watch import Watch

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.tools.monitor.session import Report, Session

PROGRAM = "qwen3-asr-mlx-monitor"
EXAMPLES = f"""examples:
  {PROGRAM} --model demo < examples/demo.jsonl > replies.jsonl
  {PROGRAM} --record session.jsonl --json figures.json --model demo < examples/demo.jsonl > replies.jsonl
  {PROGRAM} --replay session.jsonl

An app starts it in place of the bridge. Its own options come first; from the first other word on, all go to the bridge.
It draws on the terminal of stderr, or on the terminal that the app was started from, or on --screen. Without a terminal
it writes its figures to stderr at the end. docs/telemetry.md explains each.
"""
_WITH_VALUE = ("--record", "--replay", "--json", "--screen", "--bridge", "--print-completion")
_ALONE = ("--show-text", "--help", "-h", "--version")


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the bridge; if a signal ended the bridge, the monitor ends by it too. A replay returns 0. Before
    the bridge is started: 1 for an error of the monitor, 2 for a bad command line."""
    own, bridges = split(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options = parser.parse_args(own)
    if options.replay and (options.record or options.screen or bridges):
        parser.error("--replay starts no bridge: only --json and --show-text go with it")
    if options.json and options.json == options.record:
        parser.error("--json and --record name the same file")
    options.bridge = options.bridge or _installed_bridge()
    if not options.replay and not options.bridge:
        parser.error("no qwen3-asr-mlx-bridge is installed beside this Python or on PATH: name one by --bridge")
    if options.replay:
        return _replay(options)
    return _monitor(options, bridges)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the monitor's arguments, the bridge's arguments)"""
    index = 0
    while index < len(argv):
        word = argv[index]
        if word in _WITH_VALUE:
            index += 2
        elif word in _ALONE or word.startswith(tuple(f"{option}=" for option in _WITH_VALUE)):
            index += 1
        else:
            break
    return list(argv[:index]), list(argv[index:])


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Runs between an app and the bridge, and shows figures of the session.", EXAMPLES)
    add = parser.add_argument
    add("--record", type=Path, metavar="FILE", help="record the session for --replay: only numbers")
    add("--replay", type=Path, metavar="FILE", help="show a record in place of a session")
    add("--json", type=Path, metavar="FILE", help="write the figures there at the end, as one object")
    add(
        "--screen",
        type=Path,
        metavar="TERMINAL",
        help="draw there, as on the /dev/… that `tty` names in another window",
    )
    add("--show-text", action="store_true", help="show transcripts too, on the screen and in the record")
    add("--bridge", metavar="FILE", help="the program to start (default: the bridge installed with this command)")
    return parser


def _installed_bridge() -> str | None:
    """The bridge that pip installed; the launcher of a checkout names its own."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("qwen3-asr-mlx-bridge", path=os.pathsep.join(folders))


def _replay(options: argparse.Namespace) -> int:
    from qwen3_asr_mlx_runtime.tools.command import table_console
    from qwen3_asr_mlx_runtime.tools.monitor.screen import Texts, picture

    figures, texts = Figures(), Texts()
    for note in read_record(options.replay):
        figures.take(note)
        if options.show_text:
            texts.take(note)
    _write(options.json, figures.summary())
    table_console().print(picture(figures.summary(), texts))
    return 0


def _monitor(options: argparse.Namespace, bridges: Sequence[str]) -> int:
    from qwen3_asr_mlx_runtime.tools.monitor.screen import find_terminal
    from qwen3_asr_mlx_runtime.tools.monitor.session import Session
    from qwen3_asr_mlx_runtime.tools.monitor.stderr_pane import StderrPane, stderr_is_on

    recorder = Recorder(options.record) if options.record else None
    if options.json:
        options.json.touch()  # before anything is started, so that an unwritable file fails at once
    tap = Tap()
    terminal = find_terminal(options.screen)
    pane = StderrPane() if terminal is not None and stderr_is_on(terminal) else None
    report = partial(complain, PROGRAM) if pane is None else pane.add_line
    threading.excepthook = lambda args: _report_failure(report, args.exc_type)
    relay = Relay([options.bridge, *_with_parent(bridges)], tap, None if pane is None else pane.take)
    session = Session(tap, Watch(options.show_text), recorder, report, pane)
    screen = None if terminal is None else session.draw(terminal)
    code = relay.run()
    session.end(code)
    if screen is not None:
        screen.close()
    else:
        _print_figures(session)
    try:
        _write(options.json, session.summary())
    except OSError as error:
        complain(PROGRAM, f"{error.strerror}: {options.json}")
    leave_as(code)
    return code


def _report_failure(report: "Report", failure: type[BaseException]) -> None:
    """Report a bug without its message, which may quote anything. The relay goes on."""
    report(f"a bug of the monitor: {failure.__name__}; its figures are wrong from here on")


def _with_parent(bridges: Sequence[str]) -> list[str]:
    """Bind the bridge's life to the app, which is not its parent here."""
    named = any(word == "--parent-pid" or word.startswith("--parent-pid=") for word in bridges)
    parent = parent_at_launch()  # 0 if the app is outside of this container and cannot be watched
    return [*bridges, *(() if named or not parent else ("--parent-pid", str(parent)))]


def _print_figures(session: "Session") -> None:
    """Print to stderr, for one second at most: it may have no reader."""
    from rich.console import Console

    from qwen3_asr_mlx_runtime.tools.command import WIDTH
    from qwen3_asr_mlx_runtime.tools.monitor.screen import Texts, picture

    show = Console(stderr=True, highlight=False, width=WIDTH).print
    thread = threading.Thread(target=show, args=(picture(session.summary(), Texts()),), daemon=True)
    thread.start()
    thread.join(1.0)


def _write(path: Path | None, summary: Summary) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.encode(summary) + b"\n")
