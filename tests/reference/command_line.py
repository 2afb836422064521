"""The command line that all implementations share."""

import argparse
from collections.abc import Callable
from pathlib import Path

from reference.activations import TOKENS, Implementation, save
from reference.clips import FRAME_COUNTS


def run(load: Callable[[Path], Implementation], doc: str | None) -> None:
    """CHECKPOINT OUT [--frames 24,60] [--tokens 64] → OUT, an .npz with the activations of the clips."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", default=",".join(map(str, FRAME_COUNTS)), help="mel frame counts")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="greedy tokens a clip")
    options = parser.parse_args()
    save(options.out, load(options.checkpoint), map(int, options.frames.split(",")), options.tokens)
