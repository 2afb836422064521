"""Long files in the real process: segments give what the whole gives, and a stream what its file gives."""

import base64
import wave
from pathlib import Path

import numpy as np
import pytest
import soxr
from e2e.client import Client, command
from live_agreement import joined_examples

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import Utterance

RATE = 44_100


@pytest.fixture(scope="module")
def pcm() -> np.ndarray:
    """40 s of joined recordings at 44.1 kHz, louder than full scale after the filter."""
    samples = joined_examples(40 * 16_000, np.random.default_rng(4)).astype(np.float32)
    samples = soxr.resample(samples / np.abs(samples).max(), 16_000, RATE)
    return (samples * 40_000).clip(-32768, 32767).astype("<i2")


@pytest.fixture(scope="module")
def path(pcm: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("long") / "long.wav")
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    return path


@pytest.fixture(scope="module")
def whole(path: str) -> Transcript:
    """Of the samples in memory, which the engine itself cuts."""
    return Recognizer.load("demo", dtype="float32").transcribe(Utterance(read_file(path).samples))


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_a_file_in_segments_has_the_transcript_of_the_whole(path: str, whole: Transcript, mode: str) -> None:
    with Client(command(None, "--model", "demo", "--local-files-only")) as bridge:
        reply = bridge.ask("batch_transcribe", audio=[path], decoder_mode=mode)
        assert bridge.wait() == 0
    [item] = reply["items"]
    assert len(whole.audio_output_lengths) == 2
    assert (item["text"], item["raw_text"], item["language"]) == (whole.text, whole.raw_text, whole.language)
    assert (item["finish_reason"], item["generated_tokens"]) == (whole.finish_reason, len(whole.token_ids))
    assert item["audio_embeddings_shape"] == [*whole.audio_embeddings_shape]
    profile, expected = reply["profile"], whole.profile
    assert profile["audio_samples"] == expected.audio_samples
    assert profile["audio_output_lengths"] == expected.audio_output_lengths
    assert profile["generated_tokens"] == expected.generated_tokens


@pytest.mark.parametrize("partials", [False, True])
def test_a_stream_has_the_transcript_of_its_file(path: str, pcm: np.ndarray, partials: bool) -> None:
    with Client(command(None, "--model", "demo", "--local-files-only")) as bridge:
        file = bridge.ask("transcribe", audio=path)
        bridge.ask("start_stream", sample_rate=RATE, partials=partials, partial_interval_ms=20_000)
        for start in range(0, len(pcm), 10 * RATE):
            chunk = base64.b64encode(pcm[start : start + 10 * RATE].tobytes()).decode()
            bridge.ask("audio_chunk", pcm16=chunk)
        bridge.ask("end_utterance")
        [item] = bridge.ask("flush")["items"]
        assert bridge.wait() == 0
    assert (item["text"], item["raw_text"]) == (file["text"], file["raw_text"])
    assert item["rms_dbfs"] == file["rms_dbfs"]


def test_an_hour_takes_the_memory_of_minutes(tmp_path: Path) -> None:
    """The model is a fake: what grows is what the bridge holds."""
    files = {}
    for minutes in (5, 60):
        files[minutes] = str(tmp_path / f"{minutes}.wav")
        with wave.open(files[minutes], "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            for _ in range(minutes):
                file.writeframes(bytes(60 * 32_000))
    peaks = {}
    for minutes, path in files.items():
        with Client(command("forget", "--max-audio-seconds", "3600")) as bridge:
            assert bridge.ask("transcribe", audio=path)["type"] == "transcript"
            peaks[minutes] = bridge.ask("status")["memory"]["rss_peak_bytes"]
            assert bridge.wait() == 0
    held = 16 * 30 * 16_000 * 4
    assert peaks[60] - peaks[5] < held, peaks
    assert 3600 * 16_000 * 4 > 7 * held
