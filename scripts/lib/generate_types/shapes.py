"""The JSON Schema of the protocol as shapes, from which types of a language are generated.

Only the forms of that schema are read. Any other is an `Unreadable`, so that nothing is left out in silence.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SCALARS = ("string", "integer", "number", "boolean")
REFERENCE = "#/$defs/"
LIMITS = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " items"))


class Unreadable(ValueError):
    """The schema has a form that no language is written from."""


@dataclass(frozen=True)
class Scalar:
    """`string`, `integer`, `number` or `boolean`; `id`: a string or an integer; `object`: any object."""

    name: str


@dataclass(frozen=True)
class Constants:
    """One of these: strings, or `true`."""

    values: tuple[str | bool, ...]


@dataclass(frozen=True)
class Reference:
    name: str


@dataclass(frozen=True)
class List:
    item: "Shape"


@dataclass(frozen=True)
class Mapped:
    """Any names, each with such a value."""

    value: "Shape"


Shape = Scalar | Constants | Reference | List | Mapped


@dataclass(frozen=True)
class Member:
    name: str
    shape: Shape
    required: bool
    nullable: bool
    note: str  # its limits and its default, in words


@dataclass(frozen=True)
class Struct:
    """An object. `tag` is the only value of its `type`, which is then no member."""

    name: str
    description: str
    tag: str | None
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Union:
    """One of the structs, distinguished by their tags. All have the members `present`, none has those `absent`."""

    name: str
    structs: tuple[str, ...]
    present: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Alias:
    """`known` are values that it can have, among others."""

    name: str
    description: str
    shape: Shape
    known: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    name: str
    description: str
    aliases: list[Alias] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    unions: list[Union] = field(default_factory=list)

    @property
    def by_name(self) -> dict[str, Struct]:
        return {struct.name: struct for struct in self.structs}


def protocol(schema: Mapping[str, Any]) -> Protocol:
    messages = Protocol(schema["title"], schema["description"])
    for name, definition in schema["$defs"].items():
        if "oneOf" in definition:
            messages.unions.append(_union(name, definition))
        elif definition.get("type") == "object":
            messages.structs.append(_struct(name, definition))
        else:
            messages.aliases.append(_alias(name, definition))
    return messages


def _union(name: str, definition: Mapping[str, Any]) -> Union:
    structs = tuple(each["$ref"].removeprefix(REFERENCE) for each in definition["oneOf"])
    absent = definition.get("not", {}).get("required", ())
    return Union(name, structs, tuple(definition.get("required", ())), tuple(absent))


def _alias(name: str, definition: Mapping[str, Any]) -> Alias:
    shape, _nullable = _shape(definition, name)
    return Alias(name, definition.get("description", ""), shape, tuple(definition.get("examples", ())))


def _struct(name: str, definition: Mapping[str, Any]) -> Struct:
    properties = dict(definition["properties"])
    tag = properties.pop("type", {}).get("enum", [None])[0]
    required = definition.get("required", ())
    members = tuple(_member(each, value, each in required, f"{name}.{each}") for each, value in properties.items())
    return Struct(name, definition.get("description", ""), tag, members)


def _member(name: str, definition: Mapping[str, Any], required: bool, path: str) -> Member:
    shape, nullable = _shape(definition, path)
    return Member(name, shape, required, nullable, "; ".join(_notes(definition)))


def _shape(definition: Mapping[str, Any], path: str) -> tuple[Shape, bool]:
    """And whether it may be null."""
    if "anyOf" not in definition:
        return _plain(definition, path), False
    forms = [each for each in definition["anyOf"] if each != {"type": "null"}]
    nullable = len(forms) < len(definition["anyOf"])
    if [each.get("type") for each in forms] == ["string", "integer"]:
        return Scalar("id"), nullable
    if len(forms) != 1:
        raise Unreadable(f"{path}: more than one form")
    return _plain(forms[0], path), nullable


def _plain(definition: Mapping[str, Any], path: str) -> Shape:
    if "$ref" in definition:
        return Reference(definition["$ref"].removeprefix(REFERENCE))
    if "enum" in definition:
        return Constants(tuple(definition["enum"]))
    kind = definition.get("type")
    if kind == "array":
        return List(_plain(definition["items"], f"{path}[]"))
    if kind == "object" and "additionalProperties" in definition:
        return Mapped(_plain(definition["additionalProperties"], f"{path}.*"))
    if kind in (*SCALARS, "object"):
        return Scalar(kind)
    raise Unreadable(f"{path}: {sorted(definition)}")


def _notes(definition: Mapping[str, Any]) -> Iterator[str]:
    for form in (definition, *definition.get("anyOf", ())):
        for least, most, unit in LIMITS:
            if least in form or most in form:
                yield _range(form.get(least), form.get(most)) + unit
    default = definition.get("default")
    if default is not None:
        yield f"default: `{json.dumps(default)}`"


def _range(least: int | None, most: int | None) -> str:
    if least is None:
        return f"at most {most}"
    return f"at least {least}" if most is None else f"{least} to {most}"
