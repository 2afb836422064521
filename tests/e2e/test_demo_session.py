"""The real process with the real engine and the embedded checkpoint."""

import json
import signal
from pathlib import Path

import pytest
from e2e.client import Client, command

PROFILE_SECONDS = {
    "feature_extract_seconds",
    "prompt_assembly_seconds",
    "audio_tower_seconds",
    "prefill_seconds",
    "continuation_seconds",
    "decode_seconds",
    "total_seconds",
}
PROFILE = PROFILE_SECONDS | {
    "stage",
    "batch_size",
    "audio_samples",
    "audio_seconds",
    "batch_assembly_seconds",
    "audio_feature_lengths",
    "audio_output_lengths",
    "input_features_shape",
    "audio_embeddings_shape",
    "generated_tokens",
    "generated_tokens_total",
    "generated_tokens_per_second",
    "realtime_factor",
    "memory",
    "quantization",
    "prepare",
}


@pytest.fixture(scope="module")
def sample(repository: Path) -> str:
    return str(repository / "examples" / "audio" / "sample.wav")


def demo(*arguments: str) -> Client:
    return Client(command(None, "--model", "demo", "--local-files-only", *arguments))


def test_quantised_weights_are_never_silent(sample: str) -> None:
    with demo("--quantize", "8bit", "--dtype", "float32") as bridge:
        profiles = [bridge.ask("start")["load_profile"], bridge.ask("transcribe", audio=sample)["profile"]]
        profiles.append(bridge.ask("batch_transcribe", audio=[sample, sample])["profile"])
        bridge.ask("stop")
    assert [(one["quantization"]["bits"], one["quantization"]["group_size"]) for one in profiles] == [(8, 64)] * 3


def test_the_articles_session(sample: str) -> None:
    """Start, transcribe one file with no budget of its own, stop: three lines in, three lines out."""
    with demo() as bridge:
        ready = bridge.ask("start")
        assert (ready["type"], ready["model"]) == ("ready", "demo")
        assert Path(ready["model_dir"]).name == "demo"
        assert 0 < ready["load_seconds"]
        reply = bridge.ask("transcribe", audio=sample, max_new_tokens=0)
        stopped = bridge.ask("stop")
        assert (stopped["type"], stopped["reason"], stopped["completed"]) == ("stopped", "stop", 1)
        assert bridge.wait(close=False) == 0
    _check_transcript(reply, sample)


def _check_transcript(reply: dict, sample: str) -> None:
    assert set(reply) == {
        *("type", "audio", "text", "language", "raw_text", "finish_reason", "generated_tokens", "generated_token_ids"),
        *("audio_embeddings_shape", "audio_output_lengths", "decode_seconds", "total_seconds", "load_seconds"),
        *("rms_dbfs", "use_cache", "decoder_mode", "redecoded", "profile", "warnings"),
    }
    assert (reply["type"], reply["audio"], reply["finish_reason"]) == ("transcript", sample, "stop")
    assert reply["raw_text"] == f"language {reply['language']}<asr_text>{reply['text']}"
    assert reply["text"]
    assert reply["generated_tokens"] == len(reply["generated_token_ids"])
    assert reply["audio_embeddings_shape"][0] == sum(reply["audio_output_lengths"])
    assert (reply["load_seconds"], reply["use_cache"], reply["warnings"]) == (0.0, True, [])
    assert set(reply["profile"]) == PROFILE
    assert all(reply["profile"][name] is not None for name in PROFILE_SECONDS)
    memory = reply["profile"]["memory"]
    assert all(memory[f"{name}_mb"] > 0 for name in ("rss_peak", "mlx_peak", "mlx_active"))
    assert reply["total_seconds"] >= reply["profile"]["total_seconds"] >= reply["decode_seconds"]


def test_a_batch_is_its_files_one_by_one_and_a_bad_one_fails_alone(sample: str) -> None:
    with demo() as bridge:
        alone = bridge.ask("transcribe", audio=sample)
        assert alone["load_seconds"] > 0
        batch = bridge.ask("batch_transcribe", audio=[sample, "/nowhere.wav", sample], decoder_mode="sequential")
        assert bridge.wait() == 0
    assert [item["text"] for item in batch["items"]] == [alone["text"], None, alone["text"]]
    assert (batch["count"], batch["failed"], batch["load_seconds"]) == (3, 1, 0.0)
    assert set(batch["profile"]) == PROFILE
    assert batch["profile"]["generated_tokens"] == [alone["generated_tokens"]] * 2


def test_language_and_context_are_fields_of_every_request(sample: str) -> None:
    with demo("--language", "Arabic") as bridge:
        free = bridge.ask("transcribe", audio=sample, language="en", context="kettle window")
        assert (free["language"], free["raw_text"]) == ("English", free["text"])
        batch = bridge.ask("batch_transcribe", audio=[sample], language="English")
        assert batch["items"][0]["language"] == "English"
        assert bridge.ask("transcribe", audio=sample)["language"] == "Arabic"
        assert bridge.ask("transcribe", audio=sample, language="Klingon")["code"] == "invalid_params"
        assert bridge.wait() == 0


def test_a_signal_ends_a_real_decode(sample: str) -> None:
    with demo() as bridge:
        assert bridge.ask("start")["type"] == "ready"
        bridge.send("batch_transcribe", audio=[sample] * 256)
        bridge.signal(signal.SIGTERM)
        replies = [bridge.read()]
        while replies[-1]["type"] != "stopped":
            replies.append(bridge.read())
        assert bridge.wait(close=False) == 143


def test_a_model_that_is_not_there_leaves_the_bridge_up(tmp_path: Path) -> None:
    with Client(command(None, "--local-files-only", "--cache-dir", str(tmp_path), "nobody/nothing")) as bridge:
        assert bridge.ask("start")["code"] == "model_not_found"
        assert bridge.ask("capabilities")["model"] == "nobody/nothing"
        assert bridge.wait() == 0


def test_nothing_of_the_speech_is_on_stderr(sample: str) -> None:
    with demo() as bridge:
        reply = bridge.ask("transcribe", audio=sample)
        assert bridge.wait() == 0
        errors = bridge.stderr()
    words = [word for word in json.dumps([reply["text"], reply["audio"]]).split('"') if len(word) > 3]
    assert [word for word in words if word in errors] == []
