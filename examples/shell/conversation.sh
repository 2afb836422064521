#!/bin/sh
# Holds a conversation with the bridge: writes a request, reads its reply, decides, writes the next one.
#   examples/shell/conversation.sh FILE...
#   BRIDGE='...' is another command line than that of scripts/qwen3-asr-mlx-bridge --model demo
#
# Two named pipes and not `coproc`: that needs bash 4, and macOS has bash 3.2; this is any POSIX shell. With bash 4 or
# later, coproc.bash beside this file is the same.
set -eu

root=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd -P)
folder=$(mktemp -d)
bridge=
finish() {
    exec 3>&- 4<&- || :
    [ -z "$bridge" ] || kill "$bridge" 2>/dev/null || :
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkfifo "$folder/in" "$folder/out"

# stderr goes to a file, which never blocks: a pipe that nobody reads would stop the bridge one day.
if [ -n "${BRIDGE:-}" ]; then
    eval "exec $BRIDGE" <"$folder/in" >"$folder/out" 2>"$folder/log" &
else
    "$root/scripts/qwen3-asr-mlx-bridge" --model demo <"$folder/in" >"$folder/out" 2>"$folder/log" &
fi
bridge=$!
exec 3>"$folder/in" 4<"$folder/out"

# In lock step each line has one reply, in order. A bridge that is gone is an error of the read.
ask() {
    printf '%s\n' "$1" >&3 2>/dev/null || gone
    IFS= read -r reply <&4 || gone
}

gone() {
    code=0
    wait "$bridge" || code=$?
    bridge=
    tail -n 5 "$folder/log" >&2
    echo "the bridge ended with exit code $code" >&2
    exit 1
}

member() { # of the last reply, a string without escapes; jq -r ".$1" where there is jq
    printf '%s\n' "$reply" | sed -n 's/.*"'"$1"'":"\([^"\\]*\)".*/\1/p'
}

trap '' PIPE
ask '{"type":"start"}'
[ "$(member type)" = ready ] || { echo "no model: $(member message)" >&2; exit 1; }
for path in "$@"; do # without quotation marks and backslashes, which JSON would want written otherwise
    ask '{"type":"transcribe","audio":"'"$path"'"}'
    case $(member type) in
        transcript) printf '%s\n' "$reply" | sed -E 's/.*"text":"(([^"\\]|\\.)*)".*/\1/' ;; # escapes stay as they are
        *) echo "$path: $(member code)" >&2 ;;
    esac
done
ask '{"type":"stop"}'
wait "$bridge"
bridge=
