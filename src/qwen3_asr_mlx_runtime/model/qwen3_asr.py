"""The whole model: audio tower, decoder, head. Attribute names are the released checkpoint's without `thinker.`."""

from collections.abc import Sequence
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from qwen3_asr_mlx_runtime.engines.profile import Quantization
from qwen3_asr_mlx_runtime.model.audio_encoder import AudioTower
from qwen3_asr_mlx_runtime.model.config import ModelConfig
from qwen3_asr_mlx_runtime.model.decoder import Cache, Decoder, KVCache
from qwen3_asr_mlx_runtime.model.features import Features
from qwen3_asr_mlx_runtime.model.gemv import with_skinny_products


class Qwen3ASR(nn.Module):
    config_type: ClassVar[type[ModelConfig]] = ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.quantization: Quantization | None = None  # of its weights, reported in profiles
        self.audio_tower = AudioTower(config.audio)
        self.model = Decoder(config.text)
        if not config.text.tie_word_embeddings:
            self.lm_head = nn.Linear(config.text.hidden_size, config.head_size, bias=False)

    @property
    def dtype(self) -> mx.Dtype:
        """The one dtype of features, embeddings, caches and logits; quantised weights compute in it too."""
        return self.model.norm.weight.dtype

    @property
    def packs(self) -> bool:
        """Whether several utterances go through the network together. On a CPU that is no faster, and a product of more
        rows may change the last bits of each."""
        return mx.default_device() != mx.cpu

    def prepare(self) -> None:
        """Prepare loaded weights to run. On a GPU their names then differ from the checkpoint's."""
        self.audio_tower.prepare()
        self.model.prepare()
        layers = self.leaf_modules()
        del layers["audio_tower"]  # its products are of many rows
        self.update_modules(with_skinny_products(layers))

    def embed(self, ids: Sequence[int]) -> mx.array:
        """Token ids → embeddings (len(ids), D)."""
        return self.model.embed_tokens(mx.array(list(ids), mx.int32))

    def embed_audio(self, features: Sequence[Features]) -> list[mx.array]:
        """Log-mel float32 (F, 128) of each utterance, F ≥ 1 → its audio embeddings (T, D) in the model's dtype."""
        arrays = [mx.array(frames).astype(self.dtype) for frames in features]
        if self.packs:
            return self.audio_tower.encode(arrays)
        return [self.audio_tower.one_by_one(array) for array in arrays]

    def make_cache(self, capacity: int, rows: int = 1) -> list[KVCache]:
        return self.model.make_cache(capacity, self.dtype, rows)

    def logits(self, embeddings: mx.array, cache: Sequence[Cache]) -> mx.array:
        """embeddings (B, L, D) after the cached positions → logits of the last of them: (B, vocabulary)."""
        return self.head(self.model(embeddings, cache)[:, -1])

    def head(self, hidden: mx.array) -> mx.array:
        """Hidden states (B, D) → logits (B, head_size)."""
        if self.config.text.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)
