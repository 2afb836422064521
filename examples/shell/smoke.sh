#!/bin/sh
# Talks to the bridge by printf and a pipe, and checks what it answers: for a first look, and for a build machine.
#   examples/shell/smoke.sh [BRIDGE [OPTION...]]      default: scripts/qwen3-asr-mlx-bridge --model demo
set -eu

root=$(CDPATH='' cd "$(dirname "$0")/../.." && pwd -P)
[ $# -gt 0 ] || set -- "$root/scripts/qwen3-asr-mlx-bridge" --model demo
sample=$root/examples/audio/sample.wav
failed=0

# check NAME WANTED LINES BRIDGE...: the lines are written and stdin closed; WANTED must stand in what comes back.
# stderr goes where this script's does: whoever makes it a pipe has to read that pipe.
check() {
    name=$1 wanted=$2 lines=$3
    shift 3
    said=$(printf '%s\n' "$lines" | "$@") || { echo "not ok - $name: exit code $?"; failed=1; return; }
    case $said in
        *"$wanted"*) echo "ok - $name" ;;
        *) echo "not ok - $name: no $wanted in what came"; failed=1 ;;
    esac
}

check "says what it does" '"protocol":"qwen3-asr-mlx-jsonl-v1"' '{"type":"capabilities"}' "$@"
check "is there" '"type":"pong"' '{"type":"ping"}' "$@"
check "transcribes a file" '"text":"Seven three one."' '{"type":"transcribe","audio":"'"$sample"'"}' "$@"
check "names what is wrong with a file" '"code":"audio_not_found"' '{"type":"transcribe","audio":"/nowhere.wav"}' "$@"
check "names a line that is no JSON" '"code":"invalid_json"' 'hello' "$@"
check "finishes before it stops" '"completed":1' '{"type":"transcribe","audio":"'"$sample"'"}
{"type":"stop"}' "$@"
exit $failed
