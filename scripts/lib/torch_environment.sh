# Read by the scripts that need torch, behind environment.sh: torch never comes into the runtime's environment.

# torch_environment PLACE RECIPE FILE...
# Sets `made`, the environment: its folder is PLACE and a hash of the FILEs. Where it is missing, the function RECIPE
# gets the FILEs, and installs by in_part. One that exists is whole: it is renamed when all is installed.
torch_environment() {
    place=$1
    recipe=$2
    shift 2
    hash=$({
        echo "$platform"
        cat "$@"
    } | { sha256sum 2>/dev/null || shasum -a 256; })
    made=$home/$place$(printf %.16s "$hash")
    [ -x "$made/bin/python" ] || make_torch_environment "$@"
}

make_torch_environment() {
    find_python_3_11
    part=$made.$$.part
    trap 'rm -rf "$part"' EXIT
    echo "making the environment $made: this happens once, and downloads torch" >&2
    "$python" -I -m venv "$part" || exit 2
    "$recipe" "$@"
    rm -rf "$made"
    mv "$part" "$made"
    trap - EXIT
}

in_part() {
    "$part/bin/python" -I -m pip install --no-input --no-compile --progress-bar off "$@" </dev/null >&2 || exit 2
}

# Sets `python`. What the scripts pin was tested on Python 3.11 alone.
find_python_3_11() {
    if [ -n "${QWEN3_ASR_MLX_REFERENCE_PYTHON:-}" ]; then
        is_3_11 "$QWEN3_ASR_MLX_REFERENCE_PYTHON" && return
        echo "QWEN3_ASR_MLX_REFERENCE_PYTHON must name a Python 3.11 with venv and ensurepip" >&2
        exit 2
    fi
    for candidate in python3.11 python3 /opt/homebrew/bin/python3.11 /opt/homebrew/opt/python@3.11/bin/python3.11 \
        /usr/local/bin/python3.11 "${PYENV_ROOT:-$user_home/.pyenv}"/versions/3.11.*/bin/python; do
        is_3_11 "$candidate" && return
    done
    for uv in uv "$user_home/.local/bin/uv" /opt/homebrew/bin/uv; do
        command -v "$uv" >/dev/null || continue
        "$uv" python install 3.11 </dev/null >&2 && is_3_11 "$("$uv" python find 3.11 </dev/null)" && return
    done
    echo "no Python 3.11 with venv was found for torch: name one in QWEN3_ASR_MLX_REFERENCE_PYTHON" >&2
    exit 2
}

is_3_11() { # sets `python`
    python=$1
    case $("$python" -I -c "$probe" </dev/null 2>/dev/null) in
        '3.11 '*) ;;
        *) return 1 ;;
    esac
}
