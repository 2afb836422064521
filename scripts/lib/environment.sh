# Read by the scripts beside this folder, which set `root` first. Finds the Python environment of this checkout,
# or makes it. Nothing but a `fatal` line is ever written to stdout.

# Ctrl-C ends a command with one line: here, and in start.py for what comes after.
trap 'printf "interrupted\n" >&2; exit 130' INT

# The process that becomes the command, and its parent, which may end before Python can ask for it (entry.py).
case ${QWEN3_ASR_MLX_LAUNCHED:-} in
    "$$ "*) ;; # started again in this process's place
    *) export QWEN3_ASR_MLX_LAUNCHED="$$ $PPID" ;;
esac

fatal() { # code, message; neither holds a quotation mark or a backslash
    printf '%s\n' "$2" >&2
    printf '{"type":"fatal","code":"%s","message":"%s","retryable":false}\n' "$1" "$2"
    exit 2
}

# ensure_environment GROUPS COMMAND...
# Sets `environment`. Where it is missing, makes it and starts COMMAND again in this process's place. GROUPS are the
# dependency groups and extras wanted besides the runtime's own dependencies; none stands for those of the bridge, and
# `tools` for those of all tools, which share one environment.
ensure_environment() {
    case $1 in
        '') groups='transcribe serve vad wyoming remote completion' ;;
        tools) groups='tools report recipes vad media completion' ;;
        *) groups=$1 ;;
    esac
    shift
    platform=$(uname -sm)
    choose_home
    choose_backend
    selected=$(absolute "${QWEN3_ASR_MLX_PYTHON:-}")
    environment=$home/environments/$(stamp)
    [ -x "$environment/bin/python" ] || make_environment "$@"
}

choose_home() {
    user_home=${HOME:-$(eval "printf %s ~$(id -un)")}
    case $platform in
        Darwin*) cache=$user_home/Library/Caches ;;
        *) cache=${XDG_CACHE_HOME:-$user_home/.cache} ;;
    esac
    home=${QWEN3_ASR_MLX_HOME:-$cache/qwen3-asr-mlx-runtime}
    case $home in
        /*) ;;
        *) home=$PWD/$home ;;
    esac
}

choose_backend() {
    case $platform:${QWEN3_ASR_MLX_BACKEND:-} in
        Linux*:cpu | Linux*:) backend=cpu ;;
        Linux*:cuda13) backend=cuda13 ;;
        Linux*) fatal environment_failed "QWEN3_ASR_MLX_BACKEND must be cpu or cuda13" ;;
        *) backend= ;; # elsewhere mlx brings its own
    esac
}

absolute() { # a bare name stays as it is: it is looked for on PATH
    case $1 in
        /* | '') printf %s "$1" ;;
        */* | .*) printf %s "$PWD/$1" ;;
        *) command -v "$1" || printf %s "$1" ;;
    esac
}

# The hash of everything that decides what gets installed. The chosen Python stands for its version: asking it for the
# version would start it on every launch. macOS has sha256sum from 15 on; its shasum is Perl, which is slow to start.
stamp() {
    hash=$({
        printf '%s\n' "$platform" "$backend" "$groups" "$selected"
        sed -n -e '/^dependencies = \[/,/^]/p' -e '/^\[project.optional-dependencies]/,/^$/p' \
            -e '/^\[dependency-groups]/,/^]/p' "$root/pyproject.toml"
        cat "$root/constraints.txt"
    } | { sha256sum 2>/dev/null || openssl dgst -sha256 -r 2>/dev/null || shasum -a 256; })
    printf %.16s "$hash"
}

make_environment() {
    case ${no_install:-0} in
        0) ;;
        *) fatal environment_missing "the Python environment is not installed: start once without --no-install" ;;
    esac
    find_python
    exec "$python" -I -S "$root/src/qwen3_asr_mlx_runtime/start.py" "$root/scripts/lib" make_environment \
        "$root" "$environment" "$backend" "$groups" "$@"
}

find_python() {
    if [ -n "$selected" ]; then
        suitable "$selected" && return
        fatal python_unsuitable "QWEN3_ASR_MLX_PYTHON must name a Python 3.11 to 3.13 with venv and ensurepip"
    fi
    for candidate in python3.13 python3.12 python3.11 python3; do
        suitable "$candidate" && return
    done
    for minor in 13 12 11; do
        for candidate in "/opt/homebrew/bin/python3.$minor" "/opt/homebrew/opt/python@3.$minor/bin/python3.$minor" \
            "/usr/local/bin/python3.$minor" "/usr/local/opt/python@3.$minor/bin/python3.$minor" \
            "/home/linuxbrew/.linuxbrew/bin/python3.$minor" \
            "/Library/Frameworks/Python.framework/Versions/3.$minor/bin/python3" \
            "${PYENV_ROOT:-$user_home/.pyenv}/versions/3.$minor".*/bin/python; do
            suitable "$candidate" && return
        done
    done
    for uv in uv "$user_home/.local/bin/uv" /opt/homebrew/bin/uv; do
        command -v "$uv" >/dev/null || continue
        suitable_by "$uv" '>=3.11,<3.14' && return
        "$uv" python install 3.12 </dev/null >&2 && suitable_by "$uv" 3.12 && return
    done
    fatal python_missing "no Python 3.11 to 3.13 with venv was found: install one (Debian: python3-venv; macOS: brew \
install python@3.12), or uv, or name one in QWEN3_ASR_MLX_PYTHON"
}

suitable_by() {
    suitable "$("$1" python find "$2" </dev/null 2>/dev/null)"
}

# Only running a candidate tells: what is on PATH may be a shim that leads nowhere. Sets `python`.
suitable() {
    python=$1
    case $platform:$(command -v "$python") in
        *: | Darwin*:/usr/bin/python3) return 1 ;; # the latter opens a window that offers the developer tools
    esac
    answer=$("$python" -I -c "$probe" </dev/null 2>/dev/null) || return 1
    case $platform:$answer in
        Darwin*:'3.1'[123]' arm64' | Linux*:'3.1'[123]' '*) ;; # mlx has no wheels for Intel Macs
        *) return 1 ;;
    esac
}

probe='import os, sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2], os.uname().machine)'
