"""Whether MLX has a device, and what its failures mean. MLX uses one class for all errors, so messages are matched.

Imports only mlx.core: importing mlx.nn fails without a device.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from qwen3_asr_mlx_runtime.errors import DeviceUnavailable, EngineError, EngineLost, GpuError, OutOfMemory

# Of MLX's Metal and CUDA allocators and of failed command buffers, as of 0.32.
_MEMORY_FAILURES = (
    "[malloc] Unable to allocate",
    "[metal::malloc]",
    "Insufficient Memory",
    "OutOfMemory",
    "out of memory",
    "MemoryAllocation",
    "OUT_OF_MEMORY",
    "ALLOC_FAILED",
)
_GPU_FAILURES = ("Command buffer execution failed", "cudaError", "CUDA error")
_PROCESS_IGNORED = "SubmissionsIgnored"  # by Metal, after faults of this process, until it ends


def check_device() -> None:
    """Raise DeviceUnavailable without a device. On a Mac MLX always reports one, and its first use fails."""
    try:
        mx.device_info()
    except RuntimeError as error:
        raise DeviceUnavailable(f"MLX has no device to compute on: {error}") from error


def as_device_failure(error: BaseException) -> EngineError | None:
    """The EngineError for a failure of the device; None for any other error."""
    message = str(error) if isinstance(error, RuntimeError) else ""
    if _PROCESS_IGNORED in message:
        return EngineLost("the GPU ignores this process after earlier faults")
    if (out_of_memory := as_out_of_memory(error)) is not None:
        return out_of_memory
    if any(failure in message for failure in _GPU_FAILURES):
        return GpuError("the GPU stopped the computation")
    return None


def as_out_of_memory(error: BaseException) -> OutOfMemory | None:
    """OutOfMemory for an out-of-memory error of MLX or the allocator; None for any other error."""
    if not isinstance(error, MemoryError):
        message = str(error) if isinstance(error, RuntimeError) else ""
        if not any(failure in message for failure in _MEMORY_FAILURES):
            return None
    return OutOfMemory("memory ran out", active_bytes=mx.get_active_memory())


@contextmanager
def device_failures() -> Iterator[None]:
    """Raise failures of the device as an EngineError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = as_device_failure(error)
        if known is None:
            raise
        raise known from error
