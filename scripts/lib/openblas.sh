# Sourced. mlx[cpu] brings a BLAS that is slow in float32: where Debian's OpenBLAS is installed, it takes its place in
# this shell and what it starts. A library older than the processor takes it for a very old one, so it is told the kernels.
preload_openblas() {
    [ "$(uname)" = Linux ] && [ -z "${LD_PRELOAD:-}" ] || return 0
    [ -z "$(LD_PRELOAD=libopenblas.so.0 env true 2>&1)" ] || return 0
    export LD_PRELOAD=libopenblas.so.0
    [ -z "${OPENBLAS_CORETYPE:-}" ] || return 0
    if grep -qw avx512f /proc/cpuinfo; then
        export OPENBLAS_CORETYPE=SkylakeX
    elif grep -qw avx2 /proc/cpuinfo; then
        export OPENBLAS_CORETYPE=Haswell
    fi
}
