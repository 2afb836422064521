"""What `scripts/benchmark --count` makes of a graph: hand-made ones, and the table of fake contenders."""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import count as numbers
from typing import Any

import pytest


class Drawn:
    """A graph under construction: bfloat16 arrays by their ids, printed as graph.cpp prints them."""

    def __init__(self, benchmark_module: Any) -> None:
        self._module = benchmark_module
        self._ids = numbers(1)
        self.graph = benchmark_module("counting.graph").Graph()

    def leaf(self, *shape: int, strides: Iterable[int] | None = None) -> int:
        dense = self._module("counting.graph").dense(shape)
        return self._print("", (), shape, strides=[*(strides or dense)])

    def node(self, name: str, inputs: Iterable[int], *shape: int, dtype: str = "bfloat16", **state: Any) -> int:
        return self._print(name, inputs, shape, dtype, **state)

    def _print(
        self, name: str, inputs: Iterable[int], shape: Iterable[int], dtype: str = "bfloat16", **state: Any
    ) -> int:
        array = {"id": next(self._ids), "shape": [*shape], "dtype": dtype, "itemsize": 1 if dtype == "bool" else 2}
        if not name:
            array |= state
            state = {}
        line = json.dumps({"name": name, "inputs": [*inputs], "outputs": [array], **state})
        self.graph.read([line])
        return int(array["id"])

    def count(self, positions: int = 0) -> Any:
        return self._module("counting.launches").count(self.graph, positions)


@pytest.fixture
def drawn(benchmark_module: Any) -> Drawn:
    return Drawn(benchmark_module)


def test_a_product_reads_its_operands_and_writes_its_result(drawn):
    drawn.node("Matmul", [drawn.leaf(1, 8), drawn.leaf(8, 4)], 1, 4)
    counted = drawn.count()
    assert (counted.primitives, counted.kernels) == (1, 1)
    assert counted.bytes == 2 * (8 + 32 + 4)


def test_a_compiled_function_is_one_kernel(drawn):
    drawn.node("CompiledSigmoidMultiplyMultiply", [drawn.leaf(1, 8), drawn.leaf(1, 8)], 1, 8)
    counted = drawn.count()
    assert dict(counted.kernels_by_name) == {"Compiled": 1}
    assert counted.bytes == 2 * 3 * 8


def test_views_launch_nothing(drawn):
    turned = drawn.node("Transpose", [drawn.leaf(4, 6)], 6, 4, axes=[1, 0])
    half = drawn.node("Slice", [turned], 3, 4, steps=[1, 1])
    drawn.node("Broadcast", [drawn.node("ExpandDims", [half], 1, 3, 4, axes=[0])], 5, 3, 4)
    counted = drawn.count()
    assert (counted.primitives, counted.kernels, counted.bytes) == (4, 0, 0)


def test_a_reshape_is_a_view_where_its_elements_follow_each_other(drawn):
    joined = drawn.leaf(2, 1, 12)
    half = drawn.node("Split", [joined], 2, 1, 8)
    drawn.node("Reshape", [half], 2, 1, 2, 4)
    assert drawn.count().kernels == 0


def test_a_reshape_across_a_gap_is_a_copy(drawn):
    half = drawn.node("Split", [drawn.leaf(2, 12)], 2, 8)
    drawn.node("Reshape", [half], 16)
    counted = drawn.count()
    assert dict(counted.kernels_by_name) == {"copy of Reshape": 1}
    assert counted.bytes == 2 * 2 * 16


def test_what_a_broadcast_repeats_is_read_once(drawn):
    wide = drawn.node("Broadcast", [drawn.leaf(1, 4)], 8, 4)
    drawn.node("Add", [wide, drawn.leaf(8, 4)], 8, 4)
    assert drawn.count().bytes == 2 * (4 + 32 + 32)


def test_rows_that_are_gathered_are_read_and_no_others(drawn):
    drawn.node("Gather", [drawn.leaf(1000, 4), drawn.leaf(2)], 2, 1, 4)
    assert drawn.count().bytes == 2 * (2 + 8 + 8)


def test_parts_are_joined_by_a_kernel_each(drawn):
    drawn.node("Concatenate", [drawn.leaf(2, 4), drawn.leaf(3, 4)], 5, 4)
    counted = drawn.count()
    assert (counted.kernels, counted.bytes) == (2, 2 * 2 * 20)


def test_a_norm_over_rows_with_gaps_between_them_copies_them_first(drawn):
    drawn.node("RMSNorm", [drawn.node("Split", [drawn.leaf(2, 1, 12)], 2, 1, 8), drawn.leaf(8)], 2, 1, 8)
    assert dict(drawn.count().kernels_by_name) == {"copy for RMSNorm": 1, "RMSNorm": 1}


def test_a_norm_over_one_row_copies_nothing(drawn):
    drawn.node("RMSNorm", [drawn.node("Split", [drawn.leaf(1, 1, 12)], 1, 1, 8), drawn.leaf(8)], 1, 1, 8)
    assert dict(drawn.count().kernels_by_name) == {"RMSNorm": 1}


@pytest.mark.parametrize("name", ["SliceUpdate", "Scatter"])
def test_a_buffer_of_the_step_before_is_written_in_place_or_copied_if_it_is_held(drawn, name):
    buffer, new = drawn.leaf(1, 8, 128, 64), drawn.leaf(1, 8, 1, 64)
    drawn.node(name, [buffer, new], 1, 8, 128, 64)
    counted = drawn.count()
    assert (counted.kernels, counted.bytes) == (1, 2 * 2 * 8 * 64)
    assert (counted.copies, counted.copied) == (1, 2 * 2 * 8 * 128 * 64)


def test_a_buffer_that_is_still_needed_is_copied(drawn):
    buffer = drawn.node("Full", [drawn.leaf()], 4, 8)
    drawn.node("Add", [buffer, buffer], 4, 8)
    drawn.node("ScatterAxis", [buffer, drawn.leaf(4, 1), drawn.leaf(4, 1)], 4, 8)
    counted = drawn.count()
    assert counted.kernels_by_name["copy of ScatterAxis"] == 1
    assert counted.copies == 0


def test_a_buffer_of_a_part_that_was_waited_for_is_written_in_place(drawn):
    buffer = drawn.node("Full", [drawn.leaf()], 4, 8)
    drawn.node("Add", [buffer, buffer], 4, 8)
    drawn.graph.parts.append([])
    drawn.node("SliceUpdate", [buffer, drawn.leaf(1, 8)], 4, 8)
    drawn.node("Add", [buffer, buffer], 4, 8)
    counted = drawn.count()
    assert "copy of SliceUpdate" not in counted.kernels_by_name
    assert counted.copies == 0


def attention(drawn: Drawn, dtype: str, rows: int = 1, mask_rows: int = 1, length: int = 1) -> Any:
    """Two heads of keys with 128 places and 64 wide, of which 100 are let through."""
    queries, cached = drawn.leaf(rows, 4, length, 64), (rows, 2, 128, 64)
    mask = drawn.node("Greater", [drawn.leaf(mask_rows, 1, 1, 128)], mask_rows, 1, 1, 128, dtype=dtype)
    wide = drawn.node("Broadcast", [mask], rows, 4, length, 128, dtype=dtype)
    inputs = [queries, drawn.leaf(*cached), drawn.leaf(*cached), wide]
    drawn.node("ScaledDotProductAttention", inputs, rows, 4, length, 64)
    return drawn.count(positions=100)


def test_attention_with_a_boolean_mask_reads_what_it_lets_through(drawn):
    counted = attention(drawn, "bool")
    assert counted.bytes_by_name["ScaledDotProductAttention"] == 2 * 2 * 4 * 64 + 2 * 2 * 2 * 100 * 64 + 128


def test_attention_with_an_additive_mask_reads_all_places(drawn):
    counted = attention(drawn, "bfloat16")
    assert counted.bytes_by_name["ScaledDotProductAttention"] == 2 * 2 * 4 * 64 + 2 * 2 * 2 * 128 * 64 + 2 * 128


def test_attention_of_several_queries_with_a_boolean_mask_reads_all_places(drawn):
    counted = attention(drawn, "bool", length=9)
    assert counted.bytes_by_name["ScaledDotProductAttention"] == 2 * 2 * 4 * 9 * 64 + 2 * 2 * 2 * 128 * 64 + 128


def test_a_mask_that_differs_between_rows_and_not_between_heads_is_copied(drawn):
    counted = attention(drawn, "bool", rows=3, mask_rows=3)
    assert dict(counted.kernels_by_name) == {
        "Greater": 1,
        "copy for ScaledDotProductAttention": 1,
        "ScaledDotProductAttention": 1,
    }
    assert counted.bytes_by_name["copy for ScaledDotProductAttention"] == 3 * 128 + 3 * 4 * 128


def test_a_primitive_without_a_rule_is_no_guess(drawn):
    drawn.node("Hadamard", [drawn.leaf(8)], 8)
    with pytest.raises(ValueError, match="Hadamard"):
        drawn.count()


@pytest.mark.parametrize(
    ("shape", "strides", "wanted", "result"),
    [
        ((2, 3, 4), (12, 4, 1), (6, 4), (4, 1)),
        ((2, 1, 8), (12, 12, 1), (2, 1, 2, 4), (12, 8, 4, 1)),
        ((3, 2), (1, 3), (6,), None),
        ((1, 3, 4), (1, 4, 1), (12,), (1,)),
    ],
)
def test_strides_of_another_shape(benchmark_module, shape, strides, wanted, result):
    reshaped = benchmark_module("counting.launches").reshaped(shape, strides, wanted)
    assert reshaped == result


def test_the_least_of_a_step_is_each_weight_once_and_the_positions_that_exist(benchmark_module, tmp_path):
    text = {"num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps({"thinker_config": {"text_config": text}}))
    shapes = {"thinker.model.embed_tokens.weight": [10, 4], "thinker.model.norm.weight": [4], "thinker.other": [100]}
    header = json.dumps({name: {"dtype": "BF16", "shape": shape} for name, shape in shapes.items()}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    least = benchmark_module("counts").Least.of(tmp_path)
    assert least.bytes(rows=5, positions=9) == 2 * 44 + 5 * 10 * (2 * 2 * 3 * 2 * 8)


class FakeProcess:
    """Launches twice as much as its rows; the peer has one row alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ask(self, do: str, *, what: str, rows: int, **_: Any) -> Any:
        assert do == "count"
        if self.name == "peer" and rows > 1:
            return {}
        counted = {"primitives": 9, "kernels": 2 * rows, "bytes": 2_000_000, "copies": 1, "copied": 1_000_000}
        names = {"kernels_by_name": {what: 2 * rows}, "bytes_by_name": {what: 2_000_000}}
        return {**counted, **names, "seconds": 0.002, "queues_ahead": self.name == "runtime"}


@pytest.fixture
def measured(benchmark_module, tmp_path) -> Any:
    counts = benchmark_module("counts")
    opened: list[str] = []

    def start(name: str, stack: ExitStack) -> FakeProcess:
        assert not opened  # one at a time
        opened.append(name)
        stack.callback(opened.remove, name)
        return FakeProcess(name)

    least = counts.Least(weights=1_000_000, position=0)
    measurement = counts.CountMeasurement(["runtime", "peer"], start, least, tmp_path)
    measurement.run()
    return measurement


def test_copies_count_for_a_contender_that_queues_ahead(measured):
    values = {figure.name: figure.values for figure in measured.figures}
    step = "step, 1 row of 100 positions"
    assert values[f"{step}: copies of held buffers"] == {"runtime": [1.0]}
    assert values[f"{step}: beyond the least"] == {"runtime": [100.0], "peer": [100.0]}
    assert values[f"{step}: with them, beyond the least"] == {"runtime": [200.0], "peer": [100.0]}


def test_a_peer_without_rows_has_a_dash(benchmark_module, measured):
    table = benchmark_module("figures").markdown(measured.figures, ["runtime", "peer"], "–")
    assert "| step, 8 rows of 400 positions: kernels |  | 16 | – | – |" in table
    assert "| prefill of 160 positions: kernels |  | 2 | 2 | 1.00 |" in table
    assert "| step, 1 row of 100 positions: beyond the least | % | 100 | 100 | – |" in table


def test_the_runtimes_primitives_are_ranked_by_their_kernels(measured):
    titles, _, first, *others = measured.notes()
    assert titles.startswith("| runtime | step, 1 row of 100 positions | step, 4 rows")
    assert first.startswith("| step | 2 (2.0) | 8 (2.0) | 16 (2.0) | 32 (2.0) |")
    assert len(others) == 2
