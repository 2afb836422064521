"""Gather the clips that the demonstration is trained on into one compact file.

    python scripts/demo/prepare.py DATA OUT.npz

DATA holds fsdd/fsdd.npz and asc_digits/asc_digits.npz (see README.md). espeak-ng must be installed. Needs numpy, soxr.
The file holds `packed` (see `pack`) and, for each clip: `lengths` (samples), `rates` (Hz), `labels` (int8, 6 digits, -1
where there is none), `arabic`, `voice` (an integer for each speaker) and `held_out` (a quarter of those for choosing).
"""

import io
import lzma
import random
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import text
from numpy.typing import NDArray

ACCENTS = ["en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc"]
# The variants f2, m3, Andy, Linda and steph are left for the examples.
VARIANTS = text.words("""
f1 f3 f4 f5 m1 m2 m4 m5 m6 m7 m8 adam Alex Alicia Andrea Annie antonio aunty belinda benjamin boris caleb david
Denis Diogo ed edward Gene Henrique Hugo iven Jacky john kaukovalta Lee Marco Mario max michael michel miguel mike
pablo paul pedro quincy rob robert sandro shelby travis victor zac anika grandma grandpa klatt klatt2 klatt3 klatt4
norbert
""")
VOICES = 72
QUIET_DECIBELS = 30  # below the loudest 20 ms of a recording: no voice


@dataclass(frozen=True)
class Clip:
    """One recording: int16 samples at `rate` Hz, the digits spoken in it, and who speaks."""

    samples: NDArray[np.int16]
    rate: int
    digits: list[int]
    arabic: bool
    voice: int
    held_out: bool


def parts(data: dict[str, NDArray[Any]]) -> NDArray[np.str_]:
    """`train`, `val` or `test` for each recording: FSDD by takes, the Arabic digits by speakers."""
    if "split" in data:
        return data["split"]
    return np.array(["test", "val", "train"])[np.searchsorted([5, 8], data["take"], "right")]


def recorded(path: Path, arabic: bool, first_voice: int) -> list[Clip]:
    """The clips of one data set for training, and a quarter of those for choosing: none that is tested on."""
    data = dict(np.load(path))
    names = {name: first_voice + index for index, name in enumerate(sorted(set(data["speaker"].tolist())))}
    ends = np.cumsum(data["lengths"])
    clips = []
    for index, part in enumerate(parts(data).tolist()):
        if part == "train" or (part == "val" and index % 4 == 0):
            samples = data["samples"][ends[index] - data["lengths"][index] : ends[index]]
            voice = names[str(data["speaker"][index])]
            clips.append(Clip(samples, 8000, [int(data["digit"][index])], arabic, voice, part == "val"))
    return clips


def voiced(samples: NDArray[Any], rate: int) -> tuple[int, int]:
    """The first sample of the voice of one recording, and the one behind its last."""
    width = rate // 50
    power = np.convolve(np.square(samples.astype(np.float64)), np.ones(width), "same")
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET_DECIBELS / 10))
    return int(loud[0]), int(loud[-1]) + 1


def synthesize(words: str, voice: str, speed: int, pitch: int, gap: int) -> NDArray[np.int16]:
    """What espeak-ng says, 16 kHz, trimmed where it is 40 dB below its peak."""
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), "-g", str(gap), words]
    with wave.open(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)) as file:
        raw = np.frombuffer(file.readframes(2**30), np.int16).astype(np.float32)
        samples = soxr.resample(raw, file.getframerate(), 16000)
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() / 100)
    return np.clip(np.rint(samples[loud[0] : loud[-1] + 1]), -32768, 32767).astype(np.int16)


def synthetic(arabic: bool, first_voice: int) -> list[Clip]:
    """The ten digits and three phrases in each of VOICES random voices."""
    rng = random.Random(100 + arabic)
    words = text.SPOKEN["Arabic" if arabic else "English"]
    jobs = []
    for voice in range(first_voice, first_voice + VOICES):
        name = ("ar" if arabic else rng.choice(ACCENTS)) + "+" + rng.choice(VARIANTS)
        manner = (name, rng.randint(100, 210), rng.randint(20, 80), rng.choice([0, 0, 1, 3]))
        spoken = [[digit] for digit in range(10)] + [rng.choices(range(10), k=rng.randint(2, 6)) for _ in range(3)]
        jobs += [(digits, voice, manner) for digits in spoken]

    def clip(job: tuple[list[int], int, tuple[str, int, int, int]]) -> Clip:
        digits, voice, manner = job
        samples = synthesize(" ".join(words[digit] for digit in digits), *manner)
        return Clip(samples, 16000, digits, arabic, voice, False)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(clip, jobs))


def pack(samples: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Lossless: differences, high bytes then low bytes, LZMA."""
    halves = np.diff(samples, prepend=np.int16(0)).view(np.uint8).reshape(-1, 2)
    return np.frombuffer(lzma.compress(halves.T.tobytes(), preset=3), np.uint8)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.int16]:
    halves = np.frombuffer(lzma.decompress(packed.tobytes()), np.uint8).reshape(2, -1)
    return np.cumsum(np.ascontiguousarray(halves.T).view(np.int16).ravel(), dtype=np.int16)


def gather(data: Path) -> list[Clip]:
    clips = recorded(data / "fsdd/fsdd.npz", False, 0) + recorded(data / "asc_digits/asc_digits.npz", True, 100)
    return clips + synthetic(False, 200) + synthetic(True, 400)


def write(clips: list[Clip], path: Path) -> None:
    labels = np.full((len(clips), 6), -1, np.int8)
    for index, clip in enumerate(clips):
        labels[index, : len(clip.digits)] = clip.digits
    np.savez(
        path,
        packed=pack(np.concatenate([clip.samples for clip in clips])),
        lengths=np.array([len(clip.samples) for clip in clips]),
        rates=np.array([clip.rate for clip in clips]),
        labels=labels,
        arabic=np.array([clip.arabic for clip in clips]),
        voice=np.array([clip.voice for clip in clips]),
        held_out=np.array([clip.held_out for clip in clips]),
    )


if __name__ == "__main__":
    write(gather(Path(sys.argv[1])), Path(sys.argv[2]))
