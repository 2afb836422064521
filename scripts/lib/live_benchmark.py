"""The cost of partials and finals of a streamed utterance, against decoding the whole utterance again.

    scripts/live-benchmark --size 0.6b --dtype float32 --seconds 1,5,10,30,60
    scripts/live-benchmark --demo 100 --seconds 10,30

The first uses random weights of real dimensions and 3 tokens for each second. One draft is the utterance's text, cut
to the measured share of accepted tokens (`--accepted`); of another draft nothing is accepted. Margins of random weights
are smaller than rounding errors, so products of different widths would choose different tokens. So each token is
computed, read, and then replaced by that of the utterance's own text.
The second uses the demonstration checkpoint and so many utterances of each length, with a partial every half second.

    scripts/live-benchmark --pause --demo 20 --seconds 3,10,30
    scripts/live-benchmark --pause --size 0.6b --dtype bfloat16 --seconds 3,10,30 --repeats 20

These measure a bridge process: the time from `end_utterance` to the final, with a `pause` before it
(pause_benchmark.py).

    scripts/live-benchmark --paced --demo 3 --seconds 10

This feeds a bridge process at the pace of speech: when the first partial comes, and how old the audio of a partial is.
`--model` puts another model in the place of the demonstration checkpoint.
Prints a Markdown table of medians, and writes JSON to the file of `--json`.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import pause_benchmark
from benchmark.audio import speech_like
from benchmark.vocabulary import write_tokenizer
from live_agreement import joined_examples
from reference.random_checkpoint import write_random_checkpoint

from qwen3_asr_mlx_runtime.audio.pcm16 import to_pcm16
from qwen3_asr_mlx_runtime.client import Bridge
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.engine.recognizer import Recognizer
from qwen3_asr_mlx_runtime.engine.sequence import JobSequence
from qwen3_asr_mlx_runtime.engine.streaming_utterance import StreamingUtterance
from qwen3_asr_mlx_runtime.engines.api import Job, Partial
from qwen3_asr_mlx_runtime.engines.profile import Stopwatch
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE, Samples, Utterance
from qwen3_asr_mlx_runtime.model import speculative
from qwen3_asr_mlx_runtime.model.generate import NextTokens
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from qwen3_asr_mlx_runtime.tools.live.record import summary
from qwen3_asr_mlx_runtime.tools.live.screen import Silent
from qwen3_asr_mlx_runtime.tools.live.session import Plan, Recording, Session

INTERVAL = 0.5  # seconds between two partials
TOKENS_PER_SECOND = 3
# The real bridge, with random_worker.py in place of its worker.
RANDOM_BRIDGE = """
from qwen3_asr_mlx_runtime.engines import worker
real = "qwen3_asr_mlx_runtime.engine.worker import main; main({{channel}})"
assert real in worker._PROGRAM
worker._PROGRAM = worker._PROGRAM.replace(real, "random_worker import main; main({{channel}}, {accepted})")
from qwen3_asr_mlx_runtime.__main__ import main
main()
"""
LONGEST_SEGMENT = 120.0  # no cuts, so that the cost of the caches shows beyond 30 s
Measured = dict[str, list[float]]


class StreamedUtterance:
    """One utterance, with partials and a final from given drafts."""

    def __init__(self, recognizer: Recognizer, samples: Samples, new_tokens: int = 0) -> None:
        self._recognizer = recognizer
        self._samples = samples
        self.utterance = Utterance(samples, max_new_tokens=new_tokens)

    def streaming(self, before_the_end: float) -> StreamingUtterance:
        """The streaming state at `before_the_end` seconds before the end, with one token of text."""
        recognizer, first = self._recognizer, Partial(1, 1, max_new_tokens=self.utterance.max_new_tokens)
        utterance = StreamingUtterance(
            recognizer.model, recognizer._tokenizer, recognizer._preparation, recognizer._streaming_drift, first
        )
        utterance.append(self._samples[: len(self._samples) - int(before_the_end * SAMPLE_RATE)])
        exhaust(utterance._cut(Stopwatch()))
        decoder_input = exhaust(utterance._segment.prepare(utterance._samples, Stopwatch()))
        exhaust(utterance._segment.decode(replace(decoder_input, max_new_tokens=1), recognizer._tokenizer.eos_ids))
        return utterance

    def partial(self, draft: Iterable[int]) -> tuple[float, list[int]]:
        """A partial after the last half second, with this draft: seconds, and its tokens."""
        utterance = self.streaming(INTERVAL)
        utterance.append(self._samples[-int(INTERVAL * SAMPLE_RATE) :])
        utterance._segment.ids = [*draft]
        return seconds(lambda: exhaust(utterance.partial(Stopwatch()))), [*utterance._segment.ids]

    def end(self, draft: Iterable[int] | None = None) -> float:
        """Seconds from the end of the audio to the final. The end lies in the middle between two partials. By default
        the draft is that of a partial."""
        utterance = self.streaming(INTERVAL / 2)
        if draft is None:
            exhaust(utterance.partial(Stopwatch()))
        else:
            utterance._segment.ids = [*draft]
        utterance.append(self._samples[utterance.sample_count :])
        recognition = JobSequence.of(Job(1, self.utterance), self._recognizer._preparation)
        return seconds(lambda: exhaust(utterance.finish(recognition)))

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
def forced_tokens(text: Sequence[int]) -> Iterator[None]:
    """Replace every chosen token by these, with large margins, because logits of bfloat16 often tie."""
    accept = speculative._accept

    def accept_forced(result: speculative.DraftResult, choice: NextTokens, *rest: Any) -> int:
        start = len(result.ids)
        reads = [
            read._replace(token=token, margin=read.margin if read.margin is None else math.inf)
            for read, token in zip(choice.read(), text[start:], strict=False)
        ]
        return accept(result, cast(NextTokens, SimpleNamespace(read=lambda: reads)), *rest)

    with mock.patch.object(speculative, "_accept", accept_forced):
        yield


def tokens_of(seconds: float) -> int:
    """How many tokens the text of so much audio has, with random weights."""
    return max(1, round(seconds * TOKENS_PER_SECOND))


def checkpoint(size: str, dtype: str, folder: Path) -> str:
    """The folder of random weights, written if it is not there. One that exists is complete."""
    made = folder / "checkpoint"
    if not made.exists():
        part = folder / f"checkpoint.{os.getpid()}.part"
        tokenizer = write_tokenizer(folder / "tokenizer")
        write_random_checkpoint(part, size=size, dtype=dtype, seed=1, tokenizer=tokenizer)
        part.rename(made)
    return str(made)


def random_weights(size: str, dtype: str, folder: Path) -> Recognizer:
    Tokenizer.eos_ids = frozenset()  # type: ignore[misc]
    recognizer = Recognizer.load(checkpoint(size, dtype, folder), dtype=dtype, max_segment_seconds=LONGEST_SEGMENT)
    recognizer._streaming_drift._margin = 1e-30  # measured margins of random weights are always low
    return recognizer


def cost(recognizer: Recognizer, length: float, accepted: float, repeats: int) -> Measured:
    utterance = StreamedUtterance(recognizer, speech_like(length, 1), tokens_of(length))
    _, own = utterance.partial(())
    draft, wrong = own[: round(accepted * len(own))], [id + 1 for id in own]
    measured: Measured = {name: [] for name in ("tick", "tick, nothing accepted", "whole", "final")}
    with forced_tokens(own):
        utterance.end(draft)  # the first call compiles the kernels of these shapes on a GPU
        for _ in range(repeats):
            measured["tick"].append(utterance.partial(draft)[0])
            measured["tick, nothing accepted"].append(utterance.partial(wrong)[0])
            measured["whole"].append(utterance.whole())
            measured["final"].append(utterance.end(draft))
    return measured


def finals(recognizer: Recognizer, length: float, count: int) -> Measured:
    """Finals of the demonstration checkpoint, each with its own draft."""
    rng = np.random.default_rng(1)
    measured: Measured = {"whole": [], "final": []}
    for _ in range(count):
        utterance = StreamedUtterance(recognizer, spoken(length, rng))
        measured["final"].append(utterance.end())
        measured["whole"].append(utterance.whole())
    return measured


def spoken(length: float, rng: np.random.Generator) -> Samples:
    """Example recordings, joined."""
    return joined_examples(int(length * SAMPLE_RATE), rng).astype(np.float32)


def bridge(options: argparse.Namespace, folder: Path) -> tuple[list[str], Iterator[list[Samples]]]:
    """The command of a bridge process, and rounds of an utterance of each length."""
    arguments = ["--local-files-only", "--dtype", options.dtype, "--model"]
    if options.demo:
        rng = np.random.default_rng(1)
        rounds = ([spoken(length, rng) for length in options.seconds] for _ in range(options.demo))
        return [sys.executable, "-P", "-m", "qwen3_asr_mlx_runtime", *arguments, options.model], rounds
    program = RANDOM_BRIDGE.format(accepted=options.accepted)
    model = checkpoint(options.size, options.dtype, folder)
    utterances = [speech_like(length, 1) for length in options.seconds]
    return [sys.executable, "-P", "-c", program, *arguments, model], repeat(utterances, options.repeats)


def pauses(options: argparse.Namespace, folder: Path) -> list[pause_benchmark.Timed]:
    """The finals of a bridge process with `pause`."""
    timed = pause_benchmark.measure(*bridge(options, folder))
    if not options.demo and any(one.tokens != tokens_of(one.length) for one in timed):
        raise RuntimeError("a final has another number of tokens than the text")
    return timed


def paced(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Figures of the partials of a bridge process that is fed at the pace of speech. The first utterance is played once
    before, unmeasured."""
    command, rounds = bridge(options, folder)
    recordings = [Recording(f"{number}", to_pcm16(samples)) for number, samples in enumerate(chain(*rounds), 1)]
    with Bridge(command) as process:
        session = Session(process, Plan(interval_ms=round(INTERVAL * 1000)), Silent())
        session.start()
        session.play(recordings[0])
        started = time.perf_counter()
        records = [record for recording in recordings for record in session.play(recording)]
        figures = summary(records, time.perf_counter() - started)
    return {name: value for name, value in figures.items() if name != "utterances"}  # these hold texts


def paced_table(figures: dict[str, object]) -> str:
    names = ("first_partial", "first_text", "lag", "end_to_final")
    lines = ["| | p50, ms | p95, ms |", "| --- | ---: | ---: |"]
    for name in names:
        cells = (cast(float | None, figures[f"{name}_{share}_seconds"]) for share in ("p50", "p95"))
        lines.append(f"| {name} | {' | '.join('–' if cell is None else f'{1000 * cell:,.0f}' for cell in cells)} |")
    return "\n".join(lines)


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


def costs(options: argparse.Namespace, folder: Path) -> dict[float, Measured]:
    """What partials and finals cost in the engine."""
    if options.demo:
        recognizer = Recognizer.load(options.model, dtype=options.dtype)
        while not recognizer._streaming_drift.is_known:
            recognizer._streaming_drift.step()
        return {length: finals(recognizer, length, options.demo) for length in options.seconds}
    recognizer = random_weights(options.size, options.dtype, folder)
    measured = {}
    for length in options.seconds:
        measured[length] = cost(recognizer, length, options.accepted, options.repeats)
        print(f"{length:g} s measured", file=sys.stderr)
    return measured


@guarded("live-benchmark")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "0.6b", "1.7b"), default="0.6b")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--seconds",
        type=lambda text: [float(seconds) for seconds in text.split(",")],
        default=[1.0, 5.0, 10.0, 30.0, 60.0],
    )
    parser.add_argument(
        "--accepted", type=float, default=0.88, help="share of the draft (default: 0.88, see docs/data/live.md)"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--demo", type=int, help="so many utterances of each length, with the demonstration checkpoint")
    parser.add_argument("--model", default="demo", help="with --demo: this model, with the utterances of the examples")
    bridged = parser.add_mutually_exclusive_group()
    bridged.add_argument("--pause", action="store_true", help="measure finals with a `pause` before the end")
    bridged.add_argument("--paced", action="store_true", help="measure partials at the pace of speech")
    parser.add_argument("--workdir", type=Path, help="keeps the checkpoint; a temporary folder is removed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="live-benchmark-") as folder:
        if options.pause:
            timed = pauses(options, options.workdir or Path(folder))
            measured: object = pause_benchmark.as_json(timed)
            text = pause_benchmark.table(timed)
        elif options.paced:
            figures = paced(options, options.workdir or Path(folder))
            measured, text = figures, paced_table(figures)
        else:
            measured = costs(options, options.workdir or Path(folder))
            text = table(measured)
    print(text)
    if options.json:
        options.json.write_text(
            json.dumps(
                {**vars(options), "json": str(options.json), "workdir": str(options.workdir), "measured": measured}
            )
        )


if __name__ == "__main__":
    sys.exit(main())
