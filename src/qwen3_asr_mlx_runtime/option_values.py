"""Command-line words → values. An invalid word raises argparse.ArgumentTypeError."""

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from qwen3_asr_mlx_runtime.errors import InvalidParams
from qwen3_asr_mlx_runtime.languages import AUTO, allowed_languages, language_choice
from qwen3_asr_mlx_runtime.limits import MAX_CONTEXT_CHARACTERS

if TYPE_CHECKING:
    from qwen3_asr_mlx_runtime.terms import Term

MAX_SECONDS = 24 * 3600.0
MIB = 1024 * 1024


def expanded(path: str | None) -> Path | None:
    """Expand `~` and `~name` as a shell does; keep them if no such home is known."""
    if not path:
        return None
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def state_dir(path: str | None, environ: Mapping[str, str]) -> Path | None:
    """The option, or `state` in the launcher's home; None where no home is known."""
    if path:
        return expanded(path)
    if home := environ.get("QWEN3_ASR_MLX_HOME"):
        return Path(home) / "state"
    if not (user := environ.get("HOME")):
        return None
    other = Path(environ.get("XDG_CACHE_HOME") or Path(user, ".cache"))
    cache = Path(user, "Library/Caches") if sys.platform == "darwin" else other
    return cache / "qwen3-asr-mlx-runtime" / "state"


def name(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("expected a name, got nothing")
    return text


def servers(text: str) -> tuple[str, ...]:
    """The addresses of a remote engine's servers, each once, with commas between, without slashes at their ends."""
    return tuple(dict.fromkeys(_server(part.strip()) for part in text.split(",")))


def _server(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError("expected addresses as http://HOST:PORT, with commas between")
    if parts.username is not None or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("expected an address without a password, a query or a fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1').rstrip('/')}"


def language(text: str) -> str | None:
    try:
        choice = language_choice(text)
    except InvalidParams as error:
        raise argparse.ArgumentTypeError(f"{error.message}, got {text!r}") from None
    return None if choice == AUTO else choice


def languages(text: str) -> tuple[str, ...]:
    try:
        return allowed_languages(text.split(","))
    except InvalidParams as error:
        raise argparse.ArgumentTypeError(f"{error.message}, got {text!r}") from None


def context(text: str) -> str:
    if len(text) > MAX_CONTEXT_CHARACTERS:
        raise argparse.ArgumentTypeError(f"expected at most {MAX_CONTEXT_CHARACTERS} characters, got {len(text)}")
    return text


def terms(text: str) -> "tuple[Term, ...]":
    """`Ada Lovelace,Menabrea=3`"""
    from qwen3_asr_mlx_runtime.terms import listed_terms  # it needs a package, which may be missing at the start

    try:
        return listed_terms(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected TERM or TERM=WEIGHT, separated by commas: {error}") from None


def shell_words(text: str) -> list[str]:
    """Options for another program, written as in a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected options as in a shell: {error}") from None


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.lstrip("+").isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
        return int(text)

    return parse


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low:g} to {high:g}{unit}, got {text!r}")
        return value

    return parse


def seconds(low: float, high: float = MAX_SECONDS) -> Callable[[str], float]:
    return number(low, high, " seconds")


def decibels(text: str) -> float:
    return number(-100, 100, " decibels")(text)


def mebibytes(text: str) -> int:
    """In bytes."""
    return whole_number(0, 2**24)(text) * MIB
