"""What the utterances of a stream are called: as a chunk or the boundary says, or else `<stream_id>-<n>`."""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.errors import InvalidParams

IsInUse = Callable[[str, str], bool]  # a stream's id, and the name of an utterance


class Names:
    """The names of one stream. `spoken`: of the utterance that is being spoken, None as long as it has none."""

    def __init__(self, stream_id: str, is_in_use: IsInUse) -> None:
        self.spoken: str | None = None
        self._split: str | None = None  # of what was split off, by which chunks may still call the rest
        self._stream_id = stream_id
        self._is_in_use = is_in_use
        self._count = 0

    def next(self) -> str:
        """A name that counts up, and skips what a client calls an utterance without an outcome."""
        while True:
            self._count += 1
            name = f"{self._stream_id}-{self._count}"
            if name not in (self.spoken, self._split) and not self._is_in_use(self._stream_id, name):
                return name

    def check(self, name: str | None) -> None:
        """Raises InvalidParams where a chunk names another utterance than the one that is being spoken."""
        if self.spoken is not None and name not in (None, self.spoken, self._split):
            message = "`utterance_id`: another utterance is being spoken; a boundary ends it; the chunk was not taken"
            raise InvalidParams(message, field="utterance_id")

    def call(self, name: str | None) -> None:
        """A chunk says what its utterance is called."""
        if name is not None and name != self._split:
            self.spoken = name

    def end(self) -> None:
        """The utterance has ended: the next one has no name."""
        self.spoken = self._split = None

    def split(self) -> None:
        """The utterance has ended, and its chunks go on."""
        called = self._split or self.spoken
        self.end()
        self._split = called
