"""Holds lines against the schema that is checked in."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

PATH = Path(__file__).resolve().parents[2] / "docs" / "protocol.schema.json"


@cache
def validator(kind: str) -> Draft202012Validator:
    """`kind`: Request, Reply or Event."""
    document = json.loads(PATH.read_text(encoding="utf-8"))
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": document["$defs"]})


def check_lines(lines: Iterable[dict]) -> None:
    """Every line of the process is a reply or an event of the schema, as it claims."""
    for line in lines:
        validator("Event" if "event" in line else "Reply").validate(line)
