"""Strict JSON: one object a line, with only one interpretation.

Stricter than Python's reader wherever two readers of the same line could disagree (I-JSON, RFC 7493), or a short line
could cost much time or memory.
"""

import json
import math
from typing import Any, NoReturn

from qwen3_asr_mlx_runtime.errors import InvalidJson, InvalidUtf8, RequestError

MAX_DEPTH = 32
MAX_MEMBERS = 64
MAX_INTEGER = 2**53

_QUOTE = ord('"')
_OPENERS, _CLOSERS = b"{[", b"}]"
_OTHERS = bytes(set(range(256)) - {_QUOTE, *_OPENERS, *_CLOSERS})


def parse_object(line: bytes) -> dict[str, Any]:
    """The object on a line.

    Raises InvalidUtf8, InvalidJson (with the `position` of the byte where it is known) or, for JSON that is no object,
    RequestError. No message quotes the line.
    """
    _check_bytes(line)
    text = _decode(line)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode("utf-8"))
        problem = error.msg.removesuffix(" at")
        raise InvalidJson(f"the line is not valid JSON: {problem} at byte {position}", position=position) from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(value, dict):
        raise RequestError(f"expected a JSON object, got {_json_name(value)}")
    return value


def _json_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
    return "a number"


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidUtf8(f"the line is not valid UTF-8 at byte {error.start}", position=error.start) from None


def _check_bytes(line: bytes) -> None:
    carriage_return = line.find(b"\r")
    if carriage_return >= 0:
        message = f"a carriage return stands alone at byte {carriage_return}; lines end with a newline"
        raise InvalidJson(message, position=carriage_return)
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        _check_depth(line)


def _check_depth(line: bytes) -> None:
    """Linear in the length of any line. A regular expression for strings would search the end of an open one again and
    again."""
    unescaped = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth, in_string = 0, False
    for byte in unescaped.translate(None, _OTHERS):
        if byte == _QUOTE:
            in_string = not in_string
        elif not in_string:
            depth += 1 if byte in _OPENERS else -1
        if depth > MAX_DEPTH:
            raise _too_deep()


def _too_deep() -> InvalidJson:
    return InvalidJson(f"the line is nested deeper than {MAX_DEPTH} levels", limit=MAX_DEPTH)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        raise InvalidJson(f"an object has {len(pairs)} members; the limit is {MAX_MEMBERS}", limit=MAX_MEMBERS)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJson("an object has a duplicate key")
    return members


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise InvalidJson("an integer is beyond 2^53; send it as a string if it is a name")
    return int(digits)


def _float(digits: str) -> float:
    """The number; a whole one, such as 1.0, becomes an integer, because JSON does not distinguish them."""
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidJson("a number is beyond the range of a double")
    return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant
)
