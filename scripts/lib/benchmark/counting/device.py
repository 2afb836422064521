"""MLX on a CPU that takes itself for a GPU, and builds graphs without evaluating them."""

import ctypes
import io
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from benchmark.counting.graph import Graph

SOURCE = Path(__file__).with_name("graph.cpp")


def library(folder: Path) -> Path:
    """graph.cpp, compiled for the MLX of this Python, in `folder`. Raises RuntimeError without g++."""
    mlx = Path(str(distribution("mlx").locate_file("mlx")))
    stamp = sha256(SOURCE.read_bytes() + str(mlx).encode() + distribution("mlx").version.encode()).hexdigest()[:16]
    built = folder / f"graph-{stamp}{sysconfig.get_config_var('SHLIB_SUFFIX')}"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    part = built.with_suffix(f".{os.getpid()}.part")
    command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-I", str(mlx / "include"), str(SOURCE)]
    command += ["-L", str(mlx / "lib"), "-lmlx", f"-Wl,-rpath,{mlx / 'lib'}", "-o", str(part)]
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    except FileNotFoundError as error:
        raise RuntimeError("counting needs g++") from error
    part.rename(built)
    return built


def pretend_gpu(folder: Path) -> None:
    """Everything that asks for the device gets a GPU from now on. To be called before MLX is first imported; `folder`
    keeps the compiled library. Raises RuntimeError elsewhere than on Linux, and without g++."""
    if sys.platform != "linux":
        raise RuntimeError("counting works on Linux alone: elsewhere no library can stand in for MLX's")
    if "mlx.core" in sys.modules:
        raise RuntimeError("MLX is imported already")
    ctypes.CDLL(str(library(folder)), mode=ctypes.RTLD_GLOBAL)
    import mlx.core as mx

    info = {"device_name": "Apple M1", "max_recommended_working_set_size": 12 * 2**30, "memory_size": 16 * 2**30}
    new_stream, new_thread_local_stream = mx.new_stream, mx.new_thread_local_stream
    mx.default_device = lambda: mx.Device(mx.gpu)
    mx.device_info = lambda *_: info
    mx.metal.is_available = lambda: True
    mx.set_wired_limit = lambda _: 0
    mx.new_stream = lambda _: new_stream(mx.cpu)
    mx.new_thread_local_stream = lambda _: new_thread_local_stream(mx.cpu)


class _Built(Exception):
    """Ends a computation that would now be waited for."""


def built(build: Callable[[], Any], *, stop: bool = False) -> tuple[Graph, float]:
    """The graph of everything that `build` wants evaluated, and the seconds that it took to build. `stop`: of what
    comes until the first asynchronous evaluation."""
    import mlx.core as mx

    wanted: list[list[Any]] = [[]]
    started = time.perf_counter()
    with _unevaluated(wanted, stop):
        build()
    seconds = time.perf_counter() - started
    graph = Graph()
    for index, arrays in enumerate(wanted):
        if index:
            graph.parts.append([])
        if arrays:
            printed = io.StringIO()
            mx.export_to_dot(printed, *arrays)
            graph.read(printed.getvalue().splitlines())
    return graph, seconds


@contextmanager
def _unevaluated(wanted: list[list[Any]], stop: bool) -> Iterator[None]:
    """What is to be evaluated is added to `wanted` instead, in parts that are waited for one after the other. `stop`:
    the first asynchronous evaluation ends the block."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    def take(*trees: Any) -> None:
        wanted[-1] += [leaf for _, leaf in tree_flatten(list(trees)) if isinstance(leaf, mx.array)]

    def take_and_wait(*trees: Any) -> None:
        take(*trees)
        wanted.append([])

    def take_and_stop(*trees: Any) -> None:
        take(*trees)
        if stop:
            raise _Built

    evaluate, evaluate_later = mx.eval, mx.async_eval
    mx.eval, mx.async_eval = take_and_wait, take_and_stop
    try:
        yield
    except _Built:
        pass
    finally:
        mx.eval, mx.async_eval = evaluate, evaluate_later
