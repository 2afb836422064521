"""What is to be transcribed, and which files it becomes."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from qwen3_asr_mlx_runtime.command import reason_of
from qwen3_asr_mlx_runtime.errors import InvalidParams

STDIN = "-"
STDIN_NAME = "stdin"
# Of files in a folder; a file that is named may be of any kind.
_SOUND = "aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd w64 wav"
_MEDIA = "3gp aac ac3 amr ape avi m4a m4b m4v mka mkv mov mp2 mp4 mpeg mpg mts webm wma wmv wv"
SUFFIXES = frozenset(f".{name}" for name in f"{_SOUND} {_MEDIA}".split())


@dataclass(frozen=True, slots=True)
class Source:
    """`name`: as people see it. `audio`: the file to read. `outputs`: the files to write, by format. `printed`: the
    format of what goes to stdout, if anything does. `trouble`: why it cannot be transcribed."""

    name: str
    audio: Path
    outputs: Mapping[str, Path] = field(default_factory=dict)
    printed: str | None = None
    trouble: str | None = None


class Found(NamedTuple):
    """A file or, with `trouble`, a folder that cannot be read. `folder`: of its outputs."""

    path: Path
    folder: Path
    trouble: str | None = None


def listed(paths: Iterable[str], *, is_recursive: bool, output_dir: Path | None) -> list[Found]:
    """The files that are named, and those in folders that are. Outputs belong beside each, or within `output_dir` to
    the same place as in the folder that was named. A file that is named twice comes once."""
    found: dict[str, Found] = {}
    for path in map(Path, paths):
        for one, trouble in _files_of(path, is_recursive) if _is_folder(path) else [(path, None)]:
            inside = one.parent.relative_to(path) if _is_folder(path) else Path()
            folder = output_dir / inside if output_dir else one.parent
            found.setdefault(os.path.abspath(one), Found(one, folder, trouble))  # noqa: PTH100 and no link is followed
    return [*found.values()]


def _files_of(folder: Path, is_recursive: bool) -> Iterator[tuple[Path, str | None]]:
    """Sound and video files by name, without hidden ones; or the folder, and why it cannot be read."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        yield folder, error.strerror
        return
    for path in inside:
        if path.name.startswith("."):
            continue
        if _is_folder(path):
            if is_recursive and not path.is_symlink():
                yield from _files_of(path, is_recursive=True)
        elif path.suffix.lower() in SUFFIXES:
            yield path, None


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 False, and no error, for what cannot be looked at


def with_outputs(files: Sequence[Found], formats: Sequence[str]) -> list[Source]:
    """`talk.m4a` becomes `talk.srt`. It becomes `talk.m4a.srt` where another of these files, such as `talk.wav`, has
    the same name otherwise, or where the output would be one of these files. Raises InvalidParams where two files would
    still become one."""
    stems = Counter(_key(found.folder / found.path.stem) for found in files)
    audio = {_key(found.path) for found in files}
    sources: list[Source] = []
    takers: dict[str, str] = {}
    for path, folder, trouble in files:
        short = {each: folder / f"{path.stem}.{each}" for each in formats}
        is_taken = stems[_key(folder / path.stem)] > 1 or not audio.isdisjoint(map(_key, short.values()))
        outputs = {each: folder / f"{path.name}.{each}" for each in formats} if is_taken else short
        for output in outputs.values():
            other = takers.setdefault(_key(output), str(path))
            if other != str(path):
                raise InvalidParams(f"{other} and {path} would both become {output}")
        sources.append(Source(str(path), path, outputs, trouble=trouble))
    return sources


def _key(path: Path) -> str:
    """Equal for paths that are one file, also where the case of letters does not count."""
    return os.path.abspath(path).casefold()  # noqa: PTH100 and no link is followed


def without_done(source: Source) -> Source:
    """Without the outputs that exist."""
    outputs = {each: path for each, path in source.outputs.items() if not os.path.isfile(path)}  # noqa: PTH113
    return replace(source, outputs=outputs)


def with_folders(source: Source) -> Source:
    """Its output folders are there and can be written to; otherwise it has `trouble`."""
    try:
        for folder in {path.parent for path in source.outputs.values()}:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                return replace(source, trouble=f"no permission to write into {folder}")
    except OSError as error:
        return replace(source, trouble=reason_of(error))
    return source
