"""The command line; see scripts/generate-types."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from generate_types import tables
from generate_types.shapes import protocol
from generate_types.swift import swift
from generate_types.typescript import typescript
from qwen3_asr_mlx_runtime.command import guarded

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = "docs/protocol.schema.json"
REFERENCE, CONCEPTS = "docs/protocol/reference.md", "docs/protocol/concepts.md"
LANGUAGES = {
    "examples/node/protocol.d.ts": typescript,
    "examples/swift/Sources/Qwen3ASRBridge/Protocol.generated.swift": swift,
}


def texts() -> dict[str, str]:
    """What each generated file holds, by its path from the root of the repository. Of the documents only the tables are
    generated."""
    schema = json.loads((ROOT / SCHEMA).read_text(encoding="utf-8"))
    shapes = protocol(schema)
    return {
        **{path: language(shapes, SCHEMA) for path, language in LANGUAGES.items()},
        REFERENCE: tables.reference((ROOT / REFERENCE).read_text(encoding="utf-8"), schema),
        CONCEPTS: tables.concepts((ROOT / CONCEPTS).read_text(encoding="utf-8")),
    }


def stale(root: Path = ROOT) -> list[str]:
    """The files that differ from the schema."""
    return [path for path, text in texts().items() if not _holds(root / path, text)]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def write_schema() -> None:
    from qwen3_asr_mlx_runtime.protocol.schema import schema_text  # the rest needs no package

    (ROOT / SCHEMA).write_text(schema_text(), encoding="utf-8")


def write(root: Path = ROOT) -> None:
    for path, text in texts().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


@guarded("generate-types")
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="generate-types",
        description=f"Writes {', '.join(LANGUAGES)} and the tables of {REFERENCE} and {CONCEPTS} from {SCHEMA}.",
        epilog="example: scripts/generate-types --check",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--schema", action="store_true", help=f"first write {SCHEMA} from the types of the runtime")
    modes.add_argument("--check", action="store_true", help="write nothing, and fail if a file is stale")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.schema:
            write_schema()
        if not chosen.check:
            write()
        elif files := stale():
            print(f"stale, run scripts/generate-types: {', '.join(files)}", file=sys.stderr)
            return 1
    except (OSError, ValueError) as error:
        print(f"generate-types: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
