"""argv → Settings → claimed stdio → daemon → exit code."""

import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from qwen3_asr_mlx_runtime.entry import leave_when_interrupted, parent_at_launch
from qwen3_asr_mlx_runtime.packages import missing

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.bridge.lifecycle import ParentWatch
    from qwen3_asr_mlx_runtime.bridge.loop import Loop, MakeEngine, Message
    from qwen3_asr_mlx_runtime.bridge.stdio import Wire
    from qwen3_asr_mlx_runtime.settings import CommandLine, Settings

WAITS = (
    'waits for requests here, one JSON object a line, as {"type":"transcribe","audio":"talk.wav"}; Ctrl-D ends it; '
    "docs/protocol/reference.md has all of them"
)
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_VERBOSITY": "critical",  # its messages quote paths, and URLs that name the model
    "TOKENIZERS_PARALLELISM": "false",  # the tokenizer starts no threads of its own
    "TRANSFORMERS_VERBOSITY": "critical",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
_MISSING: dict[str, object] = {"code": "environment_missing", "retryable": False}
_EXHAUSTED: dict[str, object] = {"code": "resource_exhausted", "retryable": True}


def main(make_engine: "MakeEngine | None" = None) -> NoReturn:
    """Run the process from start to exit. `make_engine` replaces the real engine in tests."""
    leave_when_interrupted()
    from qwen3_asr_mlx_runtime.command import guarded
    from qwen3_asr_mlx_runtime.settings import PROGRAM

    _leave(guarded(PROGRAM, cleans_up=False)(_main)(make_engine))


def _main(make_engine: "MakeEngine | None") -> int:
    from qwen3_asr_mlx_runtime.bridge.lifecycle import ParentWatch
    from qwen3_asr_mlx_runtime.bridge.stdio import claim_stdio
    from qwen3_asr_mlx_runtime.diagnostics import diagnose
    from qwen3_asr_mlx_runtime.errors import ResourceExhausted
    from qwen3_asr_mlx_runtime.model_name import DEMO, DEMO_KNOWS
    from qwen3_asr_mlx_runtime.settings import parse_command_line
    from qwen3_asr_mlx_runtime.shortage import named_shortage

    line = parse_command_line(sys.argv[1:], os.environ)
    for notice in line.notices:
        diagnose(notice)
    if line.print_capabilities:
        return _print_capabilities(line.settings)
    if line.print_schema:
        return _print_schema()
    if line.settings.model == DEMO:
        diagnose(DEMO_KNOWS)
    if os.isatty(0):
        diagnose(WAITS)
    parent = ParentWatch(line.settings.parent_pid, started_by=parent_at_launch())
    try:
        with named_shortage():
            wire = claim_stdio()
    except (OSError, ResourceExhausted) as error:
        return _cannot_begin(1, error, "stdin and stdout cannot be claimed")
    return _serve(line, wire, parent, make_engine)


def _print_capabilities(settings: "Settings") -> int:
    from qwen3_asr_mlx_runtime.protocol.capabilities import capabilities
    from qwen3_asr_mlx_runtime.protocol.replies import encode_line

    sys.stdout.buffer.write(encode_line(capabilities(settings)))
    return 0


def _print_schema() -> int:
    from qwen3_asr_mlx_runtime.protocol.schema import schema_text

    sys.stdout.buffer.write(schema_text().encode("ascii"))
    return 0


def _serve(line: "CommandLine", wire: "Wire", parent: "ParentWatch", make_engine: "MakeEngine | None") -> int:
    from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit
    from qwen3_asr_mlx_runtime.shortage import named_shortage

    if wire.stdout is None:
        return Exit.PARENT_GONE
    if wire.stdin is None:
        return _fatal(wire.stdout, "stdin is closed: there is nothing to read requests from")
    _set_environment(line.settings)
    try:
        with named_shortage():
            daemon = _daemon(line.settings, (wire.stdin, wire.stdout), parent, make_engine)
    except Exception as error:  # noqa: BLE001 the parent must read any import failure on the wire
        return _cannot_begin(wire.stdout, error, "a package is broken")
    return _run(daemon)


def _daemon(
    settings: "Settings", wire: tuple[int, int], parent: "ParentWatch", make_engine: "MakeEngine | None"
) -> "Loop":
    """Build the loop. The rest is imported only now, with stdio claimed, so that no import prints to the wire."""
    import queue

    from qwen3_asr_mlx_runtime import process_memory
    from qwen3_asr_mlx_runtime.bridge.lifecycle import install_signal_handlers
    from qwen3_asr_mlx_runtime.diagnostics import diagnose, install_hooks
    from qwen3_asr_mlx_runtime.model_name import SPEECH_LEAVES, trouble

    process_memory.keep_little()
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    install_signal_handlers(inbox.put)
    install_hooks(inbox.put)
    if make_engine is None and settings.engine:
        make_engine = _remote_engine()
    elif make_engine is None:
        from qwen3_asr_mlx_runtime.engines.worker import WorkerEngine

        engine = WorkerEngine(settings, inbox.put)
        if not settings.lazy:
            engine.start()  # before the imports below: its own take as long, beside them
    from qwen3_asr_mlx_runtime.bridge.loop import Loop

    if settings.engine:
        diagnose(SPEECH_LEAVES)
    elif wrong := trouble(settings.model, settings.cache_dir, settings.local_files_only):
        diagnose(wrong)
    return Loop(settings, *wire, make_engine or (lambda *_: engine), inbox=inbox, parent=parent)


def _remote_engine() -> "MakeEngine":
    from qwen3_asr_mlx_runtime.engines.remote.engine import RemoteEngine

    return RemoteEngine


def _set_environment(settings: "Settings") -> None:
    os.environ.update(_ENVIRONMENT)
    if settings.local_files_only:
        os.environ["HF_HUB_OFFLINE"] = "1"


def _run(daemon: "Loop") -> int:
    from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit
    from qwen3_asr_mlx_runtime.diagnostics import diagnose, raised_at

    try:
        return daemon.run()
    except Exception as error:  # noqa: BLE001 the boundary of main: a bug ends the process with its location
        message = f"internal error: {raised_at(type(error), error.__traceback__)}"
        diagnose(message)
        daemon.fail(message)
        return Exit.INTERNAL_ERROR


def _cannot_begin(stdout: int, error: Exception, what: str) -> int:
    from qwen3_asr_mlx_runtime.errors import ResourceExhausted

    if isinstance(error, ResourceExhausted):
        return _fatal(stdout, error.message, _EXHAUSTED)
    return _fatal(stdout, missing(error) if isinstance(error, ImportError) else f"{what}: {type(error).__name__}")


def _fatal(stdout: int, message: str, kind: dict[str, object] = _MISSING) -> int:
    """Write the `fatal` line without any package, because a package may be missing."""
    from qwen3_asr_mlx_runtime.bridge.lifecycle import Exit
    from qwen3_asr_mlx_runtime.diagnostics import diagnose

    diagnose(message)
    line = {"type": "fatal", "message": message, **kind}
    with contextlib.suppress(OSError):
        os.write(stdout, json.dumps(line).encode("ascii") + b"\n")
    return Exit.ENVIRONMENT


def _leave(code: int) -> NoReturn:
    """End at once, without waiting for threads that may be inside a read, a write or a computation."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
