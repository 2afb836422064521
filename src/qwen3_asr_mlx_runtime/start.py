"""The first lines of every command of scripts/: start.py FOLDER MODULE ARGUMENTS...

Run as a file, with `python -I -S`. The Ctrl-C handler is installed before the first import, so no import ends in a
traceback: `site`, which Python normally imports at start, is imported after it. FOLDER holds MODULE. entry.py does the
rest.
"""

import _signal  # type: ignore[import-not-found] # it has no types
import posix


def leave(*_: object) -> None:
    posix.write(2, b"interrupted\n")
    posix._exit(130)


if __name__ == "__main__":  # a spawned process imports this file again
    if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, leave)
    import site
    import sys

    site.main()
    source = __file__.removesuffix("/qwen3_asr_mlx_runtime/start.py")
    sys.path[:0] = dict.fromkeys([sys.argv.pop(1), source])
    from qwen3_asr_mlx_runtime.entry import begin

    begin(sys.argv.pop(1))
