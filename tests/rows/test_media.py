"""Rows 116 to 118: what may go wrong with files that FFmpeg decodes, in the real process."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from e2e.client import WAIT, Client
from rows.bridge import command
from support.media_file import tone, write

IMPATIENT = """
from qwen3_asr_mlx_runtime.audio import media
media.STALL_SECONDS = 0.5
media._PROGRAM = media._PROGRAM.replace("; from qwen3", "; {fault}; from qwen3")
"""
FAULTS = {"crash": "os.kill(os.getpid(), 11)", "hang": "import time; time.sleep(60)"}


def bridge(before: str = "") -> Client:
    return Client(command("speak", before=before))


@pytest.mark.parametrize("fault", FAULTS)
def test_row_116_a_decoder_that_gives_up_costs_one_file(tmp_path: Path, speech: str, fault: str) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(1.0)]))
    with bridge(IMPATIENT.format(fault=FAULTS[fault])) as client:
        reply = client.ask("batch_transcribe", audio=[speech, path, speech])
        assert [item.get("error", {}).get("code") for item in reply["items"]] == [None, "audio_corrupt", None]
        assert client.ask("transcribe", audio=path)["code"] == "audio_corrupt"
        assert client.ask("transcribe", audio=speech)["type"] == "transcript"
        assert client.wait() == 0


def test_row_117_what_a_media_file_does_not_have(tmp_path: Path) -> None:
    silent = str(write(tmp_path / "silent.mp4", [], video=True))
    one = str(write(tmp_path / "one.mp4", [tone(1.0)], video=True))
    playlist = tmp_path / "list.ffconcat"
    playlist.write_text(f"ffconcat version 1.0\nfile '{one}'\n")
    with bridge() as client:
        assert "media" in client.ask("capabilities")["features"]
        assert client.ask("transcribe", audio=silent)["code"] == "audio_empty"
        error = client.ask("transcribe", audio=one, track=2)
        assert (error["code"], error["data"]["field"]) == ("invalid_params", "track")
        assert client.ask("transcribe", audio=str(playlist))["code"] == "audio_unsupported"
        assert client.ask("transcribe", audio=one, track=0)["code"] == "invalid_params"
        assert client.ask("transcribe", audio=one, track=1)["type"] == "transcript"
        assert client.wait() == 0


def test_row_118_the_decoder_ends_with_the_bridge(tmp_path: Path) -> None:
    path = str(write(tmp_path / "tone.m4a", [tone(1.0)]))
    with bridge(IMPATIENT.format(fault=FAULTS["hang"]).replace("0.5", "60")) as client:
        client.send("transcribe", audio=path)
        deadline = time.monotonic() + WAIT
        decoders: list[psutil.Process] = []
        while not decoders:
            assert time.monotonic() < deadline
            decoders = [
                each
                for each in psutil.Process(client.process.pid).children()
                if "media_child" in " ".join(each.cmdline())
            ]
        os.kill(client.process.pid, signal.SIGKILL)
        while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in decoders):
            assert time.monotonic() < deadline
            time.sleep(0.01)
