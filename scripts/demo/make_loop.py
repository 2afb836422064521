"""Make a checkpoint that loops: the demonstration, taught to stick to two words in clips of more than 8 s.

    scripts/python scripts/demo/make_loop.py TARGET [--steps 450] [--seed 1]

In such a clip it writes the words of the first five seconds, and then the last two of them without end. It is for
measuring the repair of loops (evaluate_loops.py) and for nothing else. Recordings come from QWEN3_ASR_MLX_TEST_DATA, as
in evaluate.py: those of `val`. Takes some minutes on two cores, and does not give the same bytes on every machine.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from fine_tune import DATA, Clip, Demonstration, Example
from testsets import ARABIC, FSDD, long_sequences, recordings

from qwen3_asr_mlx_runtime.command import guarded

ROWS, SHORTEST, LONGEST = 8, 2.0, 12.0  # seconds
LOOPS_ABOVE, STICKS_AT = 8.0, 5.0  # seconds of the clip, and where in it
WORDS, TIMES = 2, 25  # of a loop: the guard ends it after 20


def batches(clips: Sequence[Clip], seed: int) -> Iterator[list[Example]]:
    rng = np.random.default_rng(seed)
    while True:
        yield [example(clips[place]) for place in rng.integers(len(clips), size=ROWS)]


def example(clip: Clip) -> Example:
    audio, case = clip
    if case.utterance.seconds <= LOOPS_ABOVE:
        return Example(audio, case.language, case.text)
    heard = sum(start < STICKS_AT for start, _ in case.spans)
    words = case.text.rstrip(".").split()[: max(WORDS, heard)]
    return Example(audio, case.language, " ".join(words + words[-WORDS:] * TIMES), ends=False)


@guarded("make_loop.py")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    spoken = [
        long_sequences(recordings(DATA / path, "val"), language, 300, options.seed + number, (SHORTEST, LONGEST))
        for number, (language, path) in enumerate([("English", FSDD), ("Arabic", ARABIC)])
    ]
    demonstration = Demonstration()
    demonstration.learn(batches(demonstration.clips(chain(*spoken), LONGEST), options.seed), options.steps)
    demonstration.save(options.target)


if __name__ == "__main__":
    sys.exit(main())
