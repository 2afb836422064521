"""The final of a pause is the transcript of a file of its frames: through the whole bridge, at every rate.

QWEN3_ASR_MLX_TEST_PAUSES=250 scripts/test tests/e2e/test_pause.py: 250 utterances of each rate.
"""

import base64
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from e2e.client import Client, command
from live_agreement import random_utterances
from support.marks import rest_once

UTTERANCES = int(os.environ.get("QWEN3_ASR_MLX_TEST_PAUSES", "3"))  # of each rate
SAME = ("text", "language", "raw_text", "finish_reason", "generated_tokens", "token_logprobs", "generated_token_ids")


def recordings(rate: int, count: int) -> list[np.ndarray]:
    """1 to 12 s of digits: PCM, int16 (N,)."""
    rng = np.random.default_rng(rate)
    found = []
    for utterance in random_utterances(count, 0, seed=rate):
        samples = utterance.samples[: int(rng.uniform(1.0, 12.0) * 16_000)]
        found.append((soxr.resample(samples, 16_000, rate) * 32_000).clip(-32_768, 32_767).astype("<i2"))
    return found


class Speaker:
    """Streams recordings with pauses to one bridge."""

    def __init__(self, client: Client, rate: int, folder: Path) -> None:
        self._client = client
        self._rate = rate
        self._path = folder / "whole.wav"
        self._rng = np.random.default_rng(7 * rate)
        self.states: list[str] = []
        client.ask("hello", want=["events"])
        client.ask("start_stream", stream_id="mic", sample_rate=rate, auto_flush=True, partials=True, logprobs=True)

    def say(self, pcm: np.ndarray) -> None:
        """One utterance. Its final must be that of a file of its frames."""
        paused = self._send(pcm)
        frames = paused if self._rng.random() < 0.7 else int(self._rng.integers(1, len(pcm) + 1))
        if self._rng.random() < 0.5:
            self._wait_a_moment()
        self._client.send("end_utterance", stream_id="mic", samples=frames, rest="drop", logprobs=True)
        item = self._final()
        self.states.append(item["provisional"])
        soundfile.write(self._path, pcm[:frames], self._rate, subtype="PCM_16")
        self._client.send("transcribe", id="whole", audio=str(self._path), logprobs=True)
        whole = self._read_until(lambda line: line.get("id") == "whole")
        if frames >= self._rate // 100:  # shorter audio has no frame
            assert {name: item[name] for name in SAME[:5]} == {name: whole[name] for name in SAME[:5]}
            assert item["generated_token_ids"] == whole["generated_token_ids"]

    def _send(self, pcm: np.ndarray) -> int:
        """All of it, with true and false pauses: the frames of the last."""
        given, paused = 0, 0
        while given < len(pcm):
            more = pcm[given : given + int(self._rng.uniform(0.05, 1.5) * self._rate)]
            given += len(more)
            chunk = base64.b64encode(more.tobytes()).decode()
            self._client.send("audio_chunk", stream_id="mic", pcm16=chunk)
            if self._rng.random() < 0.3 or given >= len(pcm):
                asked = given if self._rng.random() < 0.7 else int(self._rng.integers(1, given + 1))
                self._client.send("pause", id="pause", stream_id="mic", samples=asked)
                paused = self._read_until(lambda line: line.get("id") == "pause")["samples"]
                if self._rng.random() < 0.5:
                    self._wait_a_moment()
        return paused

    def _wait_a_moment(self) -> None:
        """As long as some work of the engine takes."""
        for _ in range(int(self._rng.integers(1, 40))):
            self._client.send("ping", id="ping")
            self._read_until(lambda line: line.get("id") == "ping")

    def _final(self) -> dict:
        line = self._read_until(lambda line: line["type"] == "realtime_batch_final")
        [item] = line["items"]
        return item

    def _read_until(self, is_it) -> dict:
        while not is_it(line := self._client.read()):
            assert line["type"] in ("partial_result", "utterance_queued"), line
        return line


@pytest.mark.parametrize("dtype", rest_once(["float32", "bfloat16"]))
@pytest.mark.parametrize("rate", rest_once([48_000, 8_000, 16_000, 44_100]))
def test_a_provisional_final_is_the_transcript_of_its_frames(rate: int, dtype: str, tmp_path: Path) -> None:
    count = UTTERANCES if dtype == "float32" else max(1, UTTERANCES // 5)
    with Client(command(None, "--model", "demo", "--local-files-only", "--dtype", dtype)) as client:
        client.ask("start")
        speaker = Speaker(client, rate, tmp_path)
        for pcm in recordings(rate, count):
            speaker.say(pcm)
        client.send("stop")
        assert client.wait() == 0
    assert len(speaker.states) == count
