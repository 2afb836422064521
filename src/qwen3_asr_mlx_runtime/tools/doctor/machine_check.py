"""Whether the machine can run the runtime: Python, processor, MLX's device, memory, disk, and the model's files."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from qwen3_asr_mlx_runtime.errors import BridgeError, ModelNotFound, OutOfMemory
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure, ok, warning

OLDEST, NEWEST = (3, 11), (3, 13)
OLDEST_MLX = (0, 32, 1)
ENOUGH_DISK = 6 * 2**30  # a checkpoint of 1.7B in bfloat16, and room to move


def check_machine(cache_dir: Path | None) -> Iterator[Finding]:
    """The checks that need no model. `cache_dir`: where models are kept. Raises DeviceUnavailable if MLX has no
    device."""
    yield _python(sys.version_info[:2])
    yield _processor(platform.system(), platform.machine())
    yield _mlx()
    yield from _disk(cache_dir)
    yield _device()


def check_model_files(
    model: str, cache_dir: Path | None, verify: str, is_wanted: bool = True, kind: Literal["model", "aligner"] = "model"
) -> Iterator[Finding]:
    """Whether the model is in the cache, complete, passes the digest check, and fits in memory. A missing model is a
    failure only if it `is_wanted`. `kind` decides what `demo` is, and how the weights are named."""
    from qwen3_asr_mlx_runtime.checkpoint.files import check_files
    from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
    from qwen3_asr_mlx_runtime.checkpoint.integrity import Verified
    from qwen3_asr_mlx_runtime.checkpoint.integrity import verify as verify_files
    from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve, resolve_aligner
    from qwen3_asr_mlx_runtime.checkpoint.weights import loaded_bytes
    from qwen3_asr_mlx_runtime.engine.memory import Governor, machine_limit
    from qwen3_asr_mlx_runtime.model.aligner import ForcedAligner
    from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

    find, network = (resolve, Qwen3ASR) if kind == "model" else (resolve_aligner, ForcedAligner)
    name = model if kind == "model" else f"the aligner {model}"
    try:
        folder = find(model, Hub(cache=cache_dir), local_files_only=True)
        found = verify_files(check_files(folder), verify, Verified(None), lambda *_: None)
        needed = loaded_bytes(folder, None, None, network)
        digests = "their digests are right" if found.checked else "no digests are known"
        yield ok(f"the files of {name} are whole; {digests}")
        Governor.check_model(needed)
    except ModelNotFound as error:
        level = failure if is_wanted else warning
        advice = "name a folder, or let the bridge fetch it: `start` without --local-files-only"
        yield level(f"{name}: {error.message}", advice)
    except BridgeError as error:
        yield unusable(name, error)
    else:
        yield ok(f"{needed / 2**30:.2f} GiB of weights fit the {machine_limit() / 2**30:.1f} GiB that MLX may take")


def unusable(model: str, error: BridgeError) -> Finding:
    """Why `model` cannot be loaded, and what helps. Only files of the hub's cache are downloaded again."""
    if isinstance(error, OutOfMemory):
        advice = "choose a smaller model"
    elif "delete" in error.data:
        advice = "delete that file from the cache: the next start downloads it again"
    else:
        advice = "replace the model's files, or choose another model"
    return failure(f"{model}: {error.message} ({error.code})", advice)


def _python(running: tuple[int, ...]) -> Finding:
    name = ".".join(map(str, running))
    if OLDEST <= running <= NEWEST:
        return ok(f"Python {name}")
    return failure(f"Python {name}", "use Python 3.11 to 3.13: QWEN3_ASR_MLX_PYTHON names one")


def _processor(system: str, machine: str) -> Finding:
    name = f"{system} on {machine}"
    if system == "Darwin" and machine != "arm64":
        return failure(name, "MLX needs Apple silicon: a Python for arm64, not one that Rosetta translates")
    if system not in ("Darwin", "Linux"):
        return failure(name, "macOS on Apple silicon, or Linux, is needed")
    return ok(name)


def _mlx() -> Finding:
    try:
        installed = version("mlx")
    except PackageNotFoundError:
        return failure("MLX is not installed", "let a launcher in scripts/ make its environment, or install mlx")
    numbers = tuple(int(part) for part in installed.split(".")[:3] if part.isdecimal())
    if numbers < OLDEST_MLX:
        return failure(f"MLX {installed}", "0.32.1 or later is needed: older ones rotate rows of a batch wrongly")
    return ok(f"MLX {installed}")


def _device() -> Finding:
    import mlx.core as mx

    from qwen3_asr_mlx_runtime.model.device import check_device

    check_device()
    if mx.default_device() == mx.cpu:
        advice = "QWEN3_ASR_MLX_BACKEND=cuda13 for an NVIDIA GPU"
        return warning("decodes on the CPU, some ten times slower than on a GPU", advice)
    kind = "Metal" if mx.metal.is_available() else "CUDA"
    return ok(f"decodes on the GPU by {kind}: {mx.device_info().get('device_name', 'unnamed')}")


def _disk(cache_dir: Path | None) -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(cache_dir or HF_HUB_CACHE).expanduser()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    space = f"{free / 2**30:.1f} GiB free where models are kept"
    advice = "a model takes up to 5 GiB: make room before one is fetched"
    yield ok(space) if free >= ENOUGH_DISK else warning(space, advice)
    if not os.access(existing, os.W_OK):
        yield warning(
            "the folder of models cannot be written to", "--cache-dir names another; models that are there still load"
        )
