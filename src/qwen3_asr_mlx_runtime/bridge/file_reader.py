"""Reads files on separate threads, so that a slow volume delays neither the main thread nor the engine."""

import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing

from qwen3_asr_mlx_runtime.audio.segments import read_segments
from qwen3_asr_mlx_runtime.errors import AudioUnreadable, BridgeError
from qwen3_asr_mlx_runtime.session.effects import AudioFailed, AudioRead, ReadAudio


class FileReader:
    """Reads each file on its own thread, named `audio`. Posts one AudioRead for each start and each `read_more`, or an
    AudioFailed, after which no more come.

    The session limits how many are read at a time. A thread that hangs in a read is abandoned.
    """

    def __init__(
        self, max_seconds: float, segment_seconds: float, post: Callable[[AudioRead | AudioFailed], None]
    ) -> None:
        self._max_seconds = max_seconds
        self._segment_seconds = segment_seconds
        self._post = post
        self._more: dict[int, queue.SimpleQueue[bool]] = {}

    def start(self, request: ReadAudio) -> None:
        self._more[request.job_id] = queue.SimpleQueue()
        try:
            threading.Thread(target=self._run, args=(request,), name="audio", daemon=True).start()
        except RuntimeError:
            del self._more[request.job_id]
            error = AudioUnreadable("no thread could be started to read the file")
            self._post(AudioFailed(request.job_id, error))

    def read_more(self, job_id: int) -> None:
        self._continue(job_id, goes_on=True)

    def stop(self, job_id: int) -> None:
        """Close the file once a running read has ended."""
        self._continue(job_id, goes_on=False)

    def _continue(self, job_id: int, *, goes_on: bool) -> None:
        if job_id in self._more:
            self._more[job_id].put(goes_on)

    def _run(self, request: ReadAudio) -> None:
        job_id, more = request.job_id, self._more[request.job_id]
        try:
            longest = math.inf if request.whole else self._segment_seconds
            max_seconds = min(self._max_seconds, request.max_seconds)
            read = read_segments(request.path, longest, max_seconds=max_seconds, track=request.track)
            with closing(read) as segments:
                started = time.perf_counter()
                for segment in segments:
                    seconds = round(time.perf_counter() - started, 4)
                    self._post(
                        AudioRead(
                            job_id,
                            segment.samples,
                            segment.warnings,
                            seconds,
                            segment.is_last,
                            segment.announced_seconds,
                        )
                    )
                    if segment.is_last or not more.get():
                        return
                    started = time.perf_counter()
        except BridgeError as error:
            self._post(AudioFailed(job_id, error))
        except Exception as error:  # noqa: BLE001 the boundary of reading: any failure fails only that file
            self._post(AudioFailed(job_id, AudioUnreadable(f"the file could not be read: {type(error).__name__}")))
        finally:
            self._more.pop(job_id, None)
