"""A Mac without a Metal device, as a program to run first: MLX says that Metal is there, and every call fails, also
those that importing mlx.nn makes."""

NO_METAL = """
import mlx.core as _mx
def _no_device(*_, **__):
    raise RuntimeError(
        "[metal::load_device] No Metal device available. This typically occurs in headless, sandboxed, or virtualized"
        " macOS sessions where the GPU is not accessible."
    )
_mx.default_device = lambda: _mx.Device(_mx.gpu)
_mx.metal.is_available = lambda: True
for _name in ("array", "compile", "device_info", "eval", "zeros"):
    setattr(_mx, _name, _no_device)
for _name in ("get_active_memory", "get_cache_memory", "get_peak_memory", "set_cache_limit", "set_memory_limit"):
    setattr(_mx, _name, _no_device)
"""
