"""The messages as Swift: a `Codable`, `Sendable` struct for each, in the namespace `Wire`, and enumerations of them.

Whatever the runtime may add later is no error: members are passed over, strings stay open, messages are `unknown`.
`Wire.ID`, `Wire.Tag`, `Nested` and `JSONValue` are written by hand beside it.
"""

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
    "string": "String",
    "integer": "Int",
    "number": "Double",
    "boolean": "Bool",
    "id": "ID",
    "object": "[String: JSONValue]",
}
BY_HAND = {"Id": "ID"}
ABBREVIATIONS = {"id": "ID", "ids": "IDs", "pid": "PID"}
REPLAYED = {"FinalResult", "TranscriptReply", "BatchTranscript", "Aligned"}  # with a member that only the client sets
KEYWORDS = {"default", "in", "is", "operator", "protocol", "self", "struct", "where"}


def swift(protocol: Protocol, source: str) -> str:
    lines = [f"// Made by scripts/generate-types from {source}: do not edit.", ""]
    lines += documentation(f"{protocol.name}. {protocol.description}", "/// ")
    lines += ["public enum Wire {}"]
    request_names = _request_names(protocol)
    for alias in protocol.aliases:
        if alias.name not in BY_HAND:
            lines += ["", *_alias(alias)]
    for union in protocol.unions:
        lines += ["", *_union(union, protocol.by_name)]
    for struct in protocol.structs:
        lines += ["", *_struct(struct, struct.name in request_names)]
    return "\n".join(lines) + "\n"


def _request_names(protocol: Protocol) -> set[str]:
    """What a client makes: the requests, and what they hold."""
    names = [name for union in protocol.unions if union.name == "Request" for name in union.structs]
    for name in names:
        shapes = (_inner(member.shape) for member in protocol.by_name[name].members)
        names += (each.name for each in shapes if isinstance(each, Reference) and each.name in protocol.by_name)
    return set(names)


def _inner(shape: Shape) -> Shape:
    """Of the items of a list."""
    return shape.item if isinstance(shape, List) else shape


def _extension(lines: Iterator[str], comment: str) -> Iterator[str]:
    yield "extension Wire {"
    yield from documentation(comment, "/// ", "    ")
    yield from (f"    {line}" if line else "" for line in lines)
    yield "}"


def _alias(alias: Alias) -> Iterator[str]:
    return _extension(_strings(alias.name, alias.known), alias.description)


def _strings(name: str, values: tuple[str | bool, ...]) -> Iterator[str]:
    """An open enumeration: unknown values are allowed."""
    yield f"public struct {name}: RawRepresentable, Codable, Hashable, Sendable {{"
    yield "    public let rawValue: String"
    yield "    public init(rawValue: String) { self.rawValue = rawValue }"
    yield ""
    yield from (f"    public static let {_name(str(value))} = Self(rawValue: {json.dumps(value)})" for value in values)
    yield "}"


def _union(union: Union, structs: dict[str, Struct]) -> Iterator[str]:
    tags = {name: structs[name].tag or name for name in union.structs}
    return _extension(_cases(union.name, tags), "")


def _cases(union: str, tags: dict[str, str]) -> Iterator[str]:
    yield f"public enum {union}: Codable, Equatable, Sendable {{"
    yield from (f"    case {_name(tag)}({name})" for name, tag in tags.items())
    yield "    /// Of another type, or with other members, than are known here."
    yield "    case unknown(JSONValue)"
    yield ""
    yield "    public init(from decoder: any Decoder) throws {"
    yield "        let known: Self? ="
    yield "            switch try Tag(from: decoder).type {"
    for name, tag in tags.items():
        yield f'            case "{tag}": (try? {name}(from: decoder)).map(Self.{_name(tag)})'
    yield "            default: nil"
    yield "            }"
    yield "        self = try known ?? .unknown(JSONValue(from: decoder))"
    yield "    }"
    yield ""
    yield "    public var message: any Codable & Sendable {"
    yield "        switch self {"
    yield from (f"        case .{case}(let message): message" for case in (*map(_name, tags.values()), "unknown"))
    yield "        }"
    yield "    }"
    yield ""
    yield "    public func encode(to encoder: any Encoder) throws { try message.encode(to: encoder) }"
    yield "}"


def _struct(struct: Struct, is_made_by_clients: bool) -> Iterator[str]:
    return _extension(_body(struct, is_made_by_clients), struct.description)


def _body(struct: Struct, is_made_by_clients: bool) -> Iterator[str]:
    yield f"public struct {struct.name}: Codable, Equatable, Sendable {{"
    if struct.tag is not None:
        yield f"    public private(set) var type = {json.dumps(struct.tag)}"
    for member in struct.members:
        yield from documentation(sentence(member.note), "/// ", "    ")
        yield f"    public var {_name(member.name)}: {_type(member, struct)}"
    if struct.name in REPLAYED:
        yield "    /// Not on the wire. With `resend`: its audio was sent again, to a new process."
        yield "    public internal(set) var replayed = false"
    if is_made_by_clients:
        yield from _initializer(struct)
    yield from _keys(struct)
    for member in struct.members:
        if _is_open(member.shape):
            yield ""
            yield from (f"    {line}".rstrip() for line in _strings(_open_name(member), member.shape.values))
    yield "}"


def _initializer(struct: Struct) -> Iterator[str]:
    members = sorted(struct.members, key=lambda member: not member.required)
    parameters = [f"{_name(each.name)}: {_type(each, struct)}{_nothing(each)}" for each in members]
    yield ""
    if len(line := f"    public init({', '.join(parameters)}) {{") <= 100:
        yield line
    else:
        yield "    public init("
        yield from (f"        {parameter}," for parameter in parameters[:-1])
        yield f"        {parameters[-1]}"
        yield "    ) {"
    yield from (f"        self.{_name(each.name)} = {_name(each.name)}" for each in members)
    yield "    }"


def _nothing(member: Member) -> str:
    return "" if member.required else " = nil"


def _keys(struct: Struct) -> Iterator[str]:
    names = [*(["type"] if struct.tag else []), *(member.name for member in struct.members)]
    if all(_name(name).strip("`") == name for name in names):
        return
    yield ""
    yield "    enum CodingKeys: String, CodingKey {"
    yield from (f"        case {_key(name)}" for name in names)
    yield "    }"


def _key(name: str) -> str:
    return _name(name) if _name(name).strip("`") == name else f'{_name(name)} = "{name}"'


def _type(member: Member, struct: Struct) -> str:
    plain = _open_name(member) if _is_open(member.shape) else _plain(member.shape)
    if member.shape == Reference(struct.name):
        plain = f"Nested<{plain}>"
    return plain if member.required and not member.nullable else f"{plain}?"


def _is_open(shape: Shape) -> bool:
    return isinstance(shape, Constants) and shape.values != (True,)


def _open_name(member: Member) -> str:
    name = _name(member.name)
    return name[:1].upper() + name[1:]


def _plain(shape: Shape) -> str:
    match shape:
        case Scalar(name):
            return SCALARS[name]
        case Constants():
            return "Bool"
        case Reference(name):
            return BY_HAND.get(name, name)
        case List(item):
            return f"[{_plain(item)}]"
        case Mapped(value):
            return f"[String: {_plain(value)}]"


def _name(wire_name: str) -> str:
    """`max_new_tokens` as `maxNewTokens`, `stream_id` as `streamID`."""
    first, *rest = wire_name.split("_")
    name = first + "".join(ABBREVIATIONS.get(each, each.capitalize()) for each in rest)
    return f"`{name}`" if name in KEYWORDS else name
