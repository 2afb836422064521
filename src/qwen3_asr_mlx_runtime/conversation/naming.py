"""What the utterances of a stream are called: as a chunk or the boundary says, or else `<stream_id>-<n>`."""

from qwen3_asr_mlx_runtime.errors import InvalidParams


class Names:
    """The names of one stream. `spoken`: of the utterance that is being spoken, None as long as it has none."""

    def __init__(self, stream_id: str) -> None:
        self.spoken: str | None = None
        self._split: str | None = None  # of what was split off, by which chunks may still call the rest
        self._stream_id = stream_id
        self._count = 0

    def next(self) -> str:
        """A name that counts up."""
        self._count += 1
        return f"{self._stream_id}-{self._count}"

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
