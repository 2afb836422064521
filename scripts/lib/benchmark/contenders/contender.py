"""The steps that every contender offers to the clock."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class Contender(ABC):
    """An implementation and its loaded model."""

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

    def fence(self) -> None:
        """Wait for everything that was queued on the device."""
        import mlx.core as mx

        mx.synchronize()


class Recogniser(Contender):
    """Tokens that end a text do not end it here: `new_tokens` always come.

    `load_unused`, `step` and `prefill` are for counting. The last two make what has to be there before, and return a
    function that builds the graph, of which nothing is evaluated (benchmark.counting).
    """

    queues_ahead: bool
    """Whether the latest step is queued while the one before it still runs, which then holds its buffers."""

    @abstractmethod
    def decode(self, audio: Any, new_tokens: int) -> Iterator[int]:
        """Audio embeddings → tokens, by the implementation's own loop; the first one comes after the prefill."""

    @abstractmethod
    def transcribe(self, samples: Samples, new_tokens: int) -> Sequence[int]:
        """Everything from samples to text, by the implementation's public call; return the tokens behind the text."""

    def transcribe_batch(self, clips: Sequence[Samples], new_tokens: int, decoder_mode: str) -> list[Sequence[int]]:
        """All clips by one call. Raises NotImplementedError where there is none for independent utterances."""
        raise NotImplementedError

    def load_unused(self, checkpoint: Path, dtype: str) -> None:
        """`load`, where nothing can be evaluated afterwards."""
        self.load(checkpoint, dtype)

    @abstractmethod
    def step(self, rows: int, positions: int) -> Callable[[], object]:
        """A decoder step, token to token, of so many rows that hold so many positions each. Raises NotImplementedError
        where rows do not take a step together."""

    @abstractmethod
    def prefill(self, positions: int) -> Callable[[], object]:
        """From the embeddings of a prompt with its audio to the first token."""


class Aligner(Contender):
    @abstractmethod
    def units(self, text: str, language: str) -> Sequence[str]:
        """What a text is cut into. Raises ImportError or RuntimeError where a package is missing for the language."""

    @abstractmethod
    def classes(self, features: Any, units: Sequence[str]) -> Sequence[int]:
        """Features and units → the best class at each mark: one forward pass, the prompt's tokens included."""

    @abstractmethod
    def align(self, samples: Samples, text: str, language: str) -> int:
        """Everything from samples and text to times, by the implementation's public call; return the number of
        words."""

    def prefill(self, audio: Any, units: Sequence[str]) -> int:
        """What a recogniser does before its first token, with as many positions as `classes` has; return their number.
        Raises NotImplementedError where nothing is compared with it."""
        raise NotImplementedError
