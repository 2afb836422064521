"""Measures a configuration in its own process, so that memory peaks and compiled kernels are not shared."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from qwen3_asr_mlx_runtime.engines.profile import Profile
from qwen3_asr_mlx_runtime.errors import BridgeError, EngineUnavailable, ModelError
from qwen3_asr_mlx_runtime.protocol.transcripts import ItemError, Word
from qwen3_asr_mlx_runtime.tools.perftest import main as perftest
from qwen3_asr_mlx_runtime.tools.score.word_times import References, WordFigures

ShowProgress = Callable[[str, int | None, int | None], None]


class MeasuredItem(msgspec.Struct, frozen=True):
    audio: str
    text: str | None = None
    profile: Profile | None = None
    words: list[Word] | UnsetType | None = UNSET
    error: ItemError | UnsetType = UNSET


class Measured(msgspec.Struct, frozen=True):
    """The part of qwen3-asr-mlx-perftest's output that an evaluation uses; the fields have the same meaning."""

    device: str
    batch_size: int
    load_seconds: float
    run_seconds: float
    audio_seconds: float | None
    realtime_factor: float | None
    realtime_factor_with_load: float | None
    generated_tokens_per_second: float | None
    profile: Profile
    items: list[MeasuredItem]
    words: WordFigures | None = None


def measure(
    arguments: Sequence[str],
    files: Sequence[tuple[str, Path]],
    show_progress: ShowProgress,
    references: References | None = None,
) -> bytes:
    """The output of `qwen3-asr-mlx-perftest --json` for these arguments and files (name, path). `references`: the words
    of the manifest, for --words. Only the child process imports MLX. Raises EngineUnavailable with the reason if there
    is no output."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, list(arguments), list(files), references), daemon=True)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits this; the parent ends it
    process.start()
    signal.signal(signal.SIGINT, interrupt)
    theirs.close()
    try:
        return _result(ours, show_progress)
    except EOFError:
        process.join()
        raise EngineUnavailable(f"its process ended: {_ending(process.exitcode)}") from None
    finally:
        ours.close()
        process.terminate()
        process.join()


def _result(connection: "Connection", show_progress: ShowProgress) -> bytes:
    while True:
        match connection.recv():
            case bytes() as result:
                return result
            case str() as reason:
                raise EngineUnavailable(reason)
            case progress:
                show_progress(*progress)


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _work(
    connection: "Connection", arguments: list[str], files: list[tuple[str, Path]], references: References | None
) -> None:
    """In the child: send progress, then the result, or the reason why there is none."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the parent's stdout is for its own result
    options = perftest.command_line().parse_args(arguments)
    try:
        result = perftest.measure(options, files, lambda *progress: connection.send(progress), references)
        connection.send(msgspec.json.encode(result))
    except ModelError as error:
        connection.send(f"model {options.model!r}: {error.message}")
    except BridgeError as error:
        connection.send(error.message)
    except (KeyboardInterrupt, BrokenPipeError):  # the parent has ended
        os._exit(1)
