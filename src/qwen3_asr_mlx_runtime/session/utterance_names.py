"""The names of a stream's utterances: as a chunk or the boundary says, or else `<stream_id>-<n>`."""

from collections.abc import Callable

from qwen3_asr_mlx_runtime.errors import InvalidParams

IsInUse = Callable[[str, str], bool]  # of a stream's id and the name of an utterance


class UtteranceNames:
    """The names of one stream. `current`: of its open utterance, None as long as that has none."""

    def __init__(self, stream_id: str, is_in_use: IsInUse) -> None:
        self.current: str | None = None
        self._split: str | None = None  # of the part split off, by which chunks may still name the rest
        self._stream_id = stream_id
        self._is_in_use = is_in_use
        self._count = 0

    def next(self) -> str:
        """The next name that counts up. It skips names of utterances without a result."""
        while True:
            self._count += 1
            name = f"{self._stream_id}-{self._count}"
            if name not in (self.current, self._split) and not self._is_in_use(self._stream_id, name):
                return name

    def check(self, name: str | None) -> None:
        """Raises InvalidParams where a chunk names another utterance than the open one."""
        if self.current is not None and name not in (None, self.current, self._split):
            message = "`utterance_id`: another utterance is open; a boundary ends it; the chunk was not taken"
            raise InvalidParams(message, field="utterance_id")

    def set(self, name: str | None) -> None:
        """A chunk names its utterance."""
        if name is not None and name != self._split:
            self.current = name

    def end(self) -> None:
        """The utterance has ended: the next one has no name."""
        self.current = self._split = None

    def split(self) -> None:
        """The utterance has ended, and its chunks go on."""
        name = self._split or self.current
        self.end()
        self._split = name
