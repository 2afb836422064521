import errno
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen3_asr_mlx_runtime.bridge.input_allowance import InputAllowance
from qwen3_asr_mlx_runtime.bridge.line_reader import Line, LineReader, LongLine
from qwen3_asr_mlx_runtime.bridge.line_writer import LineWriter, WriterNews
from qwen3_asr_mlx_runtime.diagnostics import diagnose

WAIT = 60
LIMIT = 32


def blocks_read(blocks: list[bytes | Exception]) -> Callable[[int, int], bytes]:
    """An os.read that gives one block a call, or raises, and then the end."""
    left = iter(blocks)

    def read(fd: int, size: int) -> bytes:
        block = next(left, b"")
        if isinstance(block, Exception):
            raise block
        assert len(block) <= size
        return block

    return read


def lines_of(*blocks: bytes | Exception, limit: int = LIMIT) -> list[Line | LongLine]:
    return list(LineReader(-1, limit=limit, read=blocks_read(list(blocks))))


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges) if start < stop]


class TestLineReader:
    def test_a_line_is_what_stands_before_a_newline(self) -> None:
        assert lines_of(b'{"a":1}\n{"b"', b":2}\n") == [Line(b'{"a":1}'), Line(b'{"b":2}')]

    def test_blank_lines_are_passed_over(self) -> None:
        assert lines_of(b"\n\r\n \t\r\nx\n\n") == [Line(b"x")]

    def test_crlf_ends_a_line_and_a_lone_cr_stays_in_it(self) -> None:
        assert lines_of(b"a\r\nb\rc\nd\r\r\n") == [Line(b"a"), Line(b"b\rc"), Line(b"d\r")]

    def test_the_end_cuts_a_last_line_off(self) -> None:
        assert lines_of(b"a\nb") == [Line(b"a"), Line(b"b", terminated=False)]

    def test_one_byte_order_mark_is_taken_off_the_start(self) -> None:
        assert lines_of(b"\xef", b"\xbb\xbfa\n\xef\xbb\xbfb\n") == [Line(b"a"), Line(b"\xef\xbb\xbfb")]
        assert lines_of(b"\xef\xbb\xbf\n\xef\xbb\xbf\xef\xbb\xbfb\n")[0] == Line(b"\xef\xbb\xbf\xef\xbb\xbfb")

    def test_a_line_of_the_limit_passes_and_one_more_byte_is_skipped_to_the_newline(self) -> None:
        assert lines_of(b"x" * LIMIT + b"\n") == [Line(b"x" * LIMIT)]
        assert lines_of(b"x" * LIMIT, b"xx", b"xx\nnext\n") == [LongLine(LIMIT + 4), Line(b"next")]

    def test_a_long_line_is_reported_also_when_the_end_cuts_it_off(self) -> None:
        assert lines_of(b"x" * LIMIT, b"x" * LIMIT) == [LongLine(2 * LIMIT)]

    def test_a_long_line_takes_no_more_memory_than_the_limit(self) -> None:
        reader = LineReader(-1, limit=LIMIT, read=blocks_read([b"x" * 60_000] * 50))
        held = []
        take = reader._take

        def watched(data: bytes) -> None:
            take(data)
            held.append(len(reader._partial))

        reader._take = watched
        assert list(reader) == [LongLine(3_000_000)]
        assert max(held) <= LIMIT

    def test_what_has_come_of_a_line_is_known(self) -> None:
        reader = LineReader(-1, limit=LIMIT, read=blocks_read([b"a\n" + b"x" * 20, b"x" * 20, b"\nb\n"]))
        lines = iter(reader)
        seen = []
        for line in lines:
            seen.append((line, reader.partial_bytes))
        assert seen == [(Line(b"a"), 0), (LongLine(40), 0), (Line(b"b"), 0)]

    def test_an_interrupted_read_is_repeated(self) -> None:
        assert lines_of(InterruptedError(), b"a\n", InterruptedError(), b"b\n") == [Line(b"a"), Line(b"b")]

    def test_a_non_blocking_descriptor_is_waited_for(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        os.set_blocking(read_end, False)
        came: queue.SimpleQueue = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: [came.put(line) for line in LineReader(read_end)], daemon=True)
        thread.start()
        os.write(write_end, b"late\n")
        assert came.get(timeout=WAIT) == Line(b"late")
        os.close(write_end)
        thread.join(WAIT)
        assert not thread.is_alive()

    def test_a_read_that_fails_ends_the_input(self) -> None:
        assert lines_of(b"a\nb", OSError(errno.EIO, "")) == [Line(b"a"), Line(b"b", terminated=False)]

    @given(st.binary(max_size=400), st.lists(st.integers(1, 399)), st.integers(1, 64))
    def test_where_blocks_are_cut_makes_no_difference(self, data: bytes, cuts: list[int], limit: int) -> None:
        assert lines_of(*split_at(data, cuts), limit=limit) == lines_of(data, limit=limit)

    @given(st.lists(st.binary(min_size=1, max_size=80)))
    def test_no_line_is_lost_or_joined(self, lines: list[bytes]) -> None:
        lines = [line.replace(b"\n", b"n").replace(b"\r", b"r") for line in lines]
        expected = [
            LongLine(len(line)) if len(line) > LIMIT else Line(line)
            for line in lines
            if line.strip(b" \t\r") or len(line) > LIMIT
        ]
        first_is_marked = lines and lines[0].startswith(b"\xef\xbb\xbf")
        if not first_is_marked:
            assert lines_of(*(line + b"\n" for line in lines)) == expected


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError:
            assert fd in (read_end, write_end)


class Output:
    """A descriptor that takes bytes as configured: `steps` are the counts it takes, or errors; then everything."""

    def __init__(self, *steps: int | Exception) -> None:
        self.steps = list(steps)
        self.written = b""

    def write(self, fd: int, data: memoryview) -> int:
        step = self.steps.pop(0) if self.steps else len(data)
        if isinstance(step, Exception):
            raise step
        self.written += bytes(data[:step])
        return min(step, len(data))


class TestLineWriter:
    def write_all(self, output: Output, *lines: bytes) -> list[WriterNews]:
        news: list[WriterNews] = []
        writer = LineWriter(-1, news.append, write=output.write)
        writer.start()
        for line in lines:
            writer.put(line)
        writer.finish()
        assert writer.join(WAIT)
        return news

    def test_lines_leave_whole_and_in_order(self) -> None:
        output = Output()
        lines = [b"%d\n" % number for number in range(20_000)]
        assert self.write_all(output, *lines) == [WriterNews.WRITTEN]
        assert output.written == b"".join(lines)

    def test_short_and_interrupted_writes_are_continued(self) -> None:
        output = Output(1, InterruptedError(), 2, 1)
        assert self.write_all(output, b"0123456789\n") == [WriterNews.WRITTEN]
        assert output.written == b"0123456789\n"

    @pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF])
    def test_a_write_that_fails_is_reported_once_and_nothing_is_written_after_it(self, number: int) -> None:
        output = Output(3, OSError(number, ""))
        news: queue.SimpleQueue = queue.SimpleQueue()
        writer = LineWriter(-1, news.put, limit=7, write=output.write)
        writer.start()
        writer.put(b"first\n")
        assert news.get(timeout=WAIT) is WriterNews.LOST
        writer.put(b"second\n")
        writer.finish()
        assert writer.join(WAIT)
        assert (output.written, news.empty(), writer.has_room) == (b"fir", True, True)

    def test_a_reader_that_is_slow_stops_neither_put_nor_the_order(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        news: queue.SimpleQueue = queue.SimpleQueue()
        writer = LineWriter(write_end, news.put, limit=100_000)
        writer.start()
        lines = [b"%05d%s\n" % (number, b"x" * 94) for number in range(4_000)]
        for line in lines:
            writer.put(line)
        assert not writer.has_room
        taken = b""
        while len(taken) < 400_000:
            taken += os.read(read_end, 65_536)
        assert taken == b"".join(lines)
        assert news.get(timeout=WAIT) is WriterNews.ROOM
        assert writer.has_room

    def test_a_non_blocking_descriptor_is_waited_for(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        os.set_blocking(write_end, False)
        news: queue.SimpleQueue = queue.SimpleQueue()
        writer = LineWriter(write_end, news.put)
        writer.start()
        writer.put(b"x" * 200_000 + b"\n")
        writer.finish()
        taken = b""
        while len(taken) < 200_001:
            taken += os.read(read_end, 65_536)
        assert news.get(timeout=WAIT) is WriterNews.WRITTEN

    def test_one_that_was_asked_reports_when_all_is_written(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        news: queue.SimpleQueue = queue.SimpleQueue()
        writer = LineWriter(write_end, news.put)
        writer.start()
        assert writer.is_empty_or_notifies()
        writer.put(b"x" * 200_000 + b"\n")
        writer.put(b"x\n")
        assert not writer.is_empty_or_notifies()
        taken = b""
        while len(taken) < 200_003:
            taken += os.read(read_end, 65_536)
        assert news.get(timeout=WAIT) is WriterNews.ROOM
        assert writer.is_empty_or_notifies()
        writer.put(b"nobody has asked again\n")
        assert os.read(read_end, 100)
        writer.finish()
        assert news.get(timeout=WAIT) is WriterNews.WRITTEN

    def test_finishing_an_empty_queue_ends_the_thread(self) -> None:
        assert self.write_all(Output()) == [WriterNews.WRITTEN]


class TestAllowance:
    def test_taking_waits_until_enough_is_given_back(self) -> None:
        allowance = InputAllowance(10)
        allowance.take(8)
        taken = threading.Event()
        thread = threading.Thread(target=lambda: (allowance.take(5), taken.set()), daemon=True)
        thread.start()
        allowance.give_back(2)
        assert not taken.is_set()
        allowance.give_back(1)
        assert taken.wait(WAIT)
        assert allowance.taken == 10

    def test_what_never_fits_waits_only_for_all_others(self) -> None:
        allowance = InputAllowance(10)
        allowance.take(11)
        assert allowance.taken == 11


def run_python(source: Path, code: str, *, closed: tuple[int, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    """Runs code in an isolated interpreter that is started with some of its descriptors closed."""
    program = f"import sys; sys.path.insert(0, {str(source)!r})\n{code}"
    closing = " ".join(f"{fd}>&-" for fd in closed)
    command = ["/bin/sh", "-c", f'exec "$0" "$@" {closing}', sys.executable, "-I", "-c", program]
    return subprocess.run(command, input=b"input\n", capture_output=True, timeout=WAIT, check=False)


CLAIM = """
import ctypes, fcntl, os, subprocess
from qwen3_asr_mlx_runtime.bridge.stdio import claim_stdio
wire = claim_stdio()
"""


class TestClaimStdio:
    def test_noise_of_python_of_native_code_and_of_children_stays_off_the_wire(self, repository: Path) -> None:
        code = f"""{CLAIM}
sys.stdout.write("python\\n"); sys.stdout.flush()
os.write(1, b"descriptor\\n")
libc = ctypes.CDLL(None); libc.puts(b"native"); libc.fflush(None)
subprocess.run(["/bin/sh", "-c", "echo child; cat"])
assert sys.stdin.read() == ""
os.write(wire.stdout, b"wire " + os.read(wire.stdin, 100))
"""
        ran = run_python(repository / "src", code)
        assert (ran.returncode, ran.stdout) == (0, b"wire input\n")
        assert set(ran.stderr.split()) == {b"python", b"descriptor", b"native", b"child"}

    def test_the_private_descriptors_are_high_and_closed_on_exec(self, repository: Path) -> None:
        code = f"""{CLAIM}
assert min(wire.stdin, wire.stdout) >= 3
for fd in (wire.stdin, wire.stdout):
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
for fd in (0, 1, 2):
    assert os.get_inheritable(fd)
"""
        assert run_python(repository / "src", code).returncode == 0

    @pytest.mark.parametrize("closed", [fds for size in (1, 2, 3) for fds in combinations((0, 1, 2), size)], ids=str)
    def test_a_closed_descriptor_is_filled_and_known(self, repository: Path, closed: tuple[int, ...]) -> None:
        code = f"""{CLAIM}
closed = {closed!r}
right = (wire.stdin is None) == (0 in closed) and (wire.stdout is None) == (1 in closed)
right = right and all(os.fstat(fd) for fd in (0, 1, 2)) and os.read(0, 1) == b""
right = right and (2 not in closed or os.path.sameopenfile(1, 2))
os.write(1, b"noise\\n")
if wire.stdout is not None:
    os.write(wire.stdout, b"wire\\n")
os._exit(0 if right else 9)
"""
        ran = run_python(repository / "src", code, closed=closed)
        assert ran.returncode == 0
        assert ran.stdout == (b"" if 1 in closed else b"wire\n")
        assert ran.stderr == (b"" if 2 in closed else b"noise\n")


class TestDiagnose:
    def test_a_line_is_ascii_and_short(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        diagnose("é" + "x" * 1_000, fd=write_end)
        line = os.read(read_end, 65_536)
        assert line.startswith(b"qwen3-asr-mlx: \\xe9x")
        assert (len(line), line[-1:]) == (512, b"\n")

    def test_a_full_pipe_drops_the_line_and_does_not_wait(self, pipe: tuple[int, int]) -> None:
        _, write_end = pipe
        os.set_blocking(write_end, False)
        while select.select([], [write_end], [], 0)[1]:
            os.write(write_end, b"x" * 4_096)
        os.set_blocking(write_end, True)
        diagnose("dropped", fd=write_end)

    def test_a_closed_descriptor_is_no_error(self, pipe: tuple[int, int]) -> None:
        read_end, write_end = pipe
        os.close(read_end)
        diagnose("nobody", fd=write_end)
        diagnose("nothing", fd=10_000)
