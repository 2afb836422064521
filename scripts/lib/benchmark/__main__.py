"""The command line; see scripts/benchmark."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from reference.configs import Size
from reference.random_checkpoint import SEED, write_random_checkpoint

from benchmark.blas import OPENBLAS, openblas
from benchmark.contenders import EARLIER, OWN, PEERS, QUANTIZED, RUNTIME
from benchmark.contenders.earlier import FOLDER
from benchmark.counts import CountMeasurement, Least
from benchmark.environments import child_environment, home, peer_python
from benchmark.figures import markdown
from benchmark.plan import Measurement, Plan
from benchmark.process import Process
from benchmark.vocabulary import write_tokenizer
from benchmark.words import WordMeasurement, WordPlan
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.errors import InvalidParams

ALIGNER_SIZES: dict[str, Size] = {"tiny": "tiny-aligner", "0.6b": "aligner"}
DEMO = Path(__file__).resolve().parents[3] / "src" / "qwen3_asr_mlx_runtime" / "demo"  # its tokenizer


@guarded("benchmark")
def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.words is not None and options.size not in ALIGNER_SIZES:
        parser.error(f"--words has the sizes {', '.join(ALIGNER_SIZES)}")
    if options.count and options.words is not None:
        parser.error("--count counts the recogniser, and --words measures the aligner")
    if options.checkpoint is not None and not options.checkpoint.is_dir():
        parser.error("--checkpoint names a folder")
    if options.earlier is not None and not options.count:
        parser.error("--earlier belongs to --count")
    with _folder(options.workdir) as workdir:
        report = _measure(options, workdir)
    print(report["markdown"])
    if options.json:
        options.json.write_text(json.dumps({**report, "markdown": None}, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(report["markdown"] + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/benchmark",
        description="Speed and memory of the runtime, alone or beside its peers, on synthetic audio.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--size", choices=("tiny", "0.6b", "1.7b"), default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="weights of this folder instead of random ones"
    )
    parser.add_argument("--peer", action="append", choices=PEERS, default=[], help="measured beside the runtime")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument(
        "--words",
        type=float,
        nargs="?",
        const=30.0,
        metavar="SECONDS",
        help="measure the aligner instead, on a clip of 30 seconds or so many",
    )
    parser.add_argument("--count", action="store_true", help="time nothing: count what a GPU would launch (on Linux)")
    parser.add_argument(
        "--earlier", type=Path, metavar="FOLDER", help="with --count, the earlier runtime, which is in this folder"
    )
    recognition = parser.add_argument_group("without --words and --count")
    recognition.add_argument(
        "--quantize", action="append", choices=[*QUANTIZED], default=[], help="measured beside the runtime"
    )
    recognition.add_argument("--seconds", type=_numbers, default=[3.1, 5.0, 7.4, 10.0], help="the clips")
    recognition.add_argument("--new-tokens", type=int, default=32)
    recognition.add_argument("--tower", type=_numbers, default=[60.0, 120.0, 240.0], help="lengths for the tower alone")
    recognition.add_argument("--rows", type=_counts, default=[], help="batch sizes, as 1,2,4,8, for the cost of a row")
    recognition.add_argument("--linear", type=_numbers, default=[], help="lengths of one recording, as 300,600,1200")
    parser.add_argument("--no-imports", dest="imports", action="store_false", help="leave import times out")
    parser.add_argument("--seed", type=int, default=SEED, help="of weights and audio")
    parser.add_argument("--threads", type=int, help="of OpenBLAS, for every contender")
    parser.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="processor time is for busy machines and 1 thread",
    )
    parser.add_argument("--own-blas", action="store_true", help="leave MLX its own BLAS on the CPU")
    parser.add_argument("--workdir", type=Path, help="keeps checkpoints and clips; a temporary folder is removed")
    parser.add_argument("--tokenizer", type=Path, help="folder of vocab.json, merges.txt, tokenizer_config.json")
    parser.add_argument("--json", type=Path, help="write every value here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    return parser


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",") if part]


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield Path(folder)


def _checkpoint(options: argparse.Namespace, workdir: Path) -> Path:
    """Created on first use; an existing one is complete. Weights for float16 are stored as bfloat16."""
    if options.checkpoint is not None:
        return options.checkpoint.resolve()
    dtype = "float32" if options.dtype == "float32" else "bfloat16"
    size = options.size if options.words is None else ALIGNER_SIZES[options.size]
    folder = workdir / f"{size}-{dtype}-{options.seed}"
    if not folder.exists():
        print(f"writing random weights to {folder}", file=sys.stderr, flush=True)
        part = workdir / f"{folder.name}.{os.getpid()}.part"
        tokenizer = options.tokenizer or (DEMO if size == "tiny-aligner" else write_tokenizer(workdir / "tokenizer"))
        write_random_checkpoint(part, size=size, dtype=dtype, seed=options.seed, tokenizer=tokenizer)
        part.rename(folder)
    return folder


def _read_once(checkpoint: Path) -> None:
    """Whoever loads first would read the disk for all."""
    for file in checkpoint.glob("*.safetensors"):
        with file.open("rb", buffering=0) as stream:
            while stream.read(2**24):
                pass


def _measure(options: argparse.Namespace, workdir: Path) -> dict[str, Any]:
    checkpoint = _checkpoint(options, workdir)
    if options.count:
        return _count(options, checkpoint, workdir)
    _read_once(checkpoint)
    blas = _blas(options)
    if options.threads:
        blas |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
    quantized = [QUANTIZED[scheme] for scheme in options.quantize]
    with ExitStack() as stack:
        processes = [_process(name, blas, options, stack) for name in [RUNTIME, *quantized, *options.peer]]
        measurement = _measurement(options, processes, workdir / "clips")
        loaded = {process.name: _load(process, checkpoint, options.dtype, measurement) for process in processes}
        measurement.run()
    return _report(options, _machine(blas), loaded, measurement)


def _count(options: argparse.Namespace, checkpoint: Path, workdir: Path) -> dict[str, Any]:
    names = [RUNTIME, *options.peer, *([EARLIER] if options.earlier else [])]
    variables = {FOLDER: str(options.earlier.resolve())} if options.earlier else {}
    loaded: dict[str, Mapping[str, Any]] = {}

    def start(name: str, stack: ExitStack) -> Process:
        process = _process(name, variables, options, stack)
        libraries = str(home() / "benchmark")
        answer = process.ask("load_to_count", checkpoint=str(checkpoint), dtype=options.dtype, folder=libraries)
        loaded[name] = answer["versions"]
        return process

    measurement = CountMeasurement(names, start, Least.of(checkpoint), workdir / "clips")
    measurement.run()
    return _report(options, _machine({}), loaded, measurement)


def _machine(variables: Mapping[str, str]) -> dict[str, Any]:
    return {"platform": platform.platform(), "cpus": os.cpu_count(), "variables": variables, **_commit()}


def _blas(options: argparse.Namespace) -> dict[str, str]:
    """Environment variables for float32 on a CPU. Raises InvalidParams where only the slow BLAS is there."""
    import mlx.core as mx

    if options.dtype != "float32" or mx.default_device() != mx.cpu or sys.platform != "linux":
        return {}
    if options.own_blas:
        print("BLAS: MLX's own", file=sys.stderr, flush=True)
        return {}
    variables, name = openblas()
    if not variables:
        raise InvalidParams(
            f"{OPENBLAS} is not installed (Debian: libopenblas0-pthread), and MLX's own BLAS takes many times as long:"
            " --own-blas measures with it"
        )
    print(f"BLAS: {name}", file=sys.stderr, flush=True)
    return variables


def _measurement(
    options: argparse.Namespace, processes: Sequence[Process], clips: Path
) -> Measurement | WordMeasurement:
    if options.words is not None:
        plan = WordPlan(options.repeats, options.words, options.imports, options.seed)
        return WordMeasurement(plan, processes, clips)
    plan = Plan(
        repeats=options.repeats,
        seconds=options.seconds,
        new_tokens=options.new_tokens,
        tower=options.tower,
        rows=options.rows,
        linear=options.linear,
        imports=options.imports,
        seed=options.seed,
    )
    return Measurement(plan, processes, clips)


def _process(name: str, variables: Mapping[str, str], options: argparse.Namespace, stack: ExitStack) -> Process:
    own = name in OWN
    python = Path(sys.executable) if own else peer_python(name, home())
    kind = "recogniser" if options.words is None else "aligner"
    process = Process(name, python, child_environment(variables, own=own), options.clock, kind)
    stack.callback(process.close)
    return process


def _load(
    process: Process, checkpoint: Path, dtype: str, measurement: Measurement | WordMeasurement
) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = process.ask("load", checkpoint=str(checkpoint), dtype=dtype)
    measurement.figures.add("load", "s", process.name, loaded["seconds"])
    measurement.figures.add("RSS after load", "MiB", process.name, loaded["rss_mib"])
    measurement.figures.add("MLX peak of the load", "MiB", process.name, loaded["mlx_peak_mib"])
    return loaded["versions"]


def _commit() -> dict[str, str]:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.stdout.strip()}


def _report(
    options: argparse.Namespace,
    machine: Mapping[str, Any],
    loaded: Mapping[str, Any],
    measurement: Measurement | WordMeasurement | CountMeasurement,
) -> dict[str, Any]:
    figures = list(measurement.figures)
    lines = [markdown(figures, list(loaded), "–" if options.count else ""), "", *measurement.notes()]
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        "options": chosen,
        "machine": machine,
        "contenders": loaded,
        "figures": [figure.as_json() for figure in figures],
        "first_differences": measurement.differences,
        "markdown": "\n".join(lines),
    }


if __name__ == "__main__":
    sys.exit(main())
