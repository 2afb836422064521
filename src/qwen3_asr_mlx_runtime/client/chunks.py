"""The audio of one stream as numbered chunks, each as long as a microphone delivers."""

import threading
from collections.abc import Iterator

from qwen3_asr_mlx_runtime.client.connection import Connection
from qwen3_asr_mlx_runtime.client.kept import Era
from qwen3_asr_mlx_runtime.client.messages import encoded_pcm
from qwen3_asr_mlx_runtime.protocol.commands import AudioChunk
from qwen3_asr_mlx_runtime.protocol.streams import StreamReady


class Chunks:
    """Sends the chunks of one stream. Chunks have no reply. `process`: that of the stream, or (`resend`) the era of
    those that it outlives."""

    def __init__(self, process: Connection | Era, ready: StreamReady, chunk_seconds: float) -> None:
        self._process = process
        self.stream_id = ready.stream_id
        self._size = 2 * max(1, int(ready.sample_rate * chunk_seconds))
        self._seq = 0
        self._lock = threading.Lock()

    @property
    def connection(self) -> Connection | None:
        """The stream's process; None: the one that runs. Raises the error by which the stream's era has ended."""
        if isinstance(self._process, Connection):
            return self._process
        if self._process.error is not None:
            raise self._process.error.again()
        return None

    def cut(self, pcm16: bytes | bytearray | memoryview) -> Iterator[memoryview]:
        """Raises ValueError for half a sample, before the first chunk."""
        view = memoryview(pcm16).cast("B")
        if len(view) % 2:
            raise ValueError("expected whole 16-bit samples, got an odd number of bytes")
        return (view[start : start + self._size] for start in range(0, len(view), self._size))

    def send(self, connection: Connection, pcm16: memoryview, utterance_id: str | None) -> None:
        with self._lock:
            chunk = AudioChunk(
                pcm16=encoded_pcm(pcm16), stream_id=self.stream_id, utterance_id=utterance_id, seq=self._seq
            )
            connection.send(chunk)
            self._seq += 1
