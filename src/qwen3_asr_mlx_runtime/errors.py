"""Every error the runtime reports, one class per stable wire code.

BridgeError
├── RequestError   the message is at fault: nothing was changed, send a corrected one
├── AudioError     the audio of one utterance is at fault: other utterances are not affected
├── ModelError     the checkpoint or its download is at fault: nothing can be transcribed until that is fixed
├── EngineError    the computation failed or was cancelled
├── AlignError     the words of one text get no times: its transcript is not affected
└── ResourceExhausted

A message states what was expected, what came and where; it never quotes audio or the text of a transcript.
"""

from typing import Any, ClassVar


class BridgeError(Exception):
    """An error with a stable `code`; `data` holds its details for programs."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class RequestError(BridgeError):
    code = "invalid_request"


class InvalidJson(RequestError):
    code = "invalid_json"


class InvalidUtf8(RequestError):
    code = "invalid_utf8"


class LineTooLong(RequestError):
    code = "line_too_long"


class UnknownType(RequestError):
    code = "unknown_type"


class InvalidParams(RequestError):
    code = "invalid_params"


class DuplicateId(RequestError):
    code = "duplicate_id"


class UnknownStream(RequestError):
    code = "unknown_stream"


class StreamExists(RequestError):
    code = "stream_exists"


class SeqOutOfOrder(RequestError):
    code = "seq_out_of_order"


class BadBase64(RequestError):
    code = "bad_base64"


class OddPcmLength(RequestError):
    code = "odd_pcm_length"


class UnsupportedSampleRate(RequestError):
    code = "unsupported_sample_rate"


class NoAudio(RequestError):
    code = "no_audio"


class LimitExceeded(RequestError):
    code = "limit_exceeded"


class Busy(RequestError):
    code = "busy"
    retryable = True


class ShuttingDown(RequestError):
    code = "shutting_down"


class AudioError(BridgeError):
    code = "audio_unsupported"


class AudioNotFound(AudioError):
    code = "audio_not_found"


class AudioUnreadable(AudioError):
    code = "audio_unreadable"


class AudioNotRegularFile(AudioError):
    code = "audio_not_regular_file"


class AudioUnsupported(AudioError):
    code = "audio_unsupported"


class AudioEmpty(AudioError):
    code = "audio_empty"


class AudioCorrupt(AudioError):
    code = "audio_corrupt"


class AudioChanged(AudioError):
    code = "audio_changed"


class AudioReadTimeout(AudioError):
    code = "audio_read_timeout"
    retryable = True


class AudioTooLong(AudioError):
    code = "audio_too_long"


class PathNotAllowed(AudioError):
    code = "path_not_allowed"


class ModelError(BridgeError):
    code = "model_unsupported"


class ModelNotFound(ModelError):
    code = "model_not_found"


class ModelIncomplete(ModelError):
    code = "model_incomplete"


class ModelCorrupt(ModelError):
    code = "model_corrupt"


class ModelUnsupported(ModelError):
    code = "model_unsupported"


class ModelChanged(ModelError):
    code = "model_changed"
    retryable = True


class DownloadFailed(ModelError):
    code = "download_failed"
    retryable = True


class DownloadRefused(DownloadFailed):
    """The same request would be refused again: a token, or a right, is missing."""

    code = "download_failed"
    retryable = False


class DiskFull(ModelError):
    code = "disk_full"


class EngineError(BridgeError):
    code = "decode_failed"


class DecodeFailed(EngineError):
    code = "decode_failed"


class NonFiniteOutput(EngineError):
    code = "non_finite_output"


class OutOfMemory(EngineError):
    """Alone and after everything else was let go, this audio does not fit; another time, or shorter, it may."""

    code = "out_of_memory"
    retryable = True


class GpuError(EngineError):
    """The GPU gave up what it was doing, as when its watchdog finds it busy for too long."""

    code = "gpu_error"
    retryable = True


class Cancelled(EngineError):
    code = "cancelled"


class TimedOut(EngineError):
    code = "timeout"
    retryable = True


class EngineStalled(EngineError):
    code = "engine_stalled"
    retryable = True


class DeviceUnavailable(EngineError):
    """No device to compute on: on a Mac no Metal device, as in some virtual machines."""

    code = "device_unavailable"


class EngineUnavailable(EngineError):
    code = "engine_unavailable"


class EngineCrashed(EngineError):
    """The engine ended twice while it decoded this audio and nothing else."""

    code = "engine_crashed"


class EngineUnreachable(EngineError):
    """No server of a remote engine answers, or each asks to come later."""

    code = "engine_unreachable"
    retryable = True


class EngineRejected(EngineError):
    """A server of a remote engine refuses this request, as for a token that is missing."""

    code = "engine_rejected"


class EngineIncompatible(EngineError):
    """A server of a remote engine has another model, or answers otherwise than vLLM does."""

    code = "engine_incompatible"


class UnsupportedByEngine(EngineError):
    """What a remote engine cannot do. `data` names it: `feature`."""

    code = "unsupported_by_engine"


class EngineLost(EngineUnavailable):
    """This process can compute nothing more; a new one may."""


class AlignError(BridgeError):
    code = "language_unsupported"


class LanguageUnsupported(AlignError):
    """The aligner was not trained on this language."""

    code = "language_unsupported"


class TooManyUnits(AlignError):
    """More words than the audio has room for, or than the aligner has positions for."""

    code = "too_many_units"


class AlignerDownloading(AlignError):
    """The aligner's files are on their way; once they are there, the same request succeeds."""

    code = "aligner_downloading"
    retryable = True


class ResourceExhausted(BridgeError):
    """The system denies a resource that may become free again: descriptors, threads."""

    code = "resource_exhausted"
    retryable = True


def error_classes() -> list[type[BridgeError]]:
    """BridgeError and every class above that derives from it."""
    classes = [BridgeError]
    for known in classes:
        classes += known.__subclasses__()
    return classes


def error_codes() -> list[str]:
    """Every code that this build can send, sorted."""
    return sorted({known.code for known in error_classes()} | {"environment_missing"})
