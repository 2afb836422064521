"""What it costs to hear an utterance while it is spoken, and to end it, against decoding all of it anew.

    scripts/live-benchmark --size 0.6b --dtype float32 --seconds 1,5,10,30,60
    scripts/live-benchmark --demo 100 --seconds 10,30

The first takes random weights of real dimensions and 3 tokens for each second: the draft is the utterance's own text,
cut to the share of tokens that a draft was seen to give (`--accepted`), and beside it one of which nothing is accepted.
Margins of random weights are thinner than rounding, so a product of another width would choose another token at every
turn; each token is computed, read and then replaced by that of the utterance's own text.
The second takes the demonstration checkpoint and so many utterances of each length, heard every half second. In one
run, in turns; prints a Markdown table of medians, and JSON where `--json` names a file.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
from benchmark.audio import speech_like
from benchmark.vocabulary import write_tokenizer
from live_agreement import joined_examples
from reference.random_checkpoint import write_random_checkpoint

from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Job, Partial
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.model import speculative as verify
from qwen3_asr_mlx_runtime.model.generate import Choice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

INTERVAL = 0.5  # seconds between two hearings
TOKENS_PER_SECOND = 3
LONGEST_PIECE = 120.0  # nothing is cut, so that the cost of what is kept shows beyond 30 s
Measured = dict[str, list[float]]


class Speaker:
    """One utterance, heard and ended with drafts that are given."""

    def __init__(self, recognizer: Recognizer, samples: Samples, new_tokens: int = 0) -> None:
        self._recognizer = recognizer
        self._samples = samples
        self.utterance = Utterance(samples, max_new_tokens=new_tokens)

    def live(self, before_the_end: float) -> StreamingUtterance:
        """PartialDone until then, with one token of text."""
        recognizer, first = self._recognizer, Partial(1, 1, max_new_tokens=self.utterance.max_new_tokens)
        live = StreamingUtterance(
            recognizer.model, recognizer._tokenizer, recognizer._preparation, recognizer._live_drift, first
        )
        live.append(self._samples[: len(self._samples) - int(before_the_end * SAMPLE_RATE)])
        exhaust(live._cut(Stopwatch()))
        made = exhaust(live._piece.prepare(live._samples, Stopwatch()))
        exhaust(live._piece.write(replace(made, max_new_tokens=1), recognizer._tokenizer.eos_ids))
        return live

    def hear(self, draft: Iterable[int]) -> tuple[float, list[int]]:
        """A hearing of the last half second, with this draft: seconds, and what was written."""
        live = self.live(INTERVAL)
        live.append(self._samples[-int(INTERVAL * SAMPLE_RATE) :])
        live._piece.ids = [*draft]
        return seconds(lambda: exhaust(live.partial())), [*live._piece.ids]

    def end(self, draft: Iterable[int] | None = None) -> float:
        """From the end of speech to the final, which comes in the middle between two hearings. Without a draft it has
        that of a hearing."""
        live = self.live(INTERVAL / 2)
        if draft is None:
            exhaust(live.partial())
        else:
            live._piece.ids = [*draft]
        live.append(self._samples[live.sample_count :])
        recognition = JobSequence.of(Job(1, self.utterance), self._recognizer._preparation)
        return seconds(lambda: exhaust(live.finish(recognition)))

    def whole(self) -> float:
        return seconds(lambda: self._recognizer.transcribe(self.utterance))


def exhaust(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def saying(text: Sequence[int]) -> Iterator[None]:
    """Whatever is verified or decoded comes out as these tokens, beyond doubt: logits of bfloat16 often tie."""
    accept = verify._accept

    def say(written: verify.DraftResult, choice: Choice, *rest: Any) -> int:
        at = len(written.ids)
        reads = [
            read._replace(token=token, margin=read.margin if read.margin is None else 1.0)
            for read, token in zip(choice.read(), text[at:], strict=False)
        ]
        return accept(written, cast(Choice, SimpleNamespace(read=lambda: reads)), *rest)

    with mock.patch.object(verify, "_accept", say):
        yield


def random_weights(size: str, dtype: str, folder: Path) -> Recognizer:
    Tokenizer.eos_ids = frozenset()  # type: ignore[misc]
    if not (folder / "checkpoint" / "config.json").exists():
        tokenizer = write_tokenizer(folder / "tokenizer")
        write_random_checkpoint(folder / "checkpoint", size=size, dtype=dtype, seed=1, tokenizer=tokenizer)
    recognizer = Recognizer.load(str(folder / "checkpoint"), dtype=dtype, max_piece_seconds=LONGEST_PIECE)
    recognizer._live_drift._margin = 1e-30  # margins are computed; those of random weights would always be low_margin
    return recognizer


def cost(recognizer: Recognizer, length: float, accepted: float, repeats: int) -> Measured:
    new_tokens = max(1, round(length * TOKENS_PER_SECOND))
    speaker = Speaker(recognizer, speech_like(length, 1), new_tokens)
    _, own = speaker.hear(())
    draft, wrong = own[: round(accepted * len(own))], [id + 1 for id in own]
    measured: Measured = {name: [] for name in ("tick", "tick, nothing accepted", "whole", "final")}
    with saying(own):
        speaker.end(draft)  # the first of its shapes compiles them on a GPU
        for _ in range(repeats):
            measured["tick"].append(speaker.hear(draft)[0])
            measured["tick, nothing accepted"].append(speaker.hear(wrong)[0])
            measured["whole"].append(speaker.whole())
            measured["final"].append(speaker.end(draft))
    return measured


def finals(recognizer: Recognizer, length: float, count: int) -> Measured:
    """Finals of the demonstration, each with the draft that it had."""
    rng = np.random.default_rng(1)
    measured: Measured = {"whole": [], "final": []}
    for _ in range(count):
        samples = joined_examples(int(length * SAMPLE_RATE), rng).astype(np.float32)
        speaker = Speaker(recognizer, samples)
        measured["final"].append(speaker.end())
        measured["whole"].append(speaker.whole())
    return measured


def table(measured: dict[float, Measured]) -> str:
    names = list(next(iter(measured.values())))
    others = [name for name in names if name != "whole"]
    lines = [
        "| audio, s | "
        + " | ".join([*(f"{name}, ms" for name in names), *(f"{name} / whole, p50, p95" for name in others)])
        + " |"
    ]
    lines.append("| ---: |" + " ---: |" * (len(names) + len(others)))
    for length, values in measured.items():
        cells = [f"{1000 * statistics.median(values[name]):,.0f}" for name in names]
        for name in others:
            shares = [mine / whole for mine, whole in zip(values[name], values["whole"], strict=True)]
            cells.append(f"{np.percentile(shares, 50):.2f}, {np.percentile(shares, 95):.2f}")
        lines.append(f"| {length:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@guarded("live-benchmark")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "0.6b", "1.7b"), default="0.6b")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--seconds", type=lambda text: [float(one) for one in text.split(",")], default=[1.0, 5.0, 10.0, 30.0, 60.0]
    )
    parser.add_argument(
        "--accepted", type=float, default=0.88, help="share of the draft (default: 0.88, see docs/data/live.md)"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--demo", type=int, help="so many utterances of each length, with the demonstration checkpoint")
    parser.add_argument("--workdir", type=Path, help="keeps the checkpoint; a temporary folder is removed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-benchmark-") as folder:
        if options.demo:
            recognizer = Recognizer.load("demo", dtype=options.dtype)
            while not recognizer._live_drift.is_known:
                recognizer._live_drift.step()
            measured = {length: finals(recognizer, length, options.demo) for length in options.seconds}
        else:
            recognizer = random_weights(options.size, options.dtype, options.workdir or Path(folder))
            measured = {}
            for length in options.seconds:
                measured[length] = cost(recognizer, length, options.accepted, options.repeats)
                print(f"{length:g} s measured", file=sys.stderr)
    print(table(measured))
    if options.json:
        options.json.write_text(
            json.dumps(
                {**vars(options), "json": str(options.json), "workdir": str(options.workdir), "measured": measured}
            )
        )


if __name__ == "__main__":
    sys.exit(main())
