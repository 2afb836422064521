"""A loaded model → a checkpoint folder, in the layout of mlx-community: one file of weights under our names, and the
configuration, tokenizer and processor of the checkpoint it came from."""

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from qwen3_asr_mlx_runtime.checkpoint.files import check_files, read_json
from qwen3_asr_mlx_runtime.checkpoint.quantize import config_section, quantized_layers
from qwen3_asr_mlx_runtime.checkpoint.weights import named_parameters
from qwen3_asr_mlx_runtime.errors import DiskFull, InvalidParams
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_COPIED_SUFFIXES = (".json", ".jinja", ".txt")
_COPIED_NAMES = ("LICENSE", "NOTICE")


def check_target(target: Path) -> None:
    """Raises InvalidParams unless `target` is a new name whose parent folders exist or can be created."""
    if target.is_symlink() or target.exists():
        raise InvalidParams(f"{target} exists already: expected a new name", field="target")
    above = next(parent for parent in target.parents if parent.exists())
    if not above.is_dir():
        raise InvalidParams(f"{above} is no folder", field="target")


def save_model(model: Qwen3ASR, source: Path, target: Path) -> None:
    """Write `target`: the weights of `model`, which was loaded from `source`, quantised and not joined.

    The folder gets its name once it is complete. Raises InvalidParams for a target that exists, DiskFull, or
    OSError.
    """
    check_target(target)
    with _replacing(target) as folder, _space(target):
        for file in _copied(source):
            shutil.copyfile(file, folder / file.name)
        _write_weights(folder, dict(named_parameters(model)))
        section = config_section(quantized_layers(model))
        config = read_json(source / _CONFIG) | {"quantization": section, "quantization_config": section}
        _write_json(folder / _CONFIG, config)
        check_files(folder)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, renamed to it at the end and deleted on an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        folder = part / target.name  # with default permissions, unlike `part`
        folder.mkdir()
        yield folder
        check_target(target)
        folder.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _space(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"there is no room left in {target.parent}") from error
        raise


def _copied(source: Path) -> list[Path]:
    """The files copied unchanged; config.json and the index are replaced afterwards."""
    files = (file for file in sorted(source.iterdir()) if file.is_file())
    return [file for file in files if file.suffix in _COPIED_SUFFIXES or file.name in _COPIED_NAMES]


def _write_weights(folder: Path, weights: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(folder / _WEIGHTS), weights, metadata={"format": "mlx"})
    except RuntimeError as error:  # MLX gives no reason
        free = shutil.disk_usage(folder).free
        raise OSError(errno.EIO if free else errno.ENOSPC, "the weights could not be written") from error
    total = sum(weight.nbytes for weight in weights.values())
    weight_map = dict.fromkeys(sorted(weights), _WEIGHTS)
    _write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
