"""The aligner's mechanism on random weights; tests/reference/test_aligner.py compares it with the reference."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from reference.random_checkpoint import write_random_checkpoint

from qwen3_asr_mlx_runtime.checkpoint.weights import load_aligner
from qwen3_asr_mlx_runtime.errors import ModelUnsupported, NonFiniteOutput
from qwen3_asr_mlx_runtime.model import decoder
from qwen3_asr_mlx_runtime.model.aligner import Aligner, ForcedAligner
from qwen3_asr_mlx_runtime.model.features import Features
from qwen3_asr_mlx_runtime.model.prompt import aligner_prompt
from qwen3_asr_mlx_runtime.model.splice import splice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

CLASSES = 144
UNITS = ["seven", "three", "one", "سبعة"]


def features(frames: int, seed: int = 0) -> Features:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (frames, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_checkpoint) -> Path:
    folder = tmp_path_factory.mktemp("aligner")
    return write_random_checkpoint(folder, size="tiny-aligner", tokenizer=demo_checkpoint)


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def aligner(folder, tokenizer) -> Aligner:
    return Aligner(load_aligner(folder), tokenizer)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def by_definition(aligner: Aligner, tokenizer: Tokenizer, frames: Features, units: list[str]) -> np.ndarray:
    """One row, every position through the head of a cached decoder, then the marks."""
    model, prompt = aligner.model, aligner_prompt(tokenizer, units)
    [audio] = model.embed_audio([frames])
    row = splice(model.embed(prompt.prefix_ids), audio, model.embed(prompt.suffix_ids))
    everywhere = model.head(model.model(row, model.make_cache(row.shape[1]))[0])
    ids = np.array(prompt.input_ids(audio.shape[0]))
    return np.array(everywhere)[ids == model.config.timestamp_token_id]


def test_the_prompt_is_audio_then_each_unit_and_its_two_marks(tokenizer):
    names = ("<|audio_start|>", "<|audio_pad|>", "<|audio_end|>", "<timestamp>")
    start, pad, end, mark = map(tokenizer.token_id, names)
    one, two = tokenizer.encode("seven"), tokenizer.encode("x2")
    assert len(two) > 1
    found = aligner_prompt(tokenizer, ["seven", "x2"]).input_ids(3)
    assert found == [start, pad, pad, pad, end, *one, mark, mark, *two, mark, mark]


def test_a_mark_in_a_unit_stays_plain_text(tokenizer):
    mark = tokenizer.token_id("<timestamp>")
    assert aligner_prompt(tokenizer, ["<timestamp>"]).suffix_ids.count(mark) == 2


@pytest.mark.parametrize("units", [["one"], UNITS, ["one"] * 400, ["antidisestablishment"] * 3])
def test_the_marks_have_the_logits_of_a_whole_pass(aligner, tokenizer, units):
    frames = features(255)
    [found] = aligner.logits([frames], [units])
    assert (found.shape, found.dtype) == ((2 * len(units), CLASSES), np.float32)
    assert relative(found, by_definition(aligner, tokenizer, frames, units)) < 1e-4


def test_a_text_without_units_has_no_marks(aligner):
    assert [found.shape for found in aligner.logits([features(100)], [[]])] == [(0, CLASSES)]
    assert aligner.logits([], []) == []


def test_every_segment_needs_its_units(aligner):
    with pytest.raises(ValueError, match="argument"):
        aligner.logits([features(100)], [])


@pytest.mark.cpu
@settings(deadline=None, max_examples=10)
@given(rows=st.lists(st.tuples(st.integers(1, 1_700), st.integers(0, 30)), min_size=2, max_size=5))
def test_segments_together_equal_segments_alone_to_the_last_bit_on_a_cpu(aligner, rows):
    audio = [features(frames, seed) for seed, (frames, _) in enumerate(rows)]
    units = [(UNITS * 8)[:count] for _, count in rows]
    for together, frames, text in zip(aligner.logits(audio, units), audio, units, strict=True):
        assert np.array_equal(together, aligner.logits([frames], [text])[0])


@pytest.mark.parametrize("rows", [[(801, 9), (60, 1), (1_650, 30)], [(100, 0), (99, 3)], [(8, 2)] * 4])
def test_segments_in_one_pass_equal_segments_alone(aligner, monkeypatch, rows):
    monkeypatch.setattr(ForcedAligner, "packs", True)
    passes, at_marks = [], ForcedAligner.at_marks
    monkeypatch.setattr(ForcedAligner, "at_marks", lambda *given: passes.append(len(given[1])) or at_marks(*given))
    audio = [features(frames, seed) for seed, (frames, _) in enumerate(rows)]
    units = [(UNITS * 8)[:count] for _, count in rows]
    for together, frames, text in zip(aligner.logits(audio, units), audio, units, strict=True):
        assert np.allclose(together, aligner.logits([frames], [text])[0], atol=1e-3)
    assert passes == [len(rows), *[1] * len(rows)]


def test_queries_in_blocks_equal_queries_together(aligner, monkeypatch):
    frames, units = features(801), UNITS * 9
    [whole] = aligner.logits([frames], [units])
    monkeypatch.setattr(decoder, "PREFILL_BLOCK", 37)
    [blocks] = aligner.logits([frames], [units])
    assert relative(blocks, whole) < 1e-4


def test_a_unit_does_not_change_the_marks_before_it(aligner):
    frames = features(300)
    [found], [other] = aligner.logits([frames], [UNITS]), aligner.logits([frames], [[*UNITS[:2], "six", "six"]])
    assert relative(found[:4], other[:4]) < 1e-4
    assert relative(found[4:], other[4:]) > 1e-2


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_one_dtype_from_features_to_logits(aligner, folder, tokenizer, monkeypatch, dtype, limit):
    half = Aligner(load_aligner(folder, dtype), tokenizer)
    seen = set()
    head = half.model.head
    monkeypatch.setattr(type(half.model), "head", lambda _, hidden: seen.add(hidden.dtype) or head(hidden))
    [found] = half.logits([features(801)], [UNITS])
    monkeypatch.undo()
    assert (seen, found.dtype) == ({getattr(mx, dtype)}, np.float32)
    assert relative(found, aligner.logits([features(801)], [UNITS])[0]) < limit


def test_quantised_weights_stay_near_full_precision(aligner, folder, tokenizer):
    coarse = Aligner(load_aligner(folder, quantize="8bit"), tokenizer)
    [found], [expected] = (one.logits([features(801)], [UNITS]) for one in (coarse, aligner))
    assert 1e-3 < relative(found, expected) < 0.1


def test_logits_that_are_no_numbers_are_an_error(folder, tokenizer):
    aligner = Aligner(load_aligner(folder), tokenizer)
    aligner.model.lm_head.weight[3] = mx.nan
    with pytest.raises(NonFiniteOutput):
        aligner.logits([features(100)], [["one"]])


@pytest.mark.parametrize("field", ["audio_token_id", "timestamp_token_id"])
def test_a_tokenizer_with_other_ids_is_refused(folder, tokenizer, field):
    model = load_aligner(folder)
    model.config = replace(model.config, **{field: 7})
    with pytest.raises(ModelUnsupported) as caught:
        Aligner(model, tokenizer)
    assert caught.value.data == {"field": field}
