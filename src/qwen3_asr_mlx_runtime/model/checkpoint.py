"""The files of a checkpoint: which there must be, what they say of themselves. Reads no tensor."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from qwen3_asr_mlx_runtime.errors import ModelCorrupt, ModelIncomplete, ModelUnsupported
from qwen3_asr_mlx_runtime.features import HOP_LENGTH, N_FFT, NUM_MEL_BINS
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.utterance import SAMPLE_RATE

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer_config.json")


class TensorHeader(NamedTuple):
    """What a safetensors header tells of a tensor; `dtype` as it is spelled there: BF16, F32, U32, …"""

    shape: tuple[int, ...]
    dtype: str


def check_files(folder: Path) -> None:
    """Raise ModelIncomplete, with the names in `missing`, unless configuration, tokenizer, processor and weights are
    all there."""
    required = ["config.json"]
    if not (folder / "tokenizer.json").exists():
        required += _VOCABULARY
    if not (folder / "processor_config.json").exists():
        required.append("preprocessor_config.json")
    _require(folder, required)
    weight_files(folder)
    _check_processor(folder)


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards its index names. Raises ModelIncomplete, or ModelCorrupt for an index that names
    none."""
    if not (folder / _INDEX).exists():
        _require(folder, [_WEIGHTS])
        return [folder / _WEIGHTS]
    weight_map = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelCorrupt(f"{_INDEX} has no weight_map", file=_INDEX)
    names = sorted(set(weight_map.values()))
    if any(not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise ModelCorrupt(f"{_INDEX} names files that are no shards beside it", file=_INDEX)
    _require(folder, names)
    return [folder / name for name in names]


def read_config(folder: Path) -> ModelConfig:
    """Parse config.json. Raises ModelIncomplete, ModelCorrupt or ModelUnsupported."""
    _require(folder, ["config.json"])
    return ModelConfig.from_dict(read_json(folder / "config.json"))


def read_headers(files: list[Path]) -> dict[str, TensorHeader]:
    """Names, shapes and dtypes of all tensors in `files`. Raises ModelCorrupt naming the file that is no whole
    safetensors."""
    headers: dict[str, TensorHeader] = {}
    for file in files:
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (a handle, not a mapping)
                    tensor = tensors.get_slice(name)
                    headers[name] = TensorHeader(tuple(tensor.get_shape()), tensor.get_dtype())
        except (SafetensorError, OSError) as error:
            raise ModelCorrupt(f"{file.name} is not a whole safetensors file: {error}", file=file.name) from error
    return headers


def read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ModelCorrupt(f"{file.name} is not valid JSON", file=file.name) from error
    if not isinstance(content, dict):
        raise ModelCorrupt(f"{file.name} holds no JSON object", file=file.name)
    return content


def _require(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelIncomplete(f"the model folder lacks {', '.join(missing)}", missing=missing)


def _check_processor(folder: Path) -> None:
    """The feature extractor is fixed in features.py: refuse a checkpoint that was trained on another one."""
    native = folder / "processor_config.json"
    content = read_json(native if native.exists() else folder / "preprocessor_config.json")
    extractor = content.get("feature_extractor", content)
    ours = {"feature_size": NUM_MEL_BINS, "hop_length": HOP_LENGTH, "n_fft": N_FFT, "sampling_rate": SAMPLE_RATE}
    for key, value in ours.items():
        if extractor.get(key, value) != value:
            raise ModelUnsupported(f"feature extractor: expected {key} {value}, found {extractor[key]}", field=key)
