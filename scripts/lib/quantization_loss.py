"""Print what quantised weights change in the logits, as a Markdown table: see --help.

The reference has the same checkpoint's weights in float32 and decodes greedily; every scheme is given its tokens, and
the logits of each position are compared. Audio goes through each model's own tower. Random
weights get synthetic audio; `demo` gets the clips of examples/audio.
"""

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import mlx.core as mx
import numpy as np
from benchmark.audio import speech_like
from benchmark.vocabulary import write_tokenizer
from numpy.typing import NDArray
from reference.random_checkpoint import write_random_checkpoint

from qwen3_asr_mlx_runtime.audio.recording import read_file
from qwen3_asr_mlx_runtime.checkpoint.quantize import SCHEMES, Scheme
from qwen3_asr_mlx_runtime.checkpoint.resolve import DEMO_FOLDER
from qwen3_asr_mlx_runtime.checkpoint.weights import load_model, named_parameters
from qwen3_asr_mlx_runtime.command import guarded
from qwen3_asr_mlx_runtime.model.features import log_mel
from qwen3_asr_mlx_runtime.model.generate import generate
from qwen3_asr_mlx_runtime.model.prompt import Prompt, PromptBuilder
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR
from qwen3_asr_mlx_runtime.model.splice import splice
from qwen3_asr_mlx_runtime.model.tokenizer import Tokenizer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "audio"
HEADER = """| weights | scheme | in memory, MB | load peak, MB | positions | KL mean | KL max | logits, relative | \
top-1 equal | tower, relative |
|---|---|---|---|---|---|---|---|---|---|"""

Logits = NDArray[np.float32]


class Outcome(NamedTuple):
    """Logits (positions, vocabulary) and tower output (tokens, width) of all clips, and megabytes."""

    logits: Logits
    audio: NDArray[np.float32]
    held: float
    peak: float


@guarded("quantization-loss")
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["tiny", "demo"], choices=["tiny", "0.6b", "1.7b", "demo"])
    parser.add_argument(
        "--schemes", nargs="+", default=["8bit", "mixed"], help=f"{', '.join(SCHEMES)}, or bits as tower-decoder-head"
    )
    parser.add_argument("--seconds", nargs="+", type=float, default=[3.1, 5.0, 7.4, 10.0], help="lengths of the clips")
    parser.add_argument("--tokens", type=int, default=48, help="at most so many for each clip")
    options = parser.parse_args()
    if mx.default_device() == mx.cpu:
        mx.disable_compile()
    print(HEADER)
    for weights in options.weights:
        with TemporaryDirectory() as folder:
            checkpoint, clips = make(weights, Path(folder), options.seconds)
            for row in rows(checkpoint, clips, options.schemes, options.tokens):
                print(f"| {weights} {row}", flush=True)


def make(weights: str, folder: Path, seconds: Sequence[float]) -> tuple[Path, list[NDArray[np.float32]]]:
    if weights == "demo":
        return DEMO_FOLDER, [read_file(str(file)).samples for file in sorted(EXAMPLES.glob("*.wav"))]
    tokenizer = write_tokenizer(folder / "tokenizer")
    checkpoint = write_random_checkpoint(folder / "model", size=weights, dtype="bfloat16", tokenizer=tokenizer)
    return checkpoint, [speech_like(length, seed) for seed, length in enumerate(seconds)]


def rows(checkpoint: Path, clips: list[NDArray[np.float32]], schemes: list[str], limit: int) -> Iterator[str]:
    features = [mx.array(log_mel(clip)) for clip in clips]
    tokenizer = Tokenizer.from_folder(checkpoint)
    prompt = PromptBuilder(tokenizer).build("", None)
    model = load_model(checkpoint, "float32")
    stop = frozenset({tokenizer.token_id("<|im_end|>")})
    texts = [greedy(model, frames, prompt, stop, limit) for frames in features]
    del model
    reference = run(checkpoint, None, features, prompt, texts)
    yield f"| none {figures(reference, reference)}"
    for scheme in schemes:
        yield f"| {scheme} {figures(reference, run(checkpoint, scheme, features, prompt, texts))}"


def greedy(model: Qwen3ASR, features: mx.array, prompt: Prompt, stop: frozenset[int], limit: int) -> list[int]:
    return [token.id for token in generate(model, spliced(model, model.audio_tower(features), prompt, []), stop, limit)]


def spliced(model: Qwen3ASR, audio: mx.array, prompt: Prompt, token_ids: Sequence[int]) -> mx.array:
    return splice(model.embed(prompt.prefix_ids), audio, model.embed([*prompt.suffix_ids, *token_ids]))


def run(
    checkpoint: Path, scheme: str | None, features: list[mx.array], prompt: Prompt, texts: list[list[int]]
) -> Outcome:
    if scheme is not None and "-" in scheme:
        SCHEMES[scheme] = Scheme(*(int(bits) for bits in scheme.split("-")))  # type: ignore[arg-type]
    gc.collect()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model = load_model(checkpoint, None, quantize=scheme, force_4bit_tower=True)
    held = sum(weight.nbytes for _, weight in named_parameters(model))
    peak = mx.get_peak_memory() - before
    model.set_dtype(mx.float32)  # of scales and what is left: the weights in their few bits stay the same
    logits, towers = [], []
    for frames, tokens in zip(features, texts, strict=True):
        towers.append(model.audio_tower(frames))
        embeddings = spliced(model, towers[-1], prompt, tokens[:-1])
        hidden = model.model(embeddings, model.make_cache(embeddings.shape[1]))
        logits.append(model.head(hidden[0, -len(tokens) :]))
    return Outcome(np.array(mx.concatenate(logits)), np.array(mx.concatenate(towers)), held / 1e6, peak / 1e6)


def figures(reference: Outcome, got: Outcome) -> str:
    expected, log_p, log_q = reference.logits, log_softmax(reference.logits), log_softmax(got.logits)
    kl = np.sum(np.exp(log_p) * (log_p - log_q), axis=1)
    equal = np.mean(np.argmax(expected, axis=1) == np.argmax(got.logits, axis=1))
    loss = f"{kl.mean():.2g} | {kl.max():.2g} | {relative(expected, got.logits):.4f} | {100 * equal:.1f} %"
    sizes = f"{got.held:.0f} | {got.peak:.0f} | {len(expected)}"
    return f"| {sizes} | {loss} | {relative(reference.audio, got.audio):.4f} |"


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def relative(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


if __name__ == "__main__":
    sys.exit(main())
