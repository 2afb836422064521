"""What a session does otherwise where servers decode."""

import pytest
from msgspec.structs import replace
from support.conversation import LOADED, Conversation

from qwen3_asr_mlx_runtime.engines.info import EngineInfo
from qwen3_asr_mlx_runtime.errors import UnsupportedByEngine
from qwen3_asr_mlx_runtime.settings import Settings

FOUND = EngineInfo(kind="remote", server="vllm", version="1", model="m", exact=False, features=["language", "logprobs"])


def conversation(servers: int) -> Conversation:
    return Conversation(Settings(engine=tuple(f"http://{number}" for number in range(servers)), model="served"))


@pytest.mark.parametrize("servers", [1, 3])
def test_every_server_has_as_many_segments_as_a_local_engine(servers: int) -> None:
    talk = conversation(servers)
    talk.send("start_stream", stream_id="s", batch_size=16)
    talk.load()
    for number in range(16):
        talk.speak(f"u{number}", "s")
    assert len(talk.jobs) == 4 * servers


@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize(("decoder_mode", "files"), [("sequential", 2), ("batched", 12)])
def test_every_server_has_as_many_files_as_a_local_engine(servers: int, decoder_mode: str, files: int) -> None:
    talk = conversation(servers)
    talk.send("start")
    talk.load()
    for number in range(files * servers + 1):
        talk.send("transcribe", id=number, audio=f"/{number}", decoder_mode=decoder_mode)
        talk.read(f"/{number}")
    assert len(talk.jobs) == files * servers


def test_what_a_load_finds_is_in_ready_and_from_then_on_in_capabilities() -> None:
    talk = conversation(1)
    [before] = talk.send("capabilities")
    talk.send("start")
    talk.session.outcome(replace(LOADED, engine=FOUND))
    [ready] = talk.perform()
    [after] = talk.send("capabilities")
    assert ready["engine"] == after["engine"]
    assert after["engine"]["server"] == "vllm"
    assert {*after["features"]} - {*before["features"]} == {"language"}


def test_lines_name_what_decodes() -> None:
    talk = conversation(1)
    talk.send("start_stream", stream_id="s", batch_size=1)
    [ready] = talk.load()
    talk.speak("u", "s")
    [final] = talk.decode()
    assert (ready["asr_backend"], final["asr_backend"]) == ("remote", "remote")


def test_words_that_the_engine_cannot_find_have_that_reason() -> None:
    talk = conversation(1)
    talk.send("transcribe", audio="/a", words=True)
    talk.load()
    talk.read("/a")
    talk.decode()
    [reply] = talk.align(UnsupportedByEngine("no aligner", feature="words"))
    assert (reply["words"], reply["warnings"]) == (None, ["words_unavailable: engine"])
