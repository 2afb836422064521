"""The steps that every contender offers to the clock."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class Contender(ABC):
    """An implementation and its loaded model. Tokens that end a text do not end it here: `new_tokens` always come."""

    import_statement: ClassVar[str]
    """Imports what `load` needs, as the first line of a program would."""

    @abstractmethod
    def load(self, checkpoint: Path, dtype: str) -> None:
        """Load a checkpoint in the released layout, weights as `dtype`."""

    @abstractmethod
    def features(self, samples: Samples) -> Any:
        """Samples → log-mel features, as the tower takes them."""

    @abstractmethod
    def tower(self, features: Any) -> Any:
        """Features → audio embeddings."""

    @abstractmethod
    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        """Audio embeddings → tokens, by the implementation's own loop; the first one comes after the prefill."""

    @abstractmethod
    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        """Everything from samples to text, by the implementation's public call; return the tokens behind the text."""

    def transcribe_batch(self, clips: Sequence[Samples], new_tokens: int, decoder_mode: str) -> list[Sequence[int]]:
        """All clips by one call. Raises NotImplementedError where there is none for independent utterances."""
        raise NotImplementedError

    def fence(self) -> None:
        """Wait for everything that was queued on the device."""
        import mlx.core as mx

        mx.synchronize()
