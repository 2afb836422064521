"""Figures of the bridge as its parent sees them; see scripts/bridge-benchmark.

Every figure is the median of several runs of a fresh process. The engine is a fake one, which answers at once, except
where a decode or an idle process is measured: there it is the real one with a checkpoint.
"""

import argparse
import base64
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from qwen3_asr_mlx_runtime.command import guarded

CHUNK_SAMPLES = 320  # 20 ms, as a microphone gives them
CHUNK = base64.b64encode(bytes(2 * CHUNK_SAMPLES)).decode()
IN_FLIGHT = 50  # utterances, as many again while they are answered
WAIT = 600.0
END = b'"id":"end"'
SETTLE_SECONDS, IDLE_SECONDS = 12.0, 20.0  # memory that is kept for the next job is given back after ten
FAKE = """
import sys
from collections import deque
sys.path[:0] = {paths!r}
from support.fake_engine import FakeEngine, transcript
from qwen3_asr_mlx_runtime.__main__ import main
answer = transcript(audio_samples=320)
class Nothing(set):
    def add(self, _):
        pass
class Engine(FakeEngine):  # without lists of all jobs, which would be the fake's memory and not the bridge's
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.forgotten = deque(maxlen=1)
        self._audio.ended = Nothing()
    def submit(self, job):
        self._inbox.put(job)
main(lambda settings, post: Engine(post, [lambda job: answer]))
"""
REAL = "import sys; sys.path[:0] = {paths!r}\nfrom qwen3_asr_mlx_runtime.__main__ import main; main()"


class Bridge:
    """A process, and a thread that reads its output: the number of lines, the last line, and whether the request of the
    id END has its reply."""

    def __init__(self, root: Path, program: str, *arguments: str) -> None:
        paths = [str(root / "src"), str(root / "tests")]
        command = [sys.executable, "-I", "-c", program.format(paths=paths), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.lines = 0
        self.last = b""
        self.is_at_end = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._process.stdin.write(view) or 0 :]

    def send(self, **message: object) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def wait_for(self, lines: int) -> None:
        self._wait(lambda: self.lines >= lines, f"line {lines}")

    def wait_for_end(self) -> None:
        self._wait(lambda: self.is_at_end, "the last reply")

    def _wait(self, is_there: Callable[[], bool], what: str) -> None:
        with self._changed:
            done = self._changed.wait_for(is_there, WAIT)
        if not done:
            raise TimeoutError(f"{what} did not come in {WAIT} s; {self.lines} came, the last: {self.last[:200]!r}")

    def ask(self, **message: object) -> dict:
        before = self.lines
        self.send(**message)
        self.wait_for(before + 1)
        return json.loads(self.last)

    def rss_mib(self) -> float:
        return self.process.memory_info().rss / 2**20

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def _read(self) -> None:
        rest = b""
        while data := os.read(self._process.stdout.fileno(), 1 << 20):
            *lines, rest = (rest + data).split(b"\n")
            with self._changed:
                self.lines += len(lines)
                self.last = lines[-1] if lines else self.last
                self.is_at_end |= any(END in line for line in lines)
                self._changed.notify_all()


@dataclass(frozen=True)
class Figure:
    """One figure: a value for each run."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def pings_per_second(root: Path, count: int) -> float:
    """All written as fast as the pipe takes them, read beside that."""
    with Bridge(root, FAKE) as bridge:
        bridge.ask(type="ping")
        block = b'{"type":"ping"}\n' * 1000
        started = time.perf_counter()
        for _ in range(count // 1000):
            bridge.write(block)
        bridge.wait_for(count + 1)
        return count / (time.perf_counter() - started)


def ping_milliseconds(bridge: Bridge, count: int) -> list[float]:
    """One after another, each with an id, so that it may overtake work."""
    latencies = []
    for number in range(count):
        started = time.perf_counter()
        pong = bridge.ask(type="ping", id=f"ping-{number}")
        latencies.append((time.perf_counter() - started) * 1000)
        if pong["type"] != "pong":
            raise RuntimeError(f"a ping was answered by {pong['type']}: the decode ended before the pings")
        time.sleep(0.002)
    return latencies


def idle_latency(root: Path, count: int) -> list[float]:
    with Bridge(root, FAKE) as bridge:
        bridge.ask(type="ping")
        return ping_milliseconds(bridge, count)


def latency_beside_a_decode(root: Path, model: str, count: int) -> list[float]:
    """A long recording is decoded by the real engine while the pings are sent; its reply must come after them."""
    with tempfile.TemporaryDirectory() as folder, Bridge(root, REAL, "--model", model, "--local-files-only") as bridge:
        recording = write_noise(Path(folder, "noise.wav"), seconds=25)
        if bridge.ask(type="start", id="start")["type"] != "ready":
            raise RuntimeError(f"{model} could not be loaded: {bridge.last[:300]!r}")
        bridge.ask(type="transcribe", id="warm", audio=recording)
        bridge.send(type="batch_transcribe", id="work", audio=[recording] * 256, max_new_tokens=4096)
        return ping_milliseconds(bridge, count)


def final_milliseconds(root: Path, model: str, count: int) -> list[float]:
    """Of 10 s of audio, one after another; 100 tokens each."""
    with tempfile.TemporaryDirectory() as folder, Bridge(root, REAL, "--model", model, "--local-files-only") as bridge:
        recording = write_noise(Path(folder, "noise.wav"), seconds=10)
        bridge.ask(type="transcribe", id="warm", audio=recording, max_new_tokens=100)
        latencies = []
        for number in range(count):
            started = time.perf_counter()
            bridge.ask(type="transcribe", id=number, audio=recording, max_new_tokens=100)
            latencies.append((time.perf_counter() - started) * 1000)
        return latencies


def idle(root: Path, model: str) -> tuple[float, float, float, float]:
    """Of a loaded model that has nothing to do for IDLE_SECONDS: MiB of the bridge and of all processes, wake-ups
    and CPU milliseconds a second of all processes. Samples were decoded before, and none are held."""
    with tempfile.TemporaryDirectory() as folder, Bridge(root, REAL, "--model", model, "--local-files-only") as bridge:
        bridge.ask(type="transcribe", id="warm", audio=write_noise(Path(folder, "noise.wav"), seconds=10))
        time.sleep(SETTLE_SECONDS)
        processes = [bridge.process, *bridge.process.children()]
        before = [_work(process) for process in processes]
        time.sleep(IDLE_SECONDS)
        after = [_work(process) for process in processes]
        switches, seconds = (sum(b[i] - a[i] for a, b in zip(before, after, strict=True)) for i in (0, 1))
        rss = sum(process.memory_info().rss for process in processes) / 2**20
        return bridge.rss_mib(), rss, switches / IDLE_SECONDS, seconds * 1000 / IDLE_SECONDS


def _work(process: psutil.Process) -> tuple[int, float]:
    """Voluntary switches, and CPU seconds."""
    times = process.cpu_times()
    return process.num_ctx_switches().voluntary, times.user + times.system


def write_noise(path: Path, seconds: int) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(os.urandom(32_000 * seconds))
    return str(path)


def chunks_per_second(root: Path, count: int, *, lock_step: bool) -> float:
    """20 ms each into one stream, with a boundary every 10 s of speech; answered one by one, or only by events."""
    with Bridge(root, FAKE) as bridge:
        if not lock_step:
            bridge.ask(type="hello", id=0, want=["events"])
        bridge.ask(type="start_stream", id=1, stream_id="s", batch_size=1, auto_flush=not lock_step)
        chunk = json.dumps({"type": "audio_chunk", "stream_id": "s", "pcm16": CHUNK}).encode() + b"\n"
        boundary = json.dumps({"type": "end_utterance", "stream_id": "s"}).encode() + b"\n"
        block = chunk * 500 + boundary
        started = time.perf_counter()
        for _ in range(count // 500):
            bridge.write(block)
        bridge.send(type="flush", id="end")
        bridge.wait_for_end()
        if lock_step:  # the replies without `id`, which it may overtake
            bridge.wait_for(1 + count + count // 500 + 1)
        return count / (time.perf_counter() - started)


def memory_after(root: Path, requests: int) -> Iterator[tuple[int, float]]:
    """Resident MiB of one process after each tenth of so many utterances through the fake engine."""
    with Bridge(root, FAKE) as bridge:
        bridge.ask(type="start_stream", stream_id="s", batch_size=1)
        line = json.dumps({"type": "end_utterance", "stream_id": "s", "pcm16": CHUNK}).encode() + b"\n"
        done = bridge.lines
        yield 0, bridge.rss_mib()
        for part in range(1, 11):
            for _ in range(requests // 10 // IN_FLIGHT):
                bridge.write(line * IN_FLIGHT)
                done += IN_FLIGHT
                bridge.wait_for(done - IN_FLIGHT)
            bridge.wait_for(done)
            yield requests * part // 10, bridge.rss_mib()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Measurement:
    """Every figure of each checkout, which take turns."""

    def __init__(self, roots: Sequence[Path], runs: int) -> None:
        self.figures: list[Figure] = []
        self._roots = roots
        self._runs = runs

    def repeated(self, name: str, unit: str, measure: Callable[[Path], float]) -> None:
        self.several({name: unit}, lambda root: [measure(root)])

    def latencies(self, name: str, measure: Callable[[Path], list[float]]) -> None:
        shares = {"p50": 0.50, "p99": 0.99, "longest": 1.0}

        def shares_of(root: Path) -> list[float]:
            values = measure(root)
            return [percentile(values, share) for share in shares.values()]

        self.several({f"{name}, {label}": "ms" for label in shares}, shares_of)

    def several(self, names: dict[str, str], measure: Callable[[Path], Sequence[float]]) -> None:
        """`measure` gives a value for each name; `names`: with their units."""
        taken: list[list[Sequence[float]]] = [[] for _ in self._roots]
        for run in range(self._runs):
            for number, root in enumerate(self._roots):
                taken[number].append(measure(root))
                values = ", ".join(f"{value:.4g}" for value in taken[number][-1])
                names_text = ", ".join(names)
                print(f"{names_text}, run {run + 1}, checkout {number + 1}: {values}", file=sys.stderr, flush=True)
        for place, (name, unit) in enumerate(names.items()):
            for number in range(len(self._roots)):
                label = f"{name}, beside" if number else name
                self.figures.append(Figure(label, unit, [values[place] for values in taken[number]]))


def measure(options: argparse.Namespace) -> tuple[list[Figure], list[tuple[int, float]]]:
    roots = [options.root, *([options.beside.resolve()] if options.beside else [])]
    figures, model = Measurement(roots, options.runs), options.model
    figures.repeated("pings", "1/s", lambda root: pings_per_second(root, options.pings))
    figures.latencies("ping, idle", lambda root: idle_latency(root, options.latency_pings))
    if model:
        pings = options.latency_pings
        figures.latencies("ping beside a decode", lambda root: latency_beside_a_decode(root, model, pings))
        figures.latencies("final of 10 s", lambda root: final_milliseconds(root, model, 20))
        names = {"idle bridge": "MiB", "idle, all": "MiB", "idle wake-ups": "1/s", "idle CPU": "ms/s"}
        figures.several(names, lambda root: idle(root, model))
    for lock_step, name in ((False, "chunks of 20 ms, events"), (True, "chunks of 20 ms, lock step")):
        figures.repeated(
            name, "1/s", lambda root, lock_step=lock_step: chunks_per_second(root, options.chunks, lock_step=lock_step)
        )
    memory = list(memory_after(options.root, options.requests)) if options.requests else []
    return figures.figures, memory


def table(figures: Sequence[Figure], memory: Sequence[tuple[int, float]]) -> str:
    rows = ["| what | median | unit | runs |", "|---|---:|---|---|"]
    for figure in figures:
        values = ", ".join(f"{value:.4g}" for value in figure.values)
        rows.append(f"| {figure.name} | {figure.median:.4g} | {figure.unit} | {values} |")
    for requests, mib in memory:
        rows.append(f"| RSS after {requests:,} utterances | {mib:.1f} | MiB | one process |")
    return "\n".join(rows)


@guarded("bridge-benchmark")
def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bridge-benchmark", description=__doc__)
    parser.add_argument("root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default %(default)s)")
    parser.add_argument("--pings", type=int, default=100_000)
    parser.add_argument("--latency-pings", type=int, default=1_000)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=1_000_000, help="for memory; 0 leaves it out")
    parser.add_argument("--model", default="demo", help="decoded beside the pings; empty leaves it out")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="measure another checkout too, in turns")
    parser.add_argument("--json", type=Path, help="also write everything here")
    options = parser.parse_args()
    figures, memory = measure(options)
    print(table(figures, memory))
    if options.json:
        machine = {"platform": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
        rows = [{**asdict(figure), "median": figure.median} for figure in figures]
        whole = {"machine": machine, "figures": rows, "rss_mib": memory}
        options.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
