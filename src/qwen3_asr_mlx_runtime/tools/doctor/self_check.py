"""Checks the engine's results on this device: known audio must give known tokens and probabilities in every decoder
mode. The expected values come from the reference implementation (scripts/demo/make_self_check.py)."""

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import soundfile

from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engines.api import Append, Finalize, Finished, Partial
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.model.drift import LONG_LENGTH, largest_drift
from qwen3_asr_mlx_runtime.tools.doctor.finding import Finding, failure, ok

TOLERANCE = {"float32": 2e-3, "bfloat16": 0.3}  # of a log-probability
DRIFT_LIMIT = {"float32": 1e-2, "bfloat16": 2.0}  # of a logit: a defect moves logits by ten and more
_TF32 = 10  # factor on a GPU in float32, which may multiply with ten bits (0.0022 and 0.0081 on an H100)
_SURE = -0.5  # below this log-probability bfloat16 may choose another token than float32
_MAX_LEAK = 2**20
_REPORT = "report it with this output: transcripts of this device cannot be trusted"


def check_engine() -> Iterator[Finding]:
    """Check the demonstration checkpoint in both dtypes."""
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    for dtype in TOLERANCE:
        yield from _check(Recognizer.load("demo", dtype=dtype), dtype)
    gc.collect()
    mx.clear_cache()
    left = mx.get_active_memory() - before
    what = f"{left} bytes of MLX's memory were left behind"
    yield ok("memory is back where it was") if left < _MAX_LEAK else failure(what, _REPORT)


def check_margins(recognizer: Recognizer, name: str) -> Finding:
    """Whether the measured margins ε are finite."""
    batched, streaming = recognizer._drift.margin(LONG_LENGTH), recognizer._streaming_drift.margin
    what = f"{name}: ε is {batched:.2g} for batches, {streaming:.2g} for verified text"
    return ok(what) if math.isfinite(batched + streaming) else failure(what, f"no margin can be trusted: {_REPORT}")


def _check(recognizer: Recognizer, dtype: str) -> Iterator[Finding]:
    expected = [case for case in _expected() if dtype == "float32" or min(case["logprobs"]) > _SURE]
    utterances = [_utterance(case) for case in expected]
    alone = recognizer.transcribe_batch(utterances)
    wrong = sum([*transcript.token_ids] != case["tokens"] for transcript, case in zip(alone, expected, strict=True))
    yield _finding(
        wrong, f"{dtype}: known audio gives the known tokens", f"{wrong} of {len(alone)} known clips got other tokens"
    )
    apart = max(_apart(transcript, case) for transcript, case in zip(alone, expected, strict=True))
    close = f"{dtype}: probabilities are those of the reference (log apart by {apart:.2g})"
    yield _finding(
        apart > TOLERANCE[dtype] * _slack(dtype), close, f"log-probabilities are {apart:.2g} from the reference's"
    )
    drift = largest_drift(recognizer.model)
    close = f"{dtype}: a row in a batch has the logits it has alone (apart by {drift:.2g})"
    yield _finding(
        not drift <= DRIFT_LIMIT[dtype] * _slack(dtype),
        close,
        f"a row in a batch is off by {drift:.2g}: rotary positions, or the mask",
    )
    batched = recognizer.transcribe_batch(utterances, "batched")
    wrong = sum(_differ(transcript, other) for transcript, other in zip(alone, batched, strict=True))
    yield _finding(
        wrong, f"{dtype}: a batch gives the transcripts of each alone", f"{wrong} transcripts of a batch differ"
    )
    streamed = [_streamed(recognizer, utterance) for utterance in utterances]
    wrong = sum(_differ(transcript, other) for transcript, other in zip(alone, streamed, strict=True))
    yield _finding(
        wrong, f"{dtype}: a stream gives the transcript of the whole", f"{wrong} transcripts of streams differ"
    )
    yield check_margins(recognizer, dtype)


def _finding(wrong: object, good: str, bad: str) -> Finding:
    return failure(bad, _REPORT) if wrong else ok(good)


def _slack(dtype: str) -> int:
    return _TF32 if dtype == "float32" and mx.default_device() != mx.cpu else 1


def _differ(transcript: Transcript, other: Transcript) -> bool:
    return transcript.token_ids != other.token_ids


def _apart(transcript: Transcript, case: dict[str, Any]) -> float:
    pairs = zip(transcript.logprobs or (), case["logprobs"], strict=False)
    return max((abs(measured - expected) for measured, expected in pairs), default=math.inf)


def _streamed(recognizer: Recognizer, utterance: Utterance) -> Transcript:
    """The final of a stream that gets a partial every half second."""
    schedule, samples, step = recognizer.schedule(), utterance.samples, SAMPLE_RATE // 2
    for start in range(0, len(samples), step):
        schedule.append(Append(1, samples[start : start + step]))
        schedule.partial(Partial(start + 2, 1, utterance.language))
        while schedule.is_busy:
            schedule.step()
    schedule.finalize(Finalize(1, 1, utterance.language, logprobs=True, interactive=True))
    outcomes = []
    while schedule.is_busy:
        outcomes += schedule.step()
    [transcript] = [outcome.transcript for outcome in outcomes if isinstance(outcome, Finished)]
    return transcript


def _expected() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((DEMO_FOLDER / "self-check.json").read_text(encoding="utf-8"))
    return cases


def known_utterances() -> list[Utterance]:
    """The known audio: digits in English and Arabic."""
    return [_utterance(case) for case in _expected()]


def _utterance(case: dict[str, Any]) -> Utterance:
    samples = _audio(DEMO_FOLDER / "self-check.flac")[case["start"] : case["stop"]]
    return Utterance(samples, language=case["forced_language"], logprobs=True)


def _audio(path: Path) -> Samples:
    pcm, _ = soundfile.read(path, dtype="int16")
    samples: Samples = (pcm / 32768).astype(np.float32)
    return samples
