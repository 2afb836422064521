"""The earlier runtime, from a folder of its own that is no part of this repository. For counting alone."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from benchmark.contenders.contender import Recogniser, Samples

FOLDER = "QWEN3_ASR_MLX_EARLIER"  # an environment variable


class Earlier(Recogniser):
    import_statement = "pass"
    queues_ahead = False

    def load(self, checkpoint: Path, dtype: str) -> None:  # noqa: ARG002 it keeps the dtype of the checkpoint
        from mlx_lm.models import cache

        [file, *_] = sorted(Path(os.environ[FOLDER]).rglob("runtime.py"))
        spec = spec_from_file_location("earlier_runtime", file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} cannot be imported")
        module = sys.modules[spec.name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        config = json.loads((checkpoint / "config.json").read_bytes())["thinker_config"]
        self._cache, self._text = cache, config["text_config"]
        runtime = object.__new__(module.Qwen3ASRMLXRuntime)
        runtime.text_config = self._text
        runtime.audio_tower, runtime.decoder, _ = module.load_mapped_qwen3_asr_components(
            str(checkpoint), config["audio_config"], self._text
        )
        runtime._mrope_step_cache = {}
        runtime._init_mrope_cache()
        self._runtime: Any = runtime

    def features(self, samples: Samples) -> Any:
        """As many as the clip has; its extractor is another package."""
        import numpy as np

        frames = len(samples) // 160
        return np.zeros((1, 128, frames), np.float32), np.array([frames])

    def tower(self, features: Any) -> Any:
        import mlx.core as mx

        frames, lengths = features
        audio = self._runtime.audio_tower(mx.array(frames), lengths)
        mx.eval(audio)
        return audio

    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        raise NotImplementedError

    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        raise NotImplementedError

    def step(self, rows: int, positions: int) -> Callable[[], object]:
        """Its keys and values are float32, since its prompts are. The rotation of a row alone is kept from an earlier
        step at the same position, as it is in its second utterance."""
        import mlx.core as mx
        import numpy as np

        caches = [
            self._cache.KVCache() if rows == 1 else self._cache.BatchKVCache([0] * rows)
            for _ in self._runtime.decoder.layers
        ]
        for layer in caches:
            capacity = -(-(positions + 1) // layer.step) * layer.step
            shape = (rows, self._text["num_key_value_heads"], capacity, self._text["head_dim"])
            layer.keys, layer.values = mx.zeros(shape), mx.zeros(shape)
            if rows == 1:
                layer.offset = positions
            else:
                layer.offset, layer._idx = mx.full((rows,), positions), positions
                mx.eval(layer.offset)
            mx.eval(layer.keys, layer.values)
        alone = np.full((3, 1), positions)
        self._runtime.mrope_cos_sin(alone)

        def build() -> None:
            if rows == 1:
                rotation = self._runtime.mrope_cos_sin(alone)
            else:
                rotation = self._runtime.mrope_cos_sin_for_text_positions([positions] * rows)
            self._choose(mx.zeros((rows, 1), mx.int32), rotation, caches)

        return build

    def prefill(self, positions: int) -> Callable[[], object]:
        import mlx.core as mx
        import numpy as np

        embeddings = mx.zeros((1, positions, self._text["hidden_size"]))
        mx.eval(embeddings)

        def build() -> None:
            rotation = self._runtime.mrope_cos_sin(np.tile(np.arange(positions), (3, 1)))
            caches = [self._cache.KVCache() for _ in self._runtime.decoder.layers]
            self._choose(mx.zeros((1, positions), mx.int32), rotation, caches, embeddings)

        return build

    def _choose(self, ids: Any, rotation: Any, caches: Any, embeddings: Any = None) -> None:
        import mlx.core as mx

        logits = self._runtime.decoder(ids, rotation, cache=caches, input_embeddings=embeddings)
        mx.eval(mx.argmax(logits[:, -1, :], axis=-1))
