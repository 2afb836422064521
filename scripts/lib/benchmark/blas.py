"""The BLAS that contenders use in float32 on the CPU."""

import ctypes
from pathlib import Path

OPENBLAS = "libopenblas.so.0"
_OLDEST = b"Prescott"  # what OpenBLAS takes a processor for that it does not know
_CORES = (("avx512f", "SkylakeX"), ("avx2", "Haswell"))


def openblas() -> tuple[dict[str, str], str]:
    """Environment variables that put OpenBLAS in the place of the slow BLAS in MLX's wheel for Linux, with kernels that
    fit a processor younger than the library; and its name. None, and no name, where there is no OpenBLAS."""
    try:
        library = ctypes.CDLL(OPENBLAS)
    except OSError:
        return {}, ""
    variables = {"LD_PRELOAD": OPENBLAS}
    for function in (library.openblas_get_config, library.openblas_get_corename):
        function.restype = ctypes.c_char_p
    version, kernels = library.openblas_get_config().decode(), library.openblas_get_corename()
    if kernels == _OLDEST:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
        core = next((core for flag, core in _CORES if flag in flags), None)
        if core:
            variables["OPENBLAS_CORETYPE"] = core
    return variables, f"{' '.join(version.split()[:2])}, kernels {variables.get('OPENBLAS_CORETYPE', kernels.decode())}"
