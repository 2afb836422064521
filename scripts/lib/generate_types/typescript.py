"""The messages as TypeScript declarations: an interface for each, and unions discriminated by `type`."""

import json
from collections.abc import Iterator

from generate_types.comments import documentation, sentence
from generate_types.shapes import (
    Alias,
    Constants,
    List,
    Mapped,
    Member,
    Protocol,
    Reference,
    Scalar,
    Shape,
    Struct,
    Union,
)

SCALARS = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "id": "string | number",
    "object": "{ [name: string]: unknown }",
}
LINE = "A line from the process; events have `line.event`. Ignore lines of unknown types."


def typescript(protocol: Protocol, source: str) -> str:
    lines = [f"// Made by scripts/generate-types from {source}: do not edit.", ""]
    lines += documentation(f"{protocol.name}. {protocol.description}", "// ")
    for union in protocol.unions:
        lines += ["", *_union(union)]
    lines += ["", *_comment(LINE), "export type Line = Reply | Event;"]
    for alias in protocol.aliases:
        lines += ["", *_alias(alias)]
    for struct in protocol.structs:
        lines += ["", *_interface(struct)]
    return "\n".join(lines) + "\n"


def _union(union: Union) -> Iterator[str]:
    conditions = [f"{name}: {'true' if name == 'event' else 'number'}" for name in union.present]
    conditions += [f"{name}?: never" for name in union.absent]
    start, end = (" (", f"\n) & {{ {'; '.join(conditions)} }};") if conditions else ("", ";")
    yield f"export type {union.name} ={start}"
    yield from (f"  | {name}" for name in union.structs[:-1])
    yield f"  | {union.structs[-1]}{end}"


def _alias(alias: Alias) -> Iterator[str]:
    yield from _comment(alias.description)
    if not alias.known:
        yield f"export type {alias.name} = {_type(alias.shape)};"
        return
    yield f"export type {alias.name} ="
    yield from (f"  | {json.dumps(value)}" for value in alias.known)
    yield f"  | ({_type(alias.shape)} & {{}}); // others are {_type(alias.shape)}s, too"


def _interface(struct: Struct) -> Iterator[str]:
    yield from _comment(struct.description)
    yield f"export interface {struct.name} {{"
    if struct.tag is not None:
        yield f"  type: {json.dumps(struct.tag)};"
    for member in struct.members:
        yield from _comment(sentence(member.note), "  ")
        yield f"  {_member(member)}"
    yield "}"


def _member(member: Member) -> str:
    mark = "" if member.required else "?"
    null = " | null" if member.nullable else ""
    return f"{member.name}{mark}: {_type(member.shape)}{null};"


def _type(shape: Shape) -> str:
    match shape:
        case Scalar(name):
            return SCALARS[name]
        case Constants(values):
            return " | ".join(json.dumps(value) for value in values)
        case Reference(name):
            return name
        case List(item):
            return f"{_type(item)}[]"
        case Mapped(value):
            return f"{{ [name: string]: {_type(value)} }}"


def _comment(text: str, indent: str = "") -> Iterator[str]:
    line = f"{indent}/** {text} */"
    if not text:
        return
    if len(line) <= 120:
        yield line
        return
    yield f"{indent}/**"
    yield from documentation(text, " * ", indent)
    yield f"{indent} */"
