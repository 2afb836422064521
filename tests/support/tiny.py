"""A small model for tests of mechanism that need no oracle.

Its head dimensions are those of the released models, 64 in the tower and 128 in the decoder: Metal has fused attention
for these.
"""

import mlx.core as mx
from mlx.utils import tree_map
from msgspec.structs import replace

from qwen3_asr_mlx_runtime.model.config import AudioEncoderConfig, ModelConfig, TextConfig
from qwen3_asr_mlx_runtime.model.qwen3_asr import Qwen3ASR

VOCABULARY = 640
EOS = 639

AUDIO = AudioEncoderConfig(
    num_mel_bins=128,
    d_model=128,
    encoder_layers=2,
    encoder_attention_heads=2,
    encoder_ffn_dim=128,
    downsample_hidden_size=8,
    output_dim=64,
    n_window=50,
    n_window_infer=800,
    activation_function="gelu",
)
TEXT = TextConfig(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=128,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    max_position_embeddings=4096,
    hidden_act="silu",
    tie_word_embeddings=True,
)


def tiny_model(
    dtype: mx.Dtype = mx.float32, seed: int = 0, audio_token_id: int = 600, vocab_size: int = VOCABULARY
) -> Qwen3ASR:
    """Random weights, scaled so that greedy tokens vary; biases and norms are off their neutral values too."""
    mx.random.seed(seed)
    model = Qwen3ASR(ModelConfig(audio=AUDIO, text=replace(TEXT, vocab_size=vocab_size), audio_token_id=audio_token_id))

    def randomise(weight: mx.array) -> mx.array:
        noise = mx.random.normal(weight.shape)
        if weight.ndim == 1:
            return weight + 0.1 * noise
        return noise * (1.5 / weight[0].size ** 0.5)

    model.update(tree_map(lambda weight: randomise(weight).astype(dtype), model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return model
