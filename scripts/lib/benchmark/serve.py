"""One contender in its own process: reads commands, one JSON object a line, and answers each with its figures.

    python -m benchmark.serve recogniser|aligner CONTENDER wall|processor

Seconds are those of a clock on the wall, or those that all threads of this process spent on a processor. Whatever the
contender prints goes to stderr. A command that fails ends the process.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.contenders import CONTENDERS
from benchmark.contenders.contender import Aligner, Contender, Recogniser
from benchmark.counting import device, launches

MIB = 1024 * 1024
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
_clock = CLOCKS[sys.argv[3]] if len(sys.argv) > 3 else time.perf_counter


def load(contender: Contender, checkpoint: str, dtype: str) -> dict[str, Any]:
    started = _clock()
    contender.load(Path(checkpoint), dtype)
    contender.fence()
    return {"seconds": _clock() - started, **memory(contender), "versions": versions()}


def features(contender: Contender, clip: str, times: int) -> list[float]:
    samples = np.load(clip)
    return [_seconds(contender, lambda: contender.features(samples))[0] for _ in range(times)]


def tower(contender: Contender, clip: str) -> float:
    computed = contender.features(np.load(clip))
    return _seconds(contender, lambda: contender.tower(computed))[0]


def stages(contender: Recogniser, clip: str, new_tokens: int) -> dict[str, Any]:
    """Tower, prefill (to the first token, in hand), and each token after it, of one clip. The prefill is that of a text
    of one token, so that no second one is computed beside it."""
    computed = contender.features(np.load(clip))
    tower_seconds, audio = _seconds(contender, lambda: contender.tower(computed))
    started = _clock()
    next(contender.decode(audio, 1))
    prefill = _clock() - started
    contender.fence()
    moments, tokens = [_clock()], []
    for token in contender.decode(audio, new_tokens):
        moments.append(_clock())
        tokens.append(token)
    contender.fence()
    steps = np.diff(moments).tolist()[1:]
    return {"tower": tower_seconds, "prefill": prefill, "steps": steps, "tokens": [_all(tokens, new_tokens)]}


def total(contender: Recogniser, clips: Sequence[str], new_tokens: int, mode: str) -> dict[str, Any]:
    """All clips, from samples to text: `one by one`, or by one call in the decoder mode named."""
    audio = [np.load(clip) for clip in clips]

    def run() -> list[Sequence[int]]:
        if mode == "one by one":
            return [contender.transcribe(samples, new_tokens) for samples in audio]
        return contender.transcribe_batch(audio, new_tokens, mode)

    _forget_peak()
    try:
        seconds, tokens = _seconds(contender, run)
    except NotImplementedError:
        return {}
    return {"seconds": seconds, "tokens": [_all(row, new_tokens) for row in tokens], **memory(contender)}


def long(contender: Recogniser, clip: str, new_tokens: int) -> dict[str, Any]:
    """One long recording, with its memory peak."""
    _forget_peak()
    samples = np.load(clip)
    seconds, _ = _seconds(contender, lambda: contender.transcribe(samples, new_tokens))
    return {"seconds": seconds, **memory(contender)}


def load_to_count(contender: Recogniser, checkpoint: str, dtype: str, folder: str) -> dict[str, Any]:
    """Instead of `load`: nothing but `count` can follow. `folder` keeps what is compiled for it."""
    device.pretend_gpu(Path(folder))
    contender.load_unused(Path(checkpoint), dtype)
    return {"versions": versions()}


def count(
    contender: Recogniser, what: str, clip: str, rows: int = 1, positions: int = 0, times: int = 9
) -> dict[str, Any]:
    """What a `step`, a `prefill` or the `tower` would launch, and the least that the host took to build its graph; {}
    where the contender has none for so many rows."""
    seconds = []
    features = contender.features(np.load(clip)) if what == "tower" else None
    try:
        for _ in range(times):
            build = {
                "step": lambda: contender.step(rows, positions),
                "prefill": lambda: contender.prefill(positions),
                "tower": lambda: partial(contender.tower, features),
            }[what]()
            graph, took = device.built(build, stop=what != "tower")
            seconds.append(took)
    except NotImplementedError:
        return {}
    held = positions + 1 if what == "step" else positions
    counted = launches.count(graph, held)
    return {**vars(counted), "seconds": min(seconds), "queues_ahead": contender.queues_ahead}


def bounds(contender: Aligner, clip: str, text: str, language: str) -> dict[str, Any]:
    """What an alignment cannot be faster than: the tower, and a prefill with as many positions where there is one."""
    computed = contender.features(np.load(clip))
    tower_seconds, audio = _seconds(contender, lambda: contender.tower(computed))
    units = contender.units(text, language)
    try:
        seconds, positions = _seconds(contender, lambda: contender.prefill(audio, units))
    except NotImplementedError:
        return {"tower": tower_seconds}
    return {"tower": tower_seconds, "prefill": seconds, "positions": positions}


def classes(contender: Aligner, clip: str, text: str, language: str) -> dict[str, Any]:
    """The forward pass alone, and what it found; {} where the contender lacks a package for the language."""
    computed = contender.features(np.load(clip))
    try:
        units = contender.units(text, language)
    except (ImportError, RuntimeError):
        return {}
    seconds, found = _seconds(contender, lambda: contender.classes(computed, units))
    return {"seconds": seconds, "units": [*units], "classes": [int(one) for one in found]}


def align(contender: Aligner, clip: str, text: str, language: str) -> dict[str, Any]:
    """From samples and text to times."""
    _forget_peak()
    samples = np.load(clip)
    seconds, words = _seconds(contender, lambda: contender.align(samples, text, language))
    return {"seconds": seconds, "words": words, **memory(contender)}


def memory(contender: Contender) -> dict[str, float]:
    import mlx.core as mx

    contender.fence()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "rss_mib": _resident_bytes() / MIB,
        "rss_peak_mib": peak / (MIB if sys.platform == "darwin" else 1024),
        "mlx_peak_mib": mx.get_peak_memory() / MIB,
        "mlx_active_mib": mx.get_active_memory() / MIB,
        "mlx_cache_mib": mx.get_cache_memory() / MIB,
    }


def _resident_bytes() -> int:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(os.getpid())])) * 1024


def _forget_peak() -> None:
    import mlx.core as mx

    mx.reset_peak_memory()


def versions() -> dict[str, Any]:
    import mlx.core as mx

    device = mx.default_device()
    names = {key: value for key, value in mx.device_info(device).items() if "name" in key}
    return {"mlx": mx.__version__, "device": str(device), "python": platform.python_version(), **names}


def _seconds(contender: Contender, work: Callable[[], Any]) -> tuple[float, Any]:
    contender.fence()
    started = _clock()
    result = work()
    contender.fence()
    return _clock() - started, result


def _all(tokens: Sequence[int], new_tokens: int) -> list[int]:
    if len(tokens) != new_tokens:
        raise RuntimeError(f"{len(tokens)} tokens came instead of {new_tokens}")
    return [int(token) for token in tokens]


_SHARED = (load, features, tower, memory)
_COMMANDS = {
    "recogniser": (*_SHARED, stages, total, long, load_to_count, count),
    "aligner": (*_SHARED, bounds, classes, align),
}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    kind, name = sys.argv[1:3]
    contender = CONTENDERS[kind][name]()
    commands: dict[str, Callable[..., Any]] = {command.__name__: command for command in _COMMANDS[kind]}
    for line in sys.stdin:
        order = json.loads(line)
        answer = commands[order.pop("do")](contender, **order)
        replies.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
