"""The audio threads: a file on a slow volume keeps neither main nor the engine waiting."""

import threading
import time
from collections.abc import Callable

from qwen3_asr_mlx_runtime.audio.recording import Recording, read_file
from qwen3_asr_mlx_runtime.errors import AudioUnreadable, BridgeError
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead

ReadFile = Callable[[str, float], Recording]


def _read_file(path: str, max_seconds: float) -> Recording:
    return read_file(path, max_seconds=max_seconds)


class FileReader:
    """Reads each file on a thread of its own, named `audio`, and tells what came of it: one AudioRead or AudioFailed.

    How many are read at a time is for others to say; a thread that hangs in a read is left to itself.
    """

    def __init__(
        self,
        max_seconds: float,
        tell: Callable[[AudioRead | AudioFailed], None],
        read: ReadFile = _read_file,
    ) -> None:
        self._max_seconds = max_seconds
        self._tell = tell
        self._read = read

    def start_reading(self, job_id: int, path: str) -> None:
        try:
            threading.Thread(target=self._run, args=(job_id, path), name="audio", daemon=True).start()
        except RuntimeError:
            self._tell(AudioFailed(job_id, AudioUnreadable("no thread could be started to read the file")))

    def _run(self, job_id: int, path: str) -> None:
        started = time.perf_counter()
        try:
            recording = self._read(path, self._max_seconds)
        except BridgeError as error:
            self._tell(AudioFailed(job_id, error))
        except Exception as error:  # noqa: BLE001 the one boundary of reading: whatever a file provokes fails that file
            self._tell(AudioFailed(job_id, AudioUnreadable(f"the file could not be read: {type(error).__name__}")))
        else:
            seconds = round(time.perf_counter() - started, 4)
            self._tell(AudioRead(job_id, recording.samples, recording.warnings, seconds))
