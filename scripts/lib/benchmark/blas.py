"""The BLAS that contenders use in float32 on the CPU."""

import ctypes
import sys
from pathlib import Path

OPENBLAS = "libopenblas.so.0"
_OLDEST = b"Prescott"  # what OpenBLAS takes a processor for that it does not know
_CORES = (("avx512f", "SkylakeX"), ("avx2", "Haswell"))


def openblas_variables() -> dict[str, str]:
    """Environment variables that put OpenBLAS in the place of the slow BLAS in MLX's wheel for Linux, with kernels that
    fit a processor younger than the library; none where there is no OpenBLAS."""
    if sys.platform != "linux":
        return {}
    try:
        library = ctypes.CDLL(OPENBLAS)
    except OSError:
        return {}
    variables = {"LD_PRELOAD": OPENBLAS}
    library.openblas_get_corename.restype = ctypes.c_char_p
    if library.openblas_get_corename() == _OLDEST:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
        core = next((core for flag, core in _CORES if flag in flags), None)
        if core:
            variables["OPENBLAS_CORETYPE"] = core
    return variables
