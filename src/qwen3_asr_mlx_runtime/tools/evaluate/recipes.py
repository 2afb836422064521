"""A small slice of a public data set → sound files and a manifest, streamed through the datasets library."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from qwen3_asr_mlx_runtime.errors import DownloadFailed, InvalidParams
from qwen3_asr_mlx_runtime.languages import language_choice
from qwen3_asr_mlx_runtime.packages import missing

MANIFEST = "manifest.jsonl"
_CODES = {"cmn": "zh"}  # FLEURS' code of Mandarin


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where a data set lies on the Hub. `text`: the name of the transcript field. `language` None: the configuration
    names it."""

    repository: str
    config: str
    text: str
    language: str | None = None
    split: str = "test"


RECIPES = {
    "librispeech": Recipe("openslr/librispeech_asr", "clean", "text", "English"),
    "fleurs": Recipe("google/fleurs", "en_us", "transcription"),
    "eka": Recipe("ekacare/eka-medical-asr-evaluation-dataset", "en", "text"),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """The first `limit` rows of one split of one configuration. `source`: a repository, or a folder laid out as one."""

    name: str
    source: str
    config: str
    split: str
    text: str
    language: str | None
    limit: int


class _Line(msgspec.Struct):
    audio: str
    text: str
    language: str | None


def slice_of(words: str, source: str | None, limit: int) -> Slice:
    """`words`: `librispeech`, `fleurs:de_de` or `eka:hi:test`; `source`: a folder in place of the Hub. Raises
    InvalidParams."""
    name, *rest = words.split(":")
    if name not in RECIPES or len(rest) > 2:
        raise InvalidParams(f"expected a recipe, NAME[:CONFIG[:SPLIT]] with {', '.join(RECIPES)}, got {words!r}")
    if source is not None and not Path(source).is_dir():
        raise InvalidParams(f"no such folder: {source!r}")
    recipe = RECIPES[name]
    config, split = (*rest, *["", ""][len(rest) :])
    config = config or recipe.config
    return Slice(
        name,
        source or recipe.repository,
        config,
        split or recipe.split,
        recipe.text,
        recipe.language or _language(config),
        limit,
    )


def fetch(wanted: Slice, folder: Path, show_progress: Callable[[str, int | None, int | None], None]) -> Path:
    """Write the sound files unchanged, and return the path of the manifest. Raises InvalidParams if the set lacks the
    wanted rows, DownloadFailed if it cannot be reached."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, row in enumerate(_rows(wanted)):
        show_progress(f"fetch {wanted.name}", number, wanted.limit)
        lines.append(_save_row(wanted, folder, number, row))
    if not lines:
        raise InvalidParams(f"recipe {wanted.name}: the split {wanted.split!r} is empty")
    manifest = folder / MANIFEST
    manifest.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n")
    return manifest


def _rows(wanted: Slice) -> Iterator[Mapping[str, Any]]:
    try:
        import datasets
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    except ImportError as error:
        raise InvalidParams(missing(error)) from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # the error below reports it once
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of every attempt to reach the Hub
    try:
        rows = datasets.load_dataset(wanted.source, wanted.config, split=wanted.split, streaming=True)
        yield from rows.cast_column("audio", datasets.Audio(decode=False)).take(wanted.limit)
    except (OSError, HTTPError) as error:
        raise DownloadFailed(f"recipe {wanted.name}: {_first_line(error)}") from None
    except (ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InvalidParams(f"recipe {wanted.name}: {_first_line(error)}") from None


def _save_row(wanted: Slice, folder: Path, number: int, row: Mapping[str, Any]) -> _Line:
    audio, text = row.get("audio"), row.get(wanted.text)
    if not isinstance(audio, Mapping) or not isinstance(text, str):
        raise InvalidParams(f"recipe {wanted.name}: row {number} lacks `audio` or `{wanted.text}`")
    path, content = audio.get("path") or "", audio.get("bytes")
    name = f"{number:05}-{_plain(PurePosixPath(path).name)}"
    (folder / name).write_bytes(Path(path).read_bytes() if content is None else content)
    return _Line(name, text, wanted.language)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[-80:] or "audio"


def _language(config: str) -> str | None:
    """The language of `de_de` or `cmn_hans_cn` (FLEURS), or of `hi` (Eka); None if the model does not support it."""
    code = config.partition("_")[0]
    try:
        return language_choice(_CODES.get(code, code))
    except InvalidParams:
        return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
