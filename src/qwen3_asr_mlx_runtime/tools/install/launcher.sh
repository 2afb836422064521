#!/bin/sh
# Starts the bridge that lies in this folder, and installs nothing. The folder may be moved, and linked to.
set -eu

script=$0
while [ -L "$script" ]; do
    target=$(PATH=/usr/bin:/bin readlink "$script")
    case $target in
        /*) script=$target ;;
        *) script=${script%/*}/$target ;;
    esac
done
case $script in
    */*) ;;
    *) script=./$script ;; # sh found it on PATH, and told its bare name
esac
prefix=$(CDPATH='' cd "${script%/*}/.." && pwd -P)

if [ ! -x "$prefix/python/bin/python3" ]; then
    message="the Python of this installation is missing: install it again"
    printf '%s\n' "$message" >&2
    printf '{"type":"fatal","code":"environment_missing","message":"%s","retryable":false}\n' "$message"
    exit 2
fi
export QWEN3_ASR_MLX_LAUNCHED="$$ $PPID" # the parent may end before Python can ask for it
exec "$prefix/python/bin/python3" -I -B -X utf8 "$prefix/runtime" "$@"
