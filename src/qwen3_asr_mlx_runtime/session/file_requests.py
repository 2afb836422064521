"""Requests about files, from acceptance to their one reply."""

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines.api import Aligned
from qwen3_asr_mlx_runtime.engines.transcript import Transcript
from qwen3_asr_mlx_runtime.errors import (
    BridgeError,
    Cancelled,
    DeviceUnavailable,
    EngineStalled,
    EngineUnavailable,
    ModelError,
    ResourceExhausted,
    ShuttingDown,
    TimedOut,
)
from qwen3_asr_mlx_runtime.protocol.commands import Align, BatchTranscribe, Decoding, Transcribe
from qwen3_asr_mlx_runtime.protocol.streams import Progress
from qwen3_asr_mlx_runtime.session.reply_queue import PendingRequest
from qwen3_asr_mlx_runtime.session.results import aligned_reply, batch_reply, transcript_reply
from qwen3_asr_mlx_runtime.session.scheduler import Scheduler
from qwen3_asr_mlx_runtime.session.transcription import FileRequest, KnownText, Transcription, resolve
from qwen3_asr_mlx_runtime.settings import Settings

_ERRORS_OF_A_REQUEST = (
    Cancelled,
    TimedOut,
    ShuttingDown,
    ModelError,
    DeviceUnavailable,
    EngineStalled,
    EngineUnavailable,
    ResourceExhausted,
)


def start_files(
    request: PendingRequest,
    command: Transcribe | BatchTranscribe | Align,
    scheduler: Scheduler,
    settings: Settings,
) -> None:
    """Read and decode, or align, the files of a request."""
    options = resolve(settings, [command] if isinstance(command, Decoding) else [])
    paths = command.audio if isinstance(command, BatchTranscribe) else [command.audio]
    known = KnownText(command.text, command.language) if isinstance(command, Align) else None
    request.subject = files = FileRequest(request, command)
    files.transcriptions = [scheduler.add_file(files, path, options, known) for path in paths]
    scheduler.expire_after(files.transcriptions, command.timeout_ms)
    for transcription in files.transcriptions:
        scheduler.request_decode(transcription, options)


def file_progress(transcription: Transcription) -> Progress | None:
    """How much of the file has its text; None where the request does not ask for it."""
    files = transcription.origin
    if not isinstance(files, FileRequest) or not isinstance(files.command, Transcribe) or not files.command.progress:
        return None
    done, seconds = round(transcription.done_seconds * 1000), transcription.announced_seconds
    total = None if seconds is None else round(seconds * 1000)
    if total is not None and total < done:
        total = None  # the header is wrong
    request_id = UNSET if files.request.id is None else files.request.id
    return Progress(request_id=request_id, stage="transcribe", done=done, total=total)


def file_finished(files: FileRequest) -> None:
    """A file has its result, or its words: answer the request once all files have theirs."""
    if files.request.answered is not None:
        return
    if any(each.is_unfinished or each.words_pending for each in files.transcriptions):
        return
    if isinstance(files.command, BatchTranscribe):
        _answer_batch(files)
    else:
        _answer_single(files)
    for transcription in files.transcriptions:
        transcription.close()
    files.transcriptions = []


def _answer_single(files: FileRequest) -> None:
    [transcription] = files.transcriptions
    match transcription.result:
        case Transcript() as transcript:
            files.request.answer(transcript_reply(transcription, transcript, files.request.load_seconds))
        case Aligned() as aligned:
            files.request.answer(aligned_reply(transcription, aligned, files.request.load_seconds))
        case BridgeError() as error:
            files.request.refuse(error)


def _answer_batch(files: FileRequest) -> None:
    """One reply for all files; an error reply if the same error of the whole request ended every file."""
    results = [transcription.result for transcription in files.transcriptions]
    whole = [result for result in results if isinstance(result, _ERRORS_OF_A_REQUEST)]
    if len(whole) == len(results) and len({error.code for error in whole}) == 1:
        files.request.refuse(whole[0])
    else:
        mode = files.transcriptions[0].options.decoder_mode
        files.request.answer(batch_reply(files.transcriptions, mode, files.request.load_seconds))
