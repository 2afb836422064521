"""Runs the fuzz target under atheris; see scripts/fuzz.

fuzz.py ROOT ATHERIS ARGUMENTS OF LIBFUZZER
"""

import sys
from pathlib import Path


def main(root: Path, fuzzer: Path, arguments: list[str]) -> None:
    sys.path[:0] = [str(fuzzer), str(root / "src"), str(root / "tests")]
    import atheris

    with atheris.instrument_imports(include=["qwen3_asr_mlx_runtime"]):
        from fuzz.target import play

    atheris.Setup([str(root / "scripts" / "fuzz"), *arguments], play)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
