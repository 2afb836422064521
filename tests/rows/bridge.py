"""The real process for a row of the fault list: the whole bridge, its engine a scenario's or its own."""

import sys
from pathlib import Path

from e2e.client import TESTS, Client
from support.in_worker import in_both


def command(scenario: str | None, *arguments: str, before: str = "") -> list[str]:
    """The bridge whose engine plays a scenario of `rows.scenarios`, or the whole bridge; `before` runs in it first."""
    start = "from qwen3_asr_mlx_runtime.__main__ import main; main()"
    before = in_both(before) if scenario is None else before
    if scenario is not None:
        start = f"from rows.scenarios import main; main({scenario!r})"
    paths = [str(TESTS.parent / "src"), str(TESTS)]
    program = f"import sys; sys.path[:0] = {paths!r}\n{before}\n{start}"
    return [sys.executable, "-I", "-c", program, *arguments]


def real_model(folder: Path, *arguments: str, before: str = "", **options: object) -> Client:
    """The bridge with its own engine, which may load `folder` and download nothing."""
    state = ("--state-dir", str(folder.parent / "state"))
    argv = command(None, "--model", str(folder), "--local-files-only", *state, *arguments, before=before)
    return Client(argv, **options)


def peak_bytes(bridge: Client) -> int:
    """The peak memory that it reports itself: of another process only Linux reports it."""
    return bridge.ask("status")["memory"]["rss_peak_bytes"]
