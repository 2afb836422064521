"""The files of a checkpoint: which are required, and what their headers hold. Reads no tensor, and only the files named
here: configuration, tokenizer and processor as JSON and text, weights as safetensors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError, safe_open

from qwen3_asr_mlx_runtime.engines.lengths import HOP_LENGTH, N_FFT
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.features import NUM_MEL_BINS

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TOKENIZER = "tokenizer.json"
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer_config.json")
_PROCESSOR = "processor_config.json"
_FEATURE_EXTRACTOR = "preprocessor_config.json"
_SEGMENT_TIME = "timestamp_segment_time"
_CACHED = "models--*/snapshots/*/*"  # an entry of a snapshot in the hub's cache
_MAX_TOTAL_BYTES = 2**53  # a larger total_size in an index is implausible and ignored
_EDGE_BYTES = 64  # enough of a file to recognise what it is instead


C = TypeVar("C", bound=ModelConfig)


class TensorHeader(NamedTuple):
    """The safetensors header of a tensor; `dtype` as spelled there: BF16, F32, U32, …"""

    shape: tuple[int, ...]
    dtype: str


def required_names(has: Callable[[str], bool]) -> list[str]:
    """The files that a model folder must hold; `has`: whether it has a name. Without shards, which an index names."""
    return [
        _CONFIG,
        *([_TOKENIZER] if has(_TOKENIZER) else _VOCABULARY),
        _PROCESSOR if has(_PROCESSOR) else _FEATURE_EXTRACTOR,
        _INDEX if has(_INDEX) else _WEIGHTS,
    ]


def check_files(folder: Path) -> list[Path]:
    """Every file that loading will read, each checked to be whole as far as possible without reading tensors.

    Raises ModelIncomplete, with the names in `missing`; a dangling link counts as missing. Raises ModelCorrupt naming
    the `file` that is truncated or has other content, and ModelUnsupported for another feature extractor.
    """
    names = required_names(lambda name: _exists(folder / name))
    _require(folder, names)
    files = [folder / name for name in names if name != _WEIGHTS]
    for file in files:
        _check_text(file)
    weights = weight_files(folder)
    _check_weights(folder, weights)
    _check_processor(folder)
    return files + weights


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards its index names. Raises ModelIncomplete, or ModelCorrupt for an index that names
    none."""
    if not _exists(folder / _INDEX):
        _require(folder, [_WEIGHTS])
        return [folder / _WEIGHTS]
    names = sorted(set(_weight_map(folder).values()))
    _require(folder, names)
    return [folder / name for name in names]


def read_config(folder: Path, kind: type[C]) -> C:
    """Parse config.json. The native layout of an aligner has the milliseconds of a class beside the feature extractor.
    Raises ModelIncomplete, ModelCorrupt or ModelUnsupported."""
    _require(folder, [_CONFIG])
    processor = read_json(folder / _PROCESSOR) if _exists(folder / _PROCESSOR) else {}
    times = {name: processor[name] for name in (_SEGMENT_TIME,) if name in processor}
    return kind.from_dict(times | read_json(folder / _CONFIG))


def read_headers(files: list[Path]) -> dict[str, TensorHeader]:
    """Names, shapes and dtypes of all tensors in `files`. Raises ModelCorrupt naming the file that is no whole
    safetensors."""
    headers: dict[str, TensorHeader] = {}
    for file in files:
        headers |= _read_header(file)
    return headers


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise corrupt(file, "is not valid JSON") from error
    if not isinstance(content, dict):
        raise corrupt(file, "holds no JSON object")
    return content


def corrupt(file: Path, what: str) -> ModelCorrupt:
    """ModelCorrupt for `file`. For a file of the hub's cache, `data.delete` lists the paths to delete so that it is
    downloaded again: the entry of the snapshot and the content it links to."""
    file = file.absolute()
    if not file.match(_CACHED):
        return ModelCorrupt(f"{file.name} {what}", file=file.name)
    paths = [str(file), *([str(file.resolve())] if file.is_symlink() else [])]
    message = f"{file.name} {what}; delete it from the cache, and a start with the repository's name downloads it again"
    return ModelCorrupt(message, file=file.name, delete=paths)


def _exists(path: Path) -> bool:
    """Whether there is an entry, including a dangling link, which must be reported as missing."""
    return path.is_symlink() or path.exists()


def _require(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelIncomplete(f"the model folder lacks {', '.join(missing)}", missing=missing)


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor → shard, every shard a name beside the index."""
    weight_map = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise corrupt(folder / _INDEX, "has no weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise corrupt(folder / _INDEX, "names files that are no shards beside it")
    return weight_map


def _check_text(file: Path) -> None:
    """A cheap check that the content fits the name. Other damage shows when the file is parsed."""
    with file.open("rb") as stream:
        start = stream.read(_EDGE_BYTES)
        stream.seek(max(0, file.stat().st_size - _EDGE_BYTES))
        end = stream.read()
    if disguise := _disguise(start):
        raise corrupt(file, disguise)
    if file.suffix == ".json" and not (start.lstrip().startswith(b"{") and end.rstrip().endswith(b"}")):
        raise corrupt(file, "is not a whole JSON object")


def _disguise(start: bytes) -> str | None:
    """What the file is instead, by its first bytes, if it is a typical leftover of a failed download."""
    if not start.strip(b"\0"):
        return "holds nothing"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file it stands for"
    if start.lstrip().startswith(b"<"):
        return "is a web page"
    return None


def _read_header(file: Path) -> dict[str, TensorHeader]:
    headers: dict[str, TensorHeader] = {}
    try:
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (a handle, not a mapping)
                tensor = tensors.get_slice(name)
                headers[name] = TensorHeader(tuple(tensor.get_shape()), tensor.get_dtype())
    except (SafetensorError, OSError) as error:
        with file.open("rb") as stream:
            disguise = _disguise(stream.read(_EDGE_BYTES))
        raise corrupt(file, disguise or f"is not a whole safetensors file ({error})") from error
    return headers


def _check_weights(folder: Path, files: list[Path]) -> None:
    """Check that every shard holds the tensors of its index entries, and that all have the announced total size."""
    found = {file.name: _read_header(file).keys() for file in files}
    if not _exists(folder / _INDEX):
        return
    missing = sorted({shard for tensor, shard in _weight_map(folder).items() if tensor not in found[shard]})
    if missing:
        raise ModelIncomplete(f"{', '.join(missing)} lacks tensors that {_INDEX} names", missing=missing)
    metadata = read_json(folder / _INDEX).get("metadata")
    expected = metadata.get("total_size") if isinstance(metadata, dict) else None
    present = sum(_data_bytes(file) for file in files)
    if isinstance(expected, int | float) and present < expected <= _MAX_TOTAL_BYTES:
        raise ModelIncomplete(
            f"the weights are {present} bytes of the {int(expected)} that {_INDEX} names",
            missing=[file.name for file in files],
            expected_bytes=int(expected),
            found_bytes=present,
        )


def _data_bytes(file: Path) -> int:
    """Size of a safetensors file without its header: eight bytes of length, then that many."""
    with file.open("rb") as stream:
        return file.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")


def _check_processor(folder: Path) -> None:
    """The feature extractor is fixed in model/features.py: reject a checkpoint trained on another one."""
    file = folder / (_PROCESSOR if _exists(folder / _PROCESSOR) else _FEATURE_EXTRACTOR)
    content = read_json(file)
    extractor = content.get("feature_extractor", content)
    if not isinstance(extractor, dict):
        raise corrupt(file, "describes no feature extractor")
    required = {"feature_size": NUM_MEL_BINS, "hop_length": HOP_LENGTH, "n_fft": N_FFT}
    # The published file omits two of these.
    implied = {"sampling_rate": SAMPLE_RATE, "do_normalize": False, "dither": 0.0}
    for key, value in (required | implied).items():
        found = extractor.get(key, implied.get(key))
        if found != value:
            raise ModelUnsupported(f"feature extractor: expected {key} {value}, found {found!r}", field=key)
