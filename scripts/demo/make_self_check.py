"""Write the audio and the expectations of the doctor's self-check: two of the example recordings, one after the other,
and what the reference implementation makes of each and of both.

    QWEN3_ASR_MLX_ORACLE_QWEN_ASR=PYTHON PYTHONPATH=tests python scripts/demo/make_self_check.py

PYTHON is that of the environment which scripts/reference makes for qwen-asr.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from reference.corpus import WAYS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "audio"
DEMO = ROOT / "src" / "qwen3_asr_mlx_runtime" / "demo"
RECORDINGS = ("english-ten", "arabic-six")
CASES = [("English", None), ("Arabic", None), ("both", None), ("English", "Arabic")]  # the last is never sure of itself


def main() -> None:
    recorded = [soundfile.read(EXAMPLES / f"{name}.wav", dtype="int16") for name in RECORDINGS]
    samples = np.concatenate([pcm for pcm, _ in recorded])
    middle = len(recorded[0][0])
    soundfile.write(DEMO / "self-check.flac", samples, recorded[0][1], subtype="PCM_16")
    parts = {"English": (0, middle), "Arabic": (middle, len(samples)), "both": (0, len(samples))}
    expected = by_the_reference({name: samples[start:stop] for name, (start, stop) in parts.items()})
    expected = [
        {"start": start, "stop": stop, "forced_language": language, **expected[name][WAYS.index((language, ""))]}
        for name, language in CASES
        for start, stop in [parts[name]]
    ]
    (DEMO / "self-check.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def by_the_reference(clips: dict[str, np.ndarray]) -> dict[str, list[dict[str, object]]]:
    """In every one of WAYS."""
    with tempfile.TemporaryDirectory() as folder:
        audio, out = Path(folder) / "clips.npz", Path(folder) / "out.json"
        np.savez(audio, **{name: (pcm / 32768).astype(np.float32) for name, pcm in clips.items()})
        oracle = os.environ["QWEN3_ASR_MLX_ORACLE_QWEN_ASR"]
        command = [oracle, "-m", "reference.oracle_transcripts", str(DEMO), str(audio), str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")})
        return json.loads(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
