"""scripts/qwen3-asr-mlx-monitor: how a session of the bridge goes, seen from the pipe."""

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
from qwen3_asr_mlx_runtime.entry import parent_at_launch
from qwen3_asr_mlx_runtime.tools.command import Parser
from qwen3_asr_mlx_runtime.tools.monitor.figures import Figures, Summary
from qwen3_asr_mlx_runtime.tools.monitor.record import Recorder, read_record
from qwen3_asr_mlx_runtime.tools.monitor.relay import Relay, Tap, leave_as
from qwen3_asr_mlx_runtime.tools.monitor.watch import Watch

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.tools.monitor.session import Say, Session

PROGRAM = "qwen3-asr-mlx-monitor"
EXAMPLES = f"""examples:
  {PROGRAM} --model demo < examples/demo.jsonl > replies.jsonl
  {PROGRAM} --record session.jsonl --json figures.json --model demo < examples/demo.jsonl > replies.jsonl
  {PROGRAM} --replay session.jsonl

An app starts it in place of the bridge. Its own options come first; from the first word that is none of them, all go
to the bridge. It draws on the terminal of stderr, or on the terminal that the app was started from, or on --screen;
where there is none it writes its figures to stderr at the end. docs/telemetry.md says what each means.
"""
_WITH_VALUE = ("--record", "--replay", "--json", "--screen", "--bridge")
_ALONE = ("--show-text", "--help", "-h")


@guarded(PROGRAM)
def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the bridge, or, by its signal, no return; of a replay 0. 1 where something of the monitor's own
    is at fault, 2 for a bad command line, each before the bridge was started."""
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
    """(the monitor's own words, the bridge's)"""
    place = 0
    while place < len(argv):
        word = argv[place]
        if word in _WITH_VALUE:
            place += 2
        elif word in _ALONE or word.startswith(tuple(f"{option}=" for option in _WITH_VALUE)):
            place += 1
        else:
            break
    return list(argv[:place]), list(argv[place:])


def _parser() -> Parser:
    parser = Parser(PROGRAM, "Stands between an app and the bridge, and tells how the session goes.", EXAMPLES)
    add = parser.add_argument
    add("--record", type=Path, metavar="FILE", help="keep what is needed to show the session again: numbers alone")
    add("--replay", type=Path, metavar="FILE", help="show a record in place of a session")
    add("--json", type=Path, metavar="FILE", help="write the figures there at the end, as one object")
    add(
        "--screen",
        type=Path,
        metavar="TERMINAL",
        help="draw there, as on the /dev/… that `tty` names in another window",
    )
    add("--show-text", action="store_true", help="transcripts too, on the screen and in the record")
    add("--bridge", metavar="FILE", help="the program to start (default: the bridge installed with this command)")
    return parser


def _installed_bridge() -> str | None:
    """Where pip put it; the launcher of a checkout names its own."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("qwen3-asr-mlx-bridge", path=os.pathsep.join(places))


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
        options.json.touch()  # before anything is started: that it cannot be written is told at once
    tap = Tap()
    terminal = find_terminal(options.screen)
    pane = StderrPane() if terminal is not None and stderr_is_on(terminal) else None
    say = partial(complain, PROGRAM) if pane is None else pane.say
    threading.excepthook = lambda args: _say_failure(say, args.exc_type)
    relay = Relay([options.bridge, *_with_parent(bridges)], tap, None if pane is None else pane.take)
    session = Session(tap, Watch(options.show_text), recorder, say, pane)
    screen = None if terminal is None else session.draw(terminal)
    code = relay.run()
    session.end(code)
    if screen is not None:
        screen.close()
    else:
        _tell(session)
    try:
        _write(options.json, session.summary())
    except OSError as error:
        complain(PROGRAM, f"{error.strerror}: {options.json}")
    leave_as(code)
    return code


def _say_failure(say: "Say", failure: type[BaseException]) -> None:
    """Without its message, which may quote anything. What passes goes on passing."""
    say(f"a bug of the monitor: {failure.__name__}; its figures are wrong from here on")


def _with_parent(bridges: Sequence[str]) -> list[str]:
    """The bridge lives and dies with the app, which is not its parent now."""
    named = any(word == "--parent-pid" or word.startswith("--parent-pid=") for word in bridges)
    parent = parent_at_launch()  # 0 outside of the container that this is in: nobody can be watched there
    return [*bridges, *(() if named or not parent else ("--parent-pid", str(parent)))]


def _tell(session: "Session") -> None:
    """To stderr, and not for ever: nobody may be reading there."""
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
