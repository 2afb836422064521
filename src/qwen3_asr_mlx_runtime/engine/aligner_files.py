"""The aligner's files: found, downloaded and checked on a thread of their own, which never touches MLX."""

import os
import threading
from contextlib import ExitStack
from pathlib import Path

from qwen3_asr_mlx_runtime.checkpoint.files import check_files
from qwen3_asr_mlx_runtime.checkpoint.hub import Hub
from qwen3_asr_mlx_runtime.checkpoint.integrity import Verified, unchanged, verify
from qwen3_asr_mlx_runtime.checkpoint.resolve import resolve_aligner
from qwen3_asr_mlx_runtime.errors import BridgeError, ModelError, ModelIncomplete, ModelNotFound
from qwen3_asr_mlx_runtime.model_name import is_repository
from qwen3_asr_mlx_runtime.settings import Settings


class AlignerFiles(threading.Thread):
    """One attempt. `changed` is set once a download begins or the attempt has ended. After its end there is an `error`,
    or a `folder` whose files are guarded by `guard` against a change while they are read."""

    def __init__(self, name: str, settings: Settings, verified: Verified) -> None:
        super().__init__(name="aligner-files", daemon=True)
        self.changed = threading.Event()
        self.is_downloading = False
        self.has_ended = False
        self.error: BridgeError | None = None
        self.folder = Path()
        self.guard = ExitStack()
        self._name = name
        self._settings = settings
        self._verified = verified

    def run(self) -> None:
        try:
            self.folder = self._find()
            with ExitStack() as stack:
                stack.enter_context(unchanged(files := check_files(self.folder)))
                verify(files, self._settings.verify, self._verified, lambda *_: None)
                self.guard = stack.pop_all()
        except Exception as error:  # noqa: BLE001 a thread's boundary: whatever a checkpoint provokes becomes a code
            self.error = load_failure(error)
        self.has_ended = True
        self.changed.set()

    def _find(self) -> Path:
        hub = Hub(cache=self._settings.cache_dir, stall_seconds=self._settings.stall_seconds)
        try:
            return resolve_aligner(self._name, hub, local_files_only=True)
        except (ModelNotFound, ModelIncomplete):
            if self._settings.local_files_only or os.path.isdir(self._name) or not is_repository(self._name):  # noqa: PTH112 no error for an odd name
                raise
        self.is_downloading = True
        self.changed.set()
        return resolve_aligner(self._name, hub)


def load_failure(error: Exception) -> BridgeError:
    """The error of a load that failed by an exception."""
    if isinstance(error, BridgeError):
        return error
    if isinstance(error, OSError):
        return ModelNotFound("the aligner's files cannot be read", reason=type(error).__name__)
    return ModelError(f"the aligner could not be loaded: {type(error).__name__}")
