"""The choice of a language, against the probabilities of whole forward passes."""

import math
from pathlib import Path

import mlx.core as mx
import pytest
from support.tiny import tiny_model

from qwen3_asr_mlx_runtime.errors import NonFiniteOutput
from qwen3_asr_mlx_runtime.languages import LANGUAGE_CODES
from qwen3_asr_mlx_runtime.model.decoder import Uncached
from qwen3_asr_mlx_runtime.model.language import NO_LANGUAGE, Names, choose_language
from qwen3_asr_mlx_runtime.model.prompt import PromptBuilder
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

APART: Names = {"English": (5, 9), "Arabic": (6, 9), NO_LANGUAGE: (7, 9)}
PARTING: Names = {
    "Chinese": (5, 11, 9),
    "Cantonese": (5, 12, 13, 9),
    "Czech": (5, 12, 13, 14, 9),
    "German": (8, 15, 9),
    NO_LANGUAGE: (7, 9),
}


@pytest.fixture(scope="module")
def model() -> Qwen3ASR:
    return tiny_model()


def prompt(model: Qwen3ASR, seed: int, length: int = 150) -> mx.array:
    return model.model.embed_tokens(mx.random.randint(0, 600, (1, length), key=mx.random.key(seed)))


def choose(model: Qwen3ASR, spoken: mx.array, names: Names, blocks: tuple[int, ...] = ()):
    return choose_language(model, spoken, model.make_cache(1), blocks, names)


def probabilities(model: Qwen3ASR, spoken: mx.array, names: Names) -> dict[str, float]:
    """Each name's, from one pass over the prompt and the name: at each of its tokens, against those that may stand
    there."""
    found = {}
    for name, ids in names.items():
        embeddings = mx.concatenate([spoken, model.embed(ids)[None]], axis=1)
        caches = [Uncached(1)] * len(model.model.layers)
        logits = model.head(model.model(embeddings, caches)[0])
        found[name] = 1.0
        for depth, id in enumerate(ids):
            allowed = sorted({other[depth] for other in names.values() if other[:depth] == ids[:depth]})
            shares = mx.softmax(logits[spoken.shape[1] - 1 + depth][mx.array(allowed)])
            found[name] *= shares[allowed.index(id)].item()
    return found


@pytest.mark.parametrize("names", [APART, PARTING], ids=["apart", "parting"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_most_probable_name(model: Qwen3ASR, names: Names, seed: int) -> None:
    spoken = prompt(model, seed)
    expected = probabilities(model, spoken, names)
    best = max(expected, key=expected.__getitem__)
    choice = choose(model, spoken, names)
    assert choice.language == (None if best == NO_LANGUAGE else best)
    assert sum(expected.values()) == pytest.approx(1)
    assert {name: math.exp(each) for name, each in choice.logprobs.items()} == pytest.approx(
        {name: each for name, each in expected.items() if name != NO_LANGUAGE}, rel=1e-3
    )


def test_each_name_is_chosen_by_some_audio(model: Qwen3ASR) -> None:
    assert {choose(model, prompt(model, seed), APART).language for seed in range(20)} == {"English", "Arabic", None}


def test_blocks_and_what_is_cached_change_nothing(model: Qwen3ASR) -> None:
    spoken = prompt(model, 1, 300)
    whole = choose(model, spoken, PARTING)
    assert choose(model, spoken, PARTING, blocks=(100, 200)).logprobs == pytest.approx(whole.logprobs, abs=1e-4)
    cache = model.make_cache(1)
    for _ in range(2):
        again = choose_language(model, spoken, cache, (100, 200), PARTING)
        assert cache[0].offset == 300  # the prompt, and no name
        for layer in cache:
            layer.rewind(200)
    assert again == choose(model, spoken, PARTING, blocks=(100, 200))


def test_the_margin_is_the_least_change_of_the_logits_that_another_name_needs(model: Qwen3ASR) -> None:
    spoken = prompt(model, 2)
    choice = choose(model, spoken, {"English": (5, 9), NO_LANGUAGE: (6, 9)})
    logits = model.head(model.model(spoken, model.make_cache(200))[0])[-1]
    assert choice.margin == pytest.approx(abs((logits[5] - logits[6]).item()), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_margin_is_shared_by_the_passes_of_two_names(model: Qwen3ASR, seed: int) -> None:
    spoken, passes = prompt(model, seed), {"Chinese": 2, "Cantonese": 2, NO_LANGUAGE: 1}
    deep = {"Chinese": (5, 11, 9), "Cantonese": (5, 12, 9), NO_LANGUAGE: (6, 9)}
    found = probabilities(model, spoken, deep)
    best, *others = sorted(found, key=found.__getitem__, reverse=True)
    expected = min(math.log(found[best] / found[other]) / (passes[best] + passes[other] - 1) for other in others)
    assert choose(model, spoken, deep).margin == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_logits_that_are_no_numbers_name_no_language(model: Qwen3ASR) -> None:
    with pytest.raises(NonFiniteOutput):
        choose(model, prompt(model, 3) * float("nan"), APART)


def test_every_published_name_has_a_first_token_of_its_own(data_folder: Path) -> None:
    """So a choice of the released models takes one pass."""
    tokenizer = Tokenizer.from_folder(data_folder / "tokenizer" / "Qwen3-ASR")
    prompt = PromptBuilder(tokenizer).build("", None, tuple(LANGUAGE_CODES))
    assert list(prompt.names) == [*LANGUAGE_CODES, NO_LANGUAGE]
    assert len({ids[0] for ids in prompt.names.values()}) == 31
    for name, ids in prompt.names.items():
        forced = PromptBuilder(tokenizer).build("", name)
        assert (*prompt.suffix_ids, *ids) == forced.suffix_ids
        assert prompt.length(13) >= len(forced.input_ids(13))
