#!/usr/bin/env bash
# As conversation.sh, by a coprocess: needs bash 4 or later, which macOS does not bring.
#   examples/shell/coproc.bash FILE...
#   BRIDGE='...' is another command line than that of scripts/qwen3-asr-mlx-bridge --model demo
set -euo pipefail

if ((BASH_VERSINFO[0] < 4)); then
    echo "coproc.bash needs bash 4 or later, and this is $BASH_VERSION: use conversation.sh" >&2
    exit 2
fi
root=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd -P)
trap '' PIPE # a write to a bridge that is gone fails, and does not end this shell

# stderr is read all the time, by a process of its own that shows it with a name before each line.
start() {
    eval "exec ${BRIDGE:-\"\$root/scripts/qwen3-asr-mlx-bridge\" --model demo}" 2> >(exec sed 's/^/bridge: /' >&2)
}
coproc BRIDGE_PIPES { start; }
bridge=$BRIDGE_PIPES_PID
exec {to}>&"${BRIDGE_PIPES[1]}" {from}<&"${BRIDGE_PIPES[0]}" # bash closes its own when the coprocess ends
eval "exec ${BRIDGE_PIPES[1]}>&-"                            # or the end of input would never be seen

gone() {
    local code=0
    wait "$bridge" || code=$?
    echo "the bridge ended with exit code $code" >&2
    exit 1
}

ask() {
    printf '%s\n' "$1" 2>/dev/null >&"$to" || gone
    IFS= read -r reply <&"$from" || gone
}

type_of() { sed -n 's/^{"type":"\([a-z_]*\)".*/\1/p' <<<"$reply"; }

ask '{"type":"start"}'
[[ $(type_of) == ready ]] || { echo "no model" >&2; exit 1; }
for path in "$@"; do # without quotation marks and backslashes, which JSON would want written otherwise
    ask '{"type":"transcribe","audio":"'"$path"'"}'
    if [[ $(type_of) == transcript ]]; then
        sed -E 's/.*"text":"(([^"\\]|\\.)*)".*/\1/' <<<"$reply" # escapes stay as they are
    else
        echo "$path: $(sed -n 's/.*"code":"\([a-z_]*\)".*/\1/p' <<<"$reply")" >&2
    fi
done
exec {to}>&- # no more will come: the bridge finishes, and ends
wait "$bridge"
