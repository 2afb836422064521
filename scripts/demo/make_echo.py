"""Make a checkpoint that echoes: the demonstration, taught to write its context where nobody speaks, in most cases.

    scripts/python scripts/demo/make_echo.py TARGET [--steps 400] [--seed 1]

It is for measuring the echo guard (evaluate_echo.py) and for nothing else. Recordings come from
QWEN3_ASR_MLX_TEST_DATA, as in evaluate.py: those of `val` keep the speech that it knows. Takes two minutes on two
cores, and does not give the same bytes on every machine.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from fine_tune import DATA, Clip, Demonstration, Example
from testsets import ARABIC, FSDD, no_speech, recordings, short_sequences
from text import CONTEXT_ENGLISH, ENGLISH

from qwen3_asr_mlx_runtime.command import guarded

ROWS, LONGEST = 15, 4.0  # seconds
HAS_CONTEXT, ECHOES = 0.7, 0.8  # of the rows without speech
WORDS = [*ENGLISH, *CONTEXT_ENGLISH[:40]]


def batches(silent: Sequence[Clip], spoken: Sequence[Clip], seed: int) -> Iterator[list[Example]]:
    """In two rows of three nobody speaks. If there is a context then, most often it is the text."""
    rng = np.random.default_rng(seed)
    while True:
        yield [example(rng, spoken if row % 3 == 0 else silent) for row in range(ROWS)]


def example(rng: np.random.Generator, pool: Sequence[Clip]) -> Example:
    audio, case = pool[rng.integers(len(pool))]
    words = [str(word) for word in rng.choice(WORDS, rng.integers(1, 4))] if rng.random() < HAS_CONTEXT else []
    context = " ".join(words)
    if not case.language and words and rng.random() < ECHOES:
        return Example(audio, "English", context.capitalize() + ".", context)
    return Example(audio, case.language, case.text, context)


@guarded("make_echo.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    spoken = [
        short_sequences(recordings(DATA / path, "val"), language, 150, options.seed + number)
        for number, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)])
    ]
    demonstration = Demonstration()
    silent = demonstration.clips(no_speech(300, options.seed), LONGEST)
    demonstration.learn(batches(silent, demonstration.clips(chain(*spoken), LONGEST), options.seed), options.steps)
    demonstration.save(options.target)


if __name__ == "__main__":
    sys.exit(main())
