"""What is to be transcribed, and which files it becomes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STDIN = "-"
STDIN_NAME = "stdin"
# Of files in a folder; a file that is named may be of any kind.
_SOUND = "aif aifc aiff au caf flac mp3 oga ogg opus rf64 snd w64 wav"
_MEDIA = "3gp aac ac3 amr ape avi m4a m4b m4v mka mkv mov mp2 mp4 mpeg mpg mts ts webm wma wmv wv"
SUFFIXES = frozenset(f".{name}" for name in f"{_SOUND} {_MEDIA}".split())


@dataclass(frozen=True, slots=True)
class Source:
    """`name`: as people see it. `audio`: the file to read. `outputs`: the files to write, by format. `printed`: the
    format of what goes to stdout, if anything does."""

    name: str
    audio: Path
    outputs: Mapping[str, Path] = field(default_factory=dict)
    printed: str | None = None


def files_of(folder: Path, *, is_recursive: bool) -> list[Path]:
    """Sound and video files of a folder, by name, without hidden ones. Raises OSError."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found.append(path)
        elif is_recursive and path.is_dir() and not path.is_symlink():
            found += files_of(path, is_recursive=True)
    return found


def listed(paths: Iterable[str], *, is_recursive: bool, output_dir: Path | None) -> list[tuple[Path, Path]]:
    """Each file with the folder of its outputs: its own, or within `output_dir` the same place as in the folder that
    was named. A file that is named twice comes once. Raises OSError for a folder that cannot be read."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in files_of(path, is_recursive=is_recursive) if path.is_dir() else [path]:
            inside = file.parent.relative_to(path) if path.is_dir() else Path()
            found.setdefault(file, output_dir / inside if output_dir else file.parent)
    return [*found.items()]


def with_outputs(files: Sequence[tuple[Path, Path]], formats: Sequence[str]) -> list[Source]:
    """`talk.m4a` becomes `talk.srt`. It becomes `talk.m4a.srt` where another of these files, such as `talk.wav`, has
    the same name otherwise, or where the output would be one of these files."""
    stems = Counter((folder, file.stem) for file, folder in files)
    audio = {file for file, _ in files}
    sources = []
    for file, folder in files:
        short = {each: folder / f"{file.stem}.{each}" for each in formats}
        is_taken = stems[folder, file.stem] > 1 or not audio.isdisjoint(short.values())
        outputs = {each: folder / f"{file.name}.{each}" for each in formats} if is_taken else short
        sources.append(Source(str(file), file, outputs))
    return sources
