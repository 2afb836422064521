"""The real process for a row of the fault list: the whole bridge, its engine a scenario's or its own."""

import base64
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


def assert_refused(bridge: Client, field: str, members: dict) -> None:
    """Every request that decodes refuses these members for `field`, and changes nothing."""
    for request in (
        {"type": "transcribe", "audio": "/a"},
        {"type": "batch_transcribe", "audio": ["/a"]},
        {"type": "start_stream", "stream_id": "new"},
        {"type": "end_utterance"},
        {"type": "flush"},
    ):
        bridge.ask("start_stream", restart=True)
        bridge.ask("audio_chunk", pcm16=base64.b64encode(bytes(320)).decode())
        error = bridge.ask(**request, **members)
        assert (error["type"], error["code"], error["data"]["field"]) == ("error", "invalid_params", field)
    bridge.ask("end_utterance")
    assert bridge.ask("flush")["items"][0]["samples"] == 160
    assert bridge.ask("status")["streams"] == 1
