"""The two rules of the qwen-asr package around its forced aligner: units of a transcript, times that never decrease.

IN.json has `times`, lists of ms, and `texts`, pairs of language and transcript. OUT.json has the same with what the
package makes of each behind it, and `versions`.

    python -m reference.oracle_alignment IN.json OUT.json
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor


def alignment(times: list[list[int]], texts: list[list[str]]) -> dict[str, Any]:
    package = Qwen3ForceAlignProcessor()
    return {
        "versions": {name: version(name) for name in ("qwen-asr", "nagisa", "soynlp")},
        "times": [[before, package.fix_timestamp(np.array(before))] for before in times],
        "texts": [[language, text, package.encode_timestamp(text, language)[0]] for language, text in texts],
    }


def main(given: str, out: str) -> None:
    found = alignment(**json.loads(Path(given).read_text(encoding="utf-8")))
    lines = (f"{json.dumps(name)}: {_rows(value)}" for name, value in found.items())
    Path(out).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _rows(value: Any) -> str:
    """A list as one line for each of its members."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"


if __name__ == "__main__":
    main(*sys.argv[1:])
