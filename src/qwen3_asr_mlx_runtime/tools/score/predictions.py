"""Predictions of a recogniser, read from any supported format."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.tools.manifest import bad_line, lines_of

_REPLIES = {"transcript", "batch_transcript", "realtime_batch_final", "stopped"}


@dataclass(frozen=True, slots=True)
class Prediction:
    """`text` is None if the recogniser failed; `line` is always 1 if the file is one object."""

    audio: str
    text: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """`path`: of the file. `unnamed` counts predictions without audio, such as utterances of a stream. `model`: as
    written by perftest, or None."""

    path: Path
    items: list[Prediction]
    unnamed: int
    model: str | None = None


class _Error(msgspec.Struct):
    code: str


class _Item(msgspec.Struct):
    audio: str | None = None
    text: str | None = None
    error: _Error | None = None


class _Line(_Item):
    type: str | None = None
    model: str | None = None
    items: list[_Item] | None = None


def read_predictions(path: Path) -> Predictions:
    """The object that perftest writes, replies of the bridge (other lines are ignored), or JSON lines with `audio`
    and `text`. Raises InvalidParams, which names the line at fault."""
    objects = list(_objects(path))
    found = list(_items(path, objects))
    named = [Prediction(item.audio, item.text, number) for number, item in found if item.audio]
    _check_twice(path, named)
    if not named:
        raise InvalidParams(f"{path}: expected at least one prediction with `audio` and `text`")
    model = objects[0][1].model if len(objects) == 1 else None
    return Predictions(path, named, len(found) - len(named), model)


def _items(path: Path, objects: Iterable[tuple[int, _Line]]) -> Iterator[tuple[int, _Item]]:
    for number, line in objects:
        if line.type is not None and line.type not in _REPLIES:
            continue
        if line.items is not None:
            yield from ((number, _checked(path, number, item)) for item in line.items)
        elif line.type is not None or line.audio is not None:
            yield number, _checked(path, number, line)
        else:
            raise bad_line(path, number, "expected `audio` and `text`, or `items`")


def _checked(path: Path, number: int, item: _Item) -> _Item:
    if item.text is None and item.error is None:
        raise bad_line(path, number, "a prediction without `text`")
    return item


def _objects(path: Path) -> Iterator[tuple[int, _Line]]:
    lines = list(lines_of(path))
    whole = b"\n".join(line for _, line in lines)
    for number, line in [(1, whole)] if _is_json(whole) else lines:
        try:
            yield number, msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad_line(path, number, str(error)) from None


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _check_twice(path: Path, items: list[Prediction]) -> None:
    first: dict[str, Prediction] = {}
    for item in items:
        before = first.setdefault(item.audio, item)
        if before is not item:
            raise bad_line(path, item.line, f"the audio of line {before.line} again: one prediction for each is needed")
