"""The tables of docs/protocol: rows, types and defaults from the schema and the limits; meanings stay as written."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from generate_types.shapes import REFERENCE
from qwen3_asr_mlx_runtime.limits import LIMITS, option_of

ENVELOPE = ("type", "event", "id", "n", "warnings")  # of every reply or event; described once
_HEADING = re.compile(r"^### (Request|Reply|Event|Part) `(\w+)`$")
_TABLE = re.compile(r"^\| member \|.*\|$")
_ROW = re.compile(r"^\| `(\w+)` \|(?:.*\|)? (.*?) ?\|$")
_MAX_CHOICES = 3

Schema = Mapping[str, Any]


def reference(text: str, schema: Schema) -> str:
    """docs/protocol/reference.md with the members of each message as the schema has them. A new member has no
    meaning yet; a member that is gone has no row."""
    lines, written = text.splitlines(), []
    section: tuple[str, str] | None = None
    rows = iter(lines)
    for line in rows:
        if heading := _HEADING.match(line):
            section = heading[1], heading[2]
        elif line.startswith("#"):
            section = None
        if section is None or not _TABLE.match(line):
            written.append(line)
            continue
        meanings, following = {}, ""
        for row in rows:
            if not row.startswith("|"):
                following = row
                break
            if member := _ROW.match(row):
                meanings[member[1]] = member[2].strip()
        written += [*_members(section[0] == "Request", _definition(schema, *section), meanings, schema), following]
    return "\n".join(written) + "\n"


def concepts(text: str) -> str:
    """docs/protocol/concepts.md with the table of limits."""
    table = re.compile(r"^\| limit \|.*\n(?:\|.*\n)*", re.MULTILINE)
    if not table.search(text):
        raise ValueError("docs/protocol/concepts.md has no table of limits")
    return table.sub("\n".join(_limits()) + "\n", text, count=1)


def _limits() -> list[str]:
    lines = ["| limit | default | of what | what happens beyond | error code | option |", "|---|---:|---|---|---|---|"]
    for name, limit in LIMITS.items():
        code = f"`{limit.code}`" if limit.code else "–"
        option = "–"
        if limit.bounds is not None:
            option = f"`{option_of(name)}`, {limit.bounds[0]:.10g} to {limit.bounds[1]:.10g}"
        lines.append(f"| `{name}` | `{limit.default}` | {limit.meaning} | {limit.beyond} | {code} | {option} |")
    return lines


def _definition(schema: Schema, kind: str, tag: str) -> Schema:
    names = {"Request": ("Request",), "Reply": ("Reply",), "Event": ("Event",), "Part": ()}[kind]
    definitions = schema["$defs"]
    known = {each["$ref"].removeprefix(REFERENCE) for name in names for each in definitions[name]["oneOf"]}
    for name, definition in definitions.items():
        if (name in known or not names) and definition.get("properties", {}).get("type", {}).get("enum") == [tag]:
            return definition
    raise ValueError(f"the schema has no {kind} `{tag}`")


def _members(is_request: bool, definition: Schema, meanings: Mapping[str, str], schema: Schema) -> list[str]:
    """In the order of the document; a new member comes after the one before it in the schema."""
    properties = {name: each for name, each in definition["properties"].items() if name not in ENVELOPE}
    order = [name for name in meanings if name in properties]
    for before, name in pairwise(["", *properties]):
        if name not in order:
            order.insert(order.index(before) + 1 if before else 0, name)
    lines = ["| member | type | default | meaning |", "|---|---|---|---|"] if is_request else []
    lines = lines or ["| member | type | meaning |", "|---|---|---|"]
    for name in order:
        cells = [f"`{name}`", _words(properties[name], schema)]
        if is_request:
            cells.append(_default(name, properties[name], definition.get("required", ())))
        meaning = meanings.get(name)
        lines.append("| " + " | ".join(cells) + (f" | {meaning} |" if meaning else " | |"))
    return lines


def _default(name: str, prop: Schema, required: Sequence[str]) -> str:
    if name in required:
        return "required"
    value = prop.get("default")
    return "–" if value is None else f"`{json.dumps(value)}`"


def _words(prop: Schema, schema: Schema, *, plural: bool = False) -> str:
    """What a value is, in words."""
    if "anyOf" in prop:
        return " or ".join(_words(each, schema, plural=plural) for each in prop["anyOf"] if not _is_null(each, prop))
    if "$ref" in prop:
        return _reference(prop["$ref"].removeprefix(REFERENCE), schema, plural=plural)
    if "enum" in prop:
        return _choice(prop["enum"], prop.get("default"))
    kind = prop.get("type", "any value")
    if kind == "array":
        most, least = prop.get("maxItems"), prop.get("minItems")
        bounds = "" if most is None else f"{least} to {most} " if least else f"at most {most} "
        return f"list of {bounds}{_words(prop['items'], schema, plural=True)}"
    return (f"{kind}s" if plural and kind != "null" else kind) + _bounds(prop)


def _is_null(each: Schema, prop: Schema) -> bool:
    """A member of a request that is null counts as not given, which is said once."""
    return each.get("type") == "null" and "default" in prop


def _reference(name: str, schema: Schema, *, plural: bool) -> str:
    definition = schema["$defs"][name]
    if "properties" in definition:
        return "objects" if plural else "object"
    return "string or integer" if name == "Id" else "string"


def _choice(values: Sequence[str], default: str | None) -> str:
    """The default first. More than three values stand among the meanings."""
    if len(values) > _MAX_CHOICES:
        return "string"
    words = [f"`{json.dumps(value)}`" for value in sorted(values, key=lambda value: value != default)]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _bounds(prop: Schema) -> str:
    for low, high, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        if low in prop and high in prop:
            of = " from" if low == "minimum" else " of"
            return f"{of} {prop[low]} to {prop[high]}{unit}"
        if high in prop:
            return f" of at most {prop[high]}{unit}"
        if low in prop:
            return f" from {prop[low]}"
    return ""
