"""Speak the example clips with espeak-ng, in voices that the demonstration was not trained on.

    python scripts/demo/make_examples.py [FOLDER]

Writes 16 kHz PCM16 mono files and expected.jsonl ({audio, text, language}) into examples/audio, or FOLDER. Needs
espeak-ng, numpy, soxr, soundfile.
"""

import json
import sys
from pathlib import Path

import numpy as np
import prepare
import soundfile
import text

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "audio"
# Name, language, voice, speed, pitch, gap, digits. None of these variants is in prepare.VARIANTS.
SPOKEN = [
    ("sample", "English", "en-us+f2", 150, 50, 2, [7, 3, 1]),
    ("english-one", "English", "en-gb+m3", 140, 45, 0, [8]),
    ("english-five", "English", "en-us+Andy", 160, 40, 3, [2, 9, 4, 0, 6]),
    ("english-ten", "English", "en-gb+Linda", 135, 60, 4, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("arabic-one", "Arabic", "ar+m3", 130, 45, 0, [5]),
    ("arabic-three", "Arabic", "ar+f2", 140, 50, 2, [7, 3, 1]),
    ("arabic-six", "Arabic", "ar+steph", 130, 55, 4, [4, 0, 9, 8, 2, 6]),
]


def speak(language: str, voice: str, speed: int, pitch: int, gap: int, digits: list[int]) -> np.ndarray:
    """The digits with a moment of silence around them, peak at 0.5."""
    words = " ".join(text.SPOKEN[language][digit] for digit in digits)
    sound = prepare.synthesize(words, voice, speed, pitch, gap).astype(np.float32)
    return np.pad(sound / np.abs(sound).max() * 0.5, (3200, 4800))


def noise() -> np.ndarray:
    """Two seconds of soft pink noise with hum."""
    rng, time = np.random.default_rng(9), np.arange(32000) / 16000
    spectrum = np.fft.rfft(rng.standard_normal(len(time)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(time))
    return 0.01 * pink / pink.std() + 0.005 * np.sin(2 * np.pi * 50 * time)


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, language, voice, speed, pitch, gap, digits in SPOKEN:
        soundfile.write(folder / f"{name}.wav", speak(language, voice, speed, pitch, gap, digits), 16000, "PCM_16")
        rows.append({"audio": f"{name}.wav", "text": text.transcript(language, digits), "language": language})
    soundfile.write(folder / "noise.wav", noise(), 16000, "PCM_16")
    rows.append({"audio": "noise.wav", "text": "", "language": None})
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "expected.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
