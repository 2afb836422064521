import threading
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from msgspec.structs import replace
from support.tiny import AUDIO, TEXT, tiny_model

from qwen3_asr_mlx_runtime.model import gemv as skinny_module
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.gemv import (
    ROWS,
    SkinnyEmbedding,
    SkinnyLinear,
    SkinnyProduct,
    with_skinny_products,
)
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

pytestmark = pytest.mark.cpu
N, K = 1536, 1024


@pytest.fixture(scope="module")
def linear() -> nn.Linear:
    mx.random.seed(7)
    return nn.Linear(K, N, bias=False)


@pytest.fixture(scope="module")
def skinny(linear: nn.Linear) -> SkinnyLinear:
    return SkinnyLinear(linear.weight, SkinnyProduct.of(linear.weight, 2))


def relative(got: mx.array, expected: mx.array) -> float:
    return (mx.linalg.norm(got - expected) / mx.linalg.norm(expected)).item()


@pytest.mark.parametrize(
    "shape", [(), (1,), (1, 1), (2, 1), (1, 3), (2, 2), (ROWS,), (ROWS + 1,), (1, 40), (0,), (1, 0)]
)
def test_every_number_of_rows_gives_the_product(linear, skinny, shape):
    x = mx.random.normal((*shape, K), key=mx.random.key(3))
    got, expected = skinny(x), linear(x)
    assert got.shape == expected.shape
    assert not got.size or relative(got, expected) < 1e-6


@pytest.mark.parametrize(("cores", "parts"), [(1, 1), (2, 2), (3, 3), (5, 4), (8, 8), (64, 8)])
def test_a_weight_has_as_many_equal_parts_as_cores_allow(linear, cores, parts):
    product = SkinnyProduct.of(linear.weight, cores)
    assert len(product._parts) == parts
    x = mx.random.normal((1, 2, K), key=mx.random.key(8))
    assert relative(product(x), linear(x)) < 1e-6


def test_each_part_is_multiplied_on_a_stream_of_its_own(linear, monkeypatch):
    taken, used, product = [None], [], skinny_module._product

    @contextmanager
    def stream(chosen):
        taken.append(chosen)
        yield
        taken.pop()

    def noted(rows, part):
        used.append(taken[-1])
        return product(rows, part)

    monkeypatch.setattr(mx, "stream", stream)
    monkeypatch.setattr(skinny_module, "_product", noted)
    SkinnyProduct.of(linear.weight, 4)(mx.ones((1, K)))
    assert used[0] is None
    assert len(used) == len({id(chosen) for chosen in used}) == 4


def test_rows_up_to_the_bound_do_without_the_whole_product(skinny, monkeypatch):
    def whole(self: nn.Linear, x: mx.array) -> mx.array:
        raise AssertionError("the whole weight was multiplied")

    monkeypatch.setattr(nn.Linear, "__call__", whole)
    skinny(mx.ones((ROWS, K)))
    with pytest.raises(AssertionError):
        skinny(mx.ones((ROWS + 1, K)))


def test_each_of_two_rows_gets_what_it_gets_alone(skinny):
    x = mx.random.normal((2, 1, K), key=mx.random.key(4))
    assert relative(skinny(x)[1], skinny(x[1])) < 1e-6


@pytest.mark.linux("elsewhere all layers stay as they are")
def test_a_large_embedding_is_the_head_as_well():
    embedding = nn.Embedding(N, K)
    skinny = with_skinny_products({"embedding": embedding})["embedding"]
    assert type(skinny) is SkinnyEmbedding
    hidden = mx.random.normal((3, K), key=mx.random.key(5))
    assert relative(skinny.as_linear(hidden), embedding.as_linear(hidden)) < 1e-6
    assert relative(skinny.as_linear(mx.ones((40, K))), embedding.as_linear(mx.ones((40, K)))) < 1e-6
    assert mx.array_equal(skinny(mx.array([3, 1])), embedding(mx.array([3, 1])))


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16])
def test_the_dtype_stays(linear, dtype):
    weight, x = linear.weight.astype(dtype), mx.random.normal((1, K), key=mx.random.key(6)).astype(dtype)
    got = SkinnyProduct.of(weight, 2)(x)
    assert got.dtype == dtype
    assert relative(got.astype(mx.float32), (x @ weight.T).astype(mx.float32)) < 1e-2


@pytest.mark.linux("elsewhere all layers stay as they are")
def test_the_weight_is_shared_and_keeps_its_name(linear):
    before = mx.get_active_memory()
    skinny = with_skinny_products({"layer": linear})["layer"]
    assert mx.get_active_memory() - before < linear.weight.nbytes / 100
    assert dict(tree_flatten(skinny.parameters())) == {"weight": linear.weight}


def test_any_thread_may_multiply(linear, skinny):
    x, results = mx.ones((1, K)), []
    mx.eval(x)
    fresh = SkinnyProduct.of(linear.weight, 2)  # never used on the thread that made it
    threads = [threading.Thread(target=lambda: results.append(fresh(x).tolist())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [skinny(x).tolist()] * 3


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(K, N),  # a bias
        nn.Linear(K, 512, bias=False),  # small
        nn.Linear(K, 1549, bias=False),  # a prime number of rows
        nn.Linear(K, 2 * 769, bias=False),  # blocks of two rows
        nn.Linear(200_000, 6, bias=False),  # rows longer than a block
        nn.QuantizedLinear(K, N, bias=False),
        nn.Conv2d(32, 512, 9),
    ],
)
def test_what_would_not_gain_stays_as_it_is(layer):
    assert with_skinny_products({"layer": layer})["layer"] is layer


def test_on_another_system_all_stays_as_it_is(linear, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    assert with_skinny_products({"layer": linear})["layer"] is linear


def test_on_a_gpu_all_stays_as_it_is(linear, monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    assert with_skinny_products({"layer": linear})["layer"] is linear


@pytest.mark.linux("elsewhere all layers stay as they are")
def test_a_prepared_model_writes_the_same_tokens():
    model = tiny_model(vocab_size=32_768)
    prompt = model.embed(range(30))[None]
    expected = [token.id for token in generate(model, prompt, frozenset(), 24)]
    assert len(set(expected)) > 8
    model.prepare()
    assert type(model.model.embed_tokens) is SkinnyEmbedding
    assert [token.id for token in generate(model, prompt, frozenset(), 24)] == expected


@pytest.mark.linux("elsewhere all layers stay as they are")
def test_a_head_of_its_own_is_one_of_the_layers_and_the_tower_is_not():
    audio = replace(AUDIO, d_model=K, output_dim=K, downsample_hidden_size=64)
    text = replace(TEXT, hidden_size=K, intermediate_size=N, num_hidden_layers=1, tie_word_embeddings=False)
    model = Qwen3ASR(ModelConfig(audio=audio, text=text, audio_token_id=600))
    tower = {path: type(layer) for path, layer in model.audio_tower.named_modules()}
    model.lm_head = nn.Linear(K, N, bias=False)
    model.prepare()
    assert type(model.lm_head) is SkinnyLinear
    assert type(model.model.layers[0].mlp.down_proj) is SkinnyLinear
    assert {path: type(layer) for path, layer in model.audio_tower.named_modules()} == tower
