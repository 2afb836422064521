"""This runtime against the goldens that the reference implementations wrote, on a checkpoint of random weights.

How the goldens come about: tests/reference/README.md.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from qwen3_asr_mlx_runtime.checkpoint.weights import load_model
from qwen3_asr_mlx_runtime.engines.lengths import audio_token_count
from qwen3_asr_mlx_runtime.engines.transcript import fix_repetitions, parse_transcript
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer
from reference.activations import PREFIX, SUFFIX, TOKENS
from reference.clips import FRAME_COUNTS, clip
from reference.corpus import DEPARTURES
from reference.differences import (
    BFLOAT16_EMBEDDINGS_LIMIT,
    EMBEDDINGS_LIMIT,
    LOGITS_LIMIT,
    LOGPROBS_LIMIT,
    MEL_LIMIT,
    max_abs,
    relative,
)
from reference.digest import Digest, digest, load_digests
from reference.goldens import GOLDEN, sha256_of_clip
from reference.mrope import mrope_angles, mrope_positions
from reference.random_checkpoint import write_random_checkpoint
from reference.runtime import Runtime

GOLDENS = load_digests(GOLDEN / "tiny.npz")
METADATA: dict[str, Any] = json.loads((GOLDEN / "tiny.json").read_text())
RULES: dict[str, Any] = json.loads((GOLDEN / "rules.json").read_text())

every_length = pytest.mark.parametrize("frames", FRAME_COUNTS)


class Comparison:
    """The runtime on the tiny checkpoint in float32; each clip is run once."""

    def __init__(self, checkpoint: Path) -> None:
        self.runtime = Runtime.load(checkpoint)
        self.found = cache(lambda frames: digest(self.runtime.activations(clip(frames), TOKENS)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def tiny(checkpoint: Path) -> Comparison:
    return Comparison(checkpoint)


@pytest.fixture(scope="module")
def half(checkpoint: Path) -> Runtime:
    """The same weights in bfloat16."""
    return Runtime(load_model(checkpoint, "bfloat16"))


@every_length
def test_the_clip_is_the_one_the_golden_was_made_of(frames: int) -> None:
    assert sha256_of_clip(frames) == METADATA["clips"][str(frames)]["sha256"]


@every_length
def test_mel_equals_the_reference(tiny: Comparison, frames: int) -> None:
    found, golden = tiny.found(frames), GOLDENS[frames]
    assert found.mel_frame_means.shape == (frames,)
    assert max_abs(found.mel_cells, golden.mel_cells) <= MEL_LIMIT
    assert max_abs(found.mel_frame_means, golden.mel_frame_means) <= MEL_LIMIT
    assert max_abs(found.mel_bin_means, golden.mel_bin_means) <= MEL_LIMIT


@every_length
def test_the_tower_equals_the_reference(tiny: Comparison, frames: int) -> None:
    assert relative(tiny.found(frames).embeddings, GOLDENS[frames].embeddings) <= EMBEDDINGS_LIMIT


@every_length
def test_every_row_of_the_tower_equals_the_reference(tiny: Comparison, frames: int) -> None:
    """One wrong token among hundreds is little to the norm of them all."""
    for found, golden in zip(tiny.found(frames).embeddings, GOLDENS[frames].embeddings, strict=True):
        assert relative(found, golden) <= 3 * EMBEDDINGS_LIMIT


@every_length
def test_prefill_logits_equal_the_reference(tiny: Comparison, frames: int) -> None:
    found, golden = tiny.found(frames), GOLDENS[frames]
    assert relative(found.logits, golden.logits) <= LOGITS_LIMIT
    assert relative(found.top_logits, golden.top_logits) <= LOGITS_LIMIT
    assert found.top_ids[0] == golden.top_ids[0]


@every_length
def test_64_greedy_tokens_equal_the_reference(tiny: Comparison, frames: int) -> None:
    assert len(GOLDENS[frames].tokens) == TOKENS
    assert tiny.found(frames).tokens.tolist() == GOLDENS[frames].tokens.tolist()


@every_length
def test_every_step_gives_its_token_the_probability_of_the_reference(tiny: Comparison, frames: int) -> None:
    assert max_abs(tiny.found(frames).logprobs, GOLDENS[frames].logprobs) <= LOGPROBS_LIMIT


def test_no_golden_token_is_nearly_a_tie() -> None:
    """Or it would say nothing: gaps are to be far over what rounding makes of the logits."""
    assert min(golden.gaps.min() for golden in GOLDENS.values()) > 5e-3


@pytest.mark.parametrize("layout", ["native", "mlx"])
@pytest.mark.parametrize("shards", [1, 3])
def test_every_layout_equals_the_reference(tmp_path: Path, layout: Any, shards: int) -> None:
    other = Comparison(write_random_checkpoint(tmp_path, layout=layout, shards=shards))
    assert relative(other.found(255).embeddings, GOLDENS[255].embeddings) <= EMBEDDINGS_LIMIT
    assert other.found(255).tokens.tolist() == GOLDENS[255].tokens.tolist()


def test_every_norm_has_the_epsilon_of_the_reference(tiny: Comparison) -> None:
    """Beside large activations a wrong one would stay under every limit here."""
    norms = {
        name: module.eps
        for name, module in tiny.runtime.model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.RMSNorm)
    }
    assert norms == pytest.approx(RULES["epsilons"], rel=1e-6)


@every_length
def test_bfloat16_embeddings_stay_near_the_float32_golden(half: Runtime, frames: int) -> None:
    embeddings = half.embeddings(log_mel(clip(frames)))
    assert embeddings.dtype == mx.bfloat16
    found = np.array(embeddings.astype(mx.float32))
    assert relative(found, GOLDENS[frames].embeddings) <= BFLOAT16_EMBEDDINGS_LIMIT


def test_bfloat16_is_kept_from_the_tower_to_keys_values_and_logits(half: Runtime) -> None:
    embeddings = half.embeddings(log_mel(clip(255)))
    prompt = half.prompt(embeddings)
    cache = half.model.make_cache(prompt.shape[1] + 1)
    logits = [half.model.logits(prompt, cache), half.model.logits(half.model.embed([11528])[None], cache)]
    kept = [embeddings, prompt, *logits, *(array for layer in cache for array in (layer.keys, layer.values))]
    assert {array.dtype for array in kept} == {mx.bfloat16}


def test_token_counts_equal_the_reference_for_every_length() -> None:
    assert [audio_token_count(frames) for frames in range(1, 3_101)] == RULES["token_counts"]


@pytest.mark.parametrize("frames", range(1, 101))
def test_the_tower_makes_as_many_rows_as_the_reference_counts(tiny: Comparison, frames: int) -> None:
    tower: AudioTower = tiny.runtime.model.audio_tower
    assert tower.embed_chunks(mx.zeros((frames, 128))).shape[0] == RULES["token_counts"][frames - 1]


def test_interleaved_mrope_has_the_angles_of_the_reference() -> None:
    mrope = RULES["mrope"]
    angles = mrope_angles(np.array(mrope["positions"]), tuple(mrope["sections"]), mrope["theta"])
    assert max_abs(np.cos(angles), np.array(mrope["cos"])) <= 1e-4
    assert max_abs(np.sin(angles), np.array(mrope["sin"])) <= 1e-4


def test_the_reference_itself_rotates_our_positions_one_dimensionally() -> None:
    """So the decoder's fused rotary is its rotary: three equal rows leave nothing to interleave."""
    assert RULES["mrope"]["difference_from_rope"] == 0.0
    rows = mrope_positions(RULES["mrope"]["positions_compared"])
    assert (rows == np.arange(RULES["mrope"]["positions_compared"])).all()


@pytest.mark.parametrize(("raw", "forced", "language", "text"), RULES["outputs"])
def test_output_is_parsed_as_the_reference_parses_it(raw: str, forced: str | None, language: str, text: str) -> None:
    assert parse_transcript(raw, forced) == (language or None, text)


@pytest.mark.parametrize(("raw", "language", "text"), RULES["departures"])
def test_departures_from_the_reference_parser_are_deliberate(raw: str, language: str, text: str) -> None:
    assert parse_transcript(raw, None) == DEPARTURES[raw]
    assert DEPARTURES[raw] != (language or None, text)


@pytest.mark.parametrize(("looping", "fixed"), RULES["loops"])
def test_loops_are_undone_as_the_reference_undoes_them(looping: str, fixed: str) -> None:
    assert fix_repetitions(looping) == fixed


def test_prompts_equal_the_reference_for_every_context_language_and_length(demo_checkpoint: Path) -> None:
    assert_prompts_equal(GOLDEN / "prompts-demo.json", demo_checkpoint)


def test_prompts_of_the_published_tokenizer_equal_the_reference(data_folder: Path) -> None:
    assert_prompts_equal(GOLDEN / "prompts-published.json", data_folder / "tokenizer" / "Qwen3-ASR")


def test_the_prompt_around_the_compared_clips_is_that_of_the_reference() -> None:
    prompts = json.loads((GOLDEN / "prompts-published.json").read_text())
    assert (tuple(prompts["prefixes"][""]), tuple(prompts["suffixes"][""])) == (PREFIX, SUFFIX)


def assert_prompts_equal(golden: Path, tokenizer: Path) -> None:
    prompts = json.loads(golden.read_text())
    build = PromptBuilder(Tokenizer.from_folder(tokenizer)).build
    lengths = sorted(set(RULES["token_counts"]))
    for context, prefix in prompts["prefixes"].items():
        for language, suffix in prompts["suffixes"].items():
            prompt = build(context, language or None)
            for length in lengths:
                assert prompt.input_ids(length) == [*prefix, *[prompts["audio_pad"]] * length, *suffix]


def test_a_digest_holds_what_it_says() -> None:
    golden: Digest = GOLDENS[3100]
    assert golden.embeddings.shape == (403, 64)
    assert golden.prompt_ids.shape == (403 + 15,)
    assert (golden.logits.shape, golden.top_logits.shape, golden.gaps.shape) == ((256,), (8,), (64,))
