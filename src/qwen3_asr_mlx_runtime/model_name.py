"""The name of a model: the default, and the mistakes that can be seen without a network."""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path

from qwen3_asr_mlx_runtime import option_values as values

DEFAULT_MODEL = "Qwen/Qwen3-ASR-0.6B"
DEFAULT_ALIGNER = "Qwen/Qwen3-ForcedAligner-0.6B"
DEMO = "demo"
SERVED = "served"  # the one model that the servers of a remote engine have
DEMO_KNOWS = "the demonstration model knows the ten digits in English and Arabic, and no other word"
SPEECH_LEAVES = "speech is sent to the servers of the engine: it leaves this machine, unless they run here"
_VARIABLE = "QWEN3_ASR_MLX_MODEL"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_SOUND = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".aifc", ".caf", ".au", ".m4a", ".mp4", ".webm")


def chosen_model(named: str | None, environ: Mapping[str, str], default: str = DEFAULT_MODEL) -> str:
    """The one default of every command."""
    return named or environ.get(_VARIABLE) or default


def served_model(named: str | None, environ: Mapping[str, str]) -> str:
    """The model of a remote engine."""
    return chosen_model(named, environ, SERVED)


def chosen_aligner(named: str | None, model: str) -> str:
    """The aligner beside a model: the embedded one beside the embedded model."""
    return named or (DEMO if model == DEMO else DEFAULT_ALIGNER)


def model(text: str) -> str:
    """A command-line value that names a model. Raises argparse.ArgumentTypeError for an impossible name."""
    name = values.name(text)
    path = values.expanded(name) or Path(name)
    is_file = os.path.isfile(path)  # noqa: PTH113 False, and no error, for a name that is too long
    is_free = not os.path.isdir(path) and not is_repository(name)  # noqa: PTH112 the same
    if path.suffix.lower() in _SOUND and (is_file or is_free):
        raise argparse.ArgumentTypeError(
            f"expected a model, got the sound file {name!r}: send it in a request, or give it to qwen3-asr-mlx-live"
        )
    if is_file:
        raise argparse.ArgumentTypeError(f"expected a repository, a folder or `{DEMO}`, got the file {name!r}")
    return name


def is_repository(name: str) -> bool:
    """Whether `name` is owner/name, as on the hub."""
    return _REPOSITORY.fullmatch(name) is not None


def trouble(name: str, cache_dir: Path | None, local_files_only: bool) -> str | None:
    """Why loading this model will fail, as far as file names show; None if no reason is known. Does not quote `name`,
    which may be a path."""
    if name == DEMO:
        return None
    folder = values.expanded(name) or Path(name)
    if os.path.isdir(folder):  # noqa: PTH112 as above
        whole = (folder / "config.json").exists() and any(folder.glob("*.safetensors"))
        return None if whole else "the model's folder holds no config.json beside *.safetensors"
    if not is_repository(name):
        return f"the model is neither a folder that exists, nor owner/name on the hub, nor `{DEMO}`"
    if local_files_only and not _is_cached(name, cache_dir):
        return "the model is not in the cache, and --local-files-only forbids to download it"
    return None


def _is_cached(repository: str, cache_dir: Path | None) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (cache_dir or Path(HF_HUB_CACHE)).joinpath("models--" + repository.replace("/", "--")).is_dir()
