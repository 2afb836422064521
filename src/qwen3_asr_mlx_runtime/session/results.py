"""Finished transcriptions → the lines that deliver them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import UNSET

from qwen3_asr_mlx_runtime.engines import api
from qwen3_asr_mlx_runtime.engines.api import Aligned
from qwen3_asr_mlx_runtime.engines.profile import batch_profile, total
from qwen3_asr_mlx_runtime.engines.transcript import TextSegment, Transcript, word_confidence
from qwen3_asr_mlx_runtime.engines.utterance import SAMPLE_RATE
from qwen3_asr_mlx_runtime.errors import BridgeError, LanguageUnsupported, UnsupportedByEngine
from qwen3_asr_mlx_runtime.protocol import transcripts as lines
from qwen3_asr_mlx_runtime.protocol.commands import DECODER_MODES
from qwen3_asr_mlx_runtime.protocol.streams import UtteranceQueued, WordsReady
from qwen3_asr_mlx_runtime.protocol.transcripts import (
    WORDS_UNAVAILABLE,
    Aligner,
    BatchItem,
    BatchTranscript,
    FinalResult,
    ItemError,
    RealtimeBatchFinal,
    Segment,
    TranscriptReply,
    Word,
)
from qwen3_asr_mlx_runtime.session.delivery import Group, Reason
from qwen3_asr_mlx_runtime.session.transcription import StreamUtterance, Transcription
from qwen3_asr_mlx_runtime.settings import AlignDecoder

TEXT_DOUBTFUL = "text_doubtful: its words fit the audio badly"
MIN_CONFIDENCE = 0.35  # mean time_confidence of a text that belongs to its audio: docs/data/accuracy.md


def transcript_reply(transcription: Transcription, transcript: Transcript, load_seconds: float) -> TranscriptReply:
    reply = TranscriptReply(
        audio=transcription.path or "",
        text=transcript.text,
        language=transcript.language,
        raw_text=transcript.raw_text,
        finish_reason=transcript.finish_reason,
        generated_tokens=len(transcript.token_ids),
        generated_token_ids=list(transcript.token_ids),
        audio_embeddings_shape=list(transcript.audio_embeddings_shape),
        audio_output_lengths=list(transcript.audio_output_lengths),
        rms_dbfs=transcription.rms_dbfs,
        decode_seconds=transcript.profile.decode_seconds,
        total_seconds=transcription.total_seconds,
        load_seconds=load_seconds,
        decoder_mode=transcription.options.decoder_mode,
        redecoded=transcript.redecoded,
        profile=transcript.profile,
        warnings=list(transcript.warnings),
    )
    _add_extras(reply, transcription, transcript)
    return reply


def aligned_reply(transcription: Transcription, aligned: Aligned, load_seconds: float) -> lines.Aligned:
    """The reply to a known text."""
    [alignment] = transcription.alignments
    segment = TextSegment(0, transcription.sample_count, alignment.text, alignment.language, "stop")
    words = _words_of_segment(segment, aligned.words)
    confidence = sum(word.time_confidence for word in aligned.words) / len(words) if words else None
    is_doubtful = confidence is not None and confidence < MIN_CONFIDENCE
    return lines.Aligned(
        audio=transcription.path or "",
        language=alignment.language or "",
        words=words,
        confidence=None if confidence is None else round(confidence, 4),
        aligner=Aligner(model=aligned.model, seconds=aligned.seconds, decoder=transcription.options.align_decoder),
        audio_seconds=round(transcription.seconds, 3),
        total_seconds=transcription.total_seconds,
        load_seconds=load_seconds,
        warnings=[*transcription.warnings, *aligned.warnings, *([TEXT_DOUBTFUL] if is_doubtful else [])],
    )


def _add_extras(
    line: TranscriptReply | BatchItem | FinalResult, transcription: Transcription, transcript: Transcript
) -> None:
    """Add what was requested beyond the text, and what only some texts have."""
    options = transcription.options
    if transcript.repaired:
        line.repaired = True
    if options.languages:
        probabilities = transcript.language_probabilities
        line.language_probabilities = probabilities and {name: round(each, 4) for name, each in probabilities.items()}
    if options.logprobs:
        add_logprobs(line, transcript)
    if options.segments:
        line.segments = [
            Segment(
                start=_seconds(each.start),
                end=_seconds(each.end),
                text=each.text,
                finish_reason=each.finish_reason,
                repaired=True if each.repaired else UNSET,
            )
            for each in transcript.segments
        ]
    if transcript.context_echo:
        line.context_echo = True
    if options.words and not transcription.words_pending:
        found = found_words(transcription, transcript)
        line.words = found.words
        line.aligner = found.aligner or UNSET
        line.warnings = [*(line.warnings or []), *found.warnings]


class FoundWords(NamedTuple):
    """`words` is None where none has times, by `error`."""

    words: list[Word] | None
    error: BridgeError | None
    aligner: Aligner | None
    warnings: list[str]


def found_words(transcription: Transcription, transcript: Transcript) -> FoundWords:
    """The words of a transcript whose alignments have ended."""
    outcomes = [alignment.outcome for alignment in transcription.alignments]
    return join_words(transcript, outcomes, transcription.options.align_decoder)


def join_words(
    transcript: Transcript, outcomes: Sequence[Aligned | BridgeError | None], decoder: AlignDecoder
) -> FoundWords:
    """The words of a transcript, by the outcome of each of its segments. Their ranges cover its text. A segment whose
    words have no times is one word, unless none of the segments has any."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BridgeError)]
    done = [outcome for outcome in outcomes if isinstance(outcome, Aligned) and outcome.model]
    reasons = dict.fromkeys(_unavailable(error) for error in errors)
    warnings = [*dict.fromkeys(warning for each in done for warning in each.warnings), *reasons]
    aligner = None
    if done:
        seconds = round(sum(each.seconds for each in done), 4)
        aligner = Aligner(model=done[0].model, seconds=seconds, decoder=decoder)
    if errors and not any(each.words for each in done):
        return FoundWords(None, errors[0], aligner, warnings)
    words = [
        word
        for segment, outcome in zip(transcript.segments, outcomes, strict=True)
        for word in _words_of_segment(segment, outcome.words if isinstance(outcome, Aligned) else None)
    ]
    return FoundWords(_covering(words, transcript.text), None, aligner, warnings)


def _unavailable(error: BridgeError) -> str:
    if isinstance(error, LanguageUnsupported):
        return WORDS_UNAVAILABLE + "language"
    return WORDS_UNAVAILABLE + ("engine" if isinstance(error, UnsupportedByEngine) else error.code)


def _words_of_segment(segment: TextSegment, words: Sequence[api.Word] | None) -> list[Word]:
    """`words`: of the segment's own samples and text; None for one word without times of its own."""
    if words is None:
        return [_word(segment, 0, segment.end - segment.start, 0, len(segment.text), None)]
    return [
        _word(
            segment,
            word.start_ms * SAMPLE_RATE // 1000,
            word.end_ms * SAMPLE_RATE // 1000,
            word.char_start,
            word.char_end,
            word.time_confidence,
        )
        for word in words
    ]


def _word(
    segment: TextSegment, start: int, end: int, char_start: int, char_end: int, time_confidence: float | None
) -> Word:
    """`start` and `end` in samples of the segment."""
    return Word(
        text=segment.text[char_start:char_end].strip(),
        start=_seconds(segment.start + start),
        end=_seconds(segment.start + end),
        char_start=segment.char_start + char_start,
        char_end=segment.char_start + char_end,
        confidence=word_confidence(segment, char_start, char_end),
        time_confidence=time_confidence,
    )


def _covering(words: list[Word], text: str) -> list[Word]:
    """Words whose ranges cover the whole text: what lies between two segments belongs to the word before it."""
    starts = [0, *(word.char_start for word in words[1:]), len(text)]
    for word, (start, end) in zip(words, pairwise(starts), strict=False):
        word.char_start, word.char_end, word.text = start, end, text[start:end].strip()
    return words


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)


def words_ready(transcription: Transcription) -> WordsReady:
    """The line that brings the words of a delivered final."""
    if not isinstance(transcription.result, Transcript):
        raise ValueError("an utterance without a transcript has no words")
    utterance, found = transcription.utterance, found_words(transcription, transcription.result)
    event = WordsReady(
        job=transcription.id,
        stream_id=utterance.stream_id,
        utterance_id=utterance.utterance_id,
        aligner=found.aligner or UNSET,
        warnings=found.warnings,
    )
    if found.words is not None:
        event.words = found.words
    elif found.error is not None:
        event.error = ItemError(code=found.error.code, message=found.error.message)
    return event


def add_logprobs(line: TranscriptReply | BatchItem | FinalResult, transcript: Transcript) -> None:
    """Add the log-probability of each token, and the confidence of the whole."""
    line.generated_token_ids = list(transcript.token_ids)
    line.token_logprobs = [round(logprob, 6) + 0.0 for logprob in transcript.logprobs or ()]  # + 0.0: no -0.0
    line.confidence = transcript.confidence


def batch_reply(transcriptions: Sequence[Transcription], decoder_mode: str, load_seconds: float) -> BatchTranscript:
    """A reply with the items in order. Every transcription has its result."""
    transcripts = [each.result for each in transcriptions if isinstance(each.result, Transcript)]
    return BatchTranscript(
        count=len(transcriptions),
        failed=len(transcriptions) - len(transcripts),
        items=[_batch_item(each) for each in transcriptions],
        total_seconds=total(each.total_seconds for each in transcriptions),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(each.redecoded for each in transcripts),
        profile=batch_profile([each.profile for each in transcripts], f"batch_{decoder_mode}", len(transcriptions)),
    )


def _batch_item(transcription: Transcription) -> BatchItem:
    item = BatchItem(audio=transcription.path or "", text=None)
    _add_result(item, transcription)
    return item


def _add_result(line: BatchItem | FinalResult, transcription: Transcription) -> None:
    """Add the transcript's fields, or the error."""
    match transcription.result:
        case Transcript() as transcript:
            line.text = transcript.text
            line.language = transcript.language
            line.raw_text = transcript.raw_text
            line.finish_reason = transcript.finish_reason
            line.generated_tokens = len(transcript.token_ids)
            line.audio_embeddings_shape = list(transcript.audio_embeddings_shape)
            line.rms_dbfs = transcription.rms_dbfs
            line.decode_seconds = transcript.profile.decode_seconds
            line.redecoded = transcript.redecoded
            line.warnings = list(transcript.warnings)
            _add_extras(line, transcription, transcript)
        case BridgeError() as error:
            line.error = ItemError(code=error.code, message=error.message)
        case None:
            raise ValueError("a transcription without a result cannot be reported")


def utterance_queued(utterance: StreamUtterance, queued: int) -> UtteranceQueued:
    """The reply to an accepted boundary. `queued`: how many utterances wait for a batch, including this one."""
    return UtteranceQueued(
        stream_id=utterance.stream_id,
        utterance_id=utterance.utterance_id,
        samples=utterance.sample_count or 0,
        frames=UNSET if utterance.frames is None else utterance.frames,
        dropped_samples=utterance.dropped or UNSET,
        queued=queued,
        batch_size=utterance.stream.batch_size,
    )


def final_result(transcription: Transcription) -> FinalResult:
    """The result of an utterance that has one."""
    utterance, result = transcription.utterance, transcription.result
    if utterance.finished_at is None:
        raise ValueError("an utterance without a result cannot be delivered")
    final = FinalResult(
        job=transcription.id,
        stream_id=utterance.stream_id,
        utterance_id=utterance.utterance_id,
        source=utterance.source,
        samples=utterance.sample_count,
        queue_seconds=round(utterance.finished_at - utterance.queued_at, 4),
        audio_gap=utterance.audio_gap,
    )
    _add_result(final, transcription)
    if utterance.stream_start is not None and (transcription.options.words or transcription.options.segments):
        final.stream_start = utterance.stream_start
    final.provisional = utterance.provisional or UNSET
    if transcription.words_pending:
        final.words, final.words_pending = None, True
    if isinstance(result, Transcript) and result.verified_tokens is not None:
        final.final_policy, final.verified_tokens = utterance.stream.final_policy, result.verified_tokens
    return final


def realtime_batch_final(group: Group, members: Sequence[Transcription], backend: str) -> RealtimeBatchFinal:
    """The line that delivers these members of a group. `backend`: what decoded them."""
    load_seconds = group.load_seconds if group.request is None else group.request.load_seconds
    line = finals(members, group.reason, load_seconds, backend, group.decoder_mode)
    if group.filled_by is not None:
        line.utterance_id = group.filled_by.utterance.utterance_id
        line.dropped_samples = group.filled_by.utterance.dropped or UNSET
    return line


def finals(
    members: Sequence[Transcription],
    reason: Reason,
    load_seconds: float,
    backend: str,
    requested_mode: str | None = None,
) -> RealtimeBatchFinal:
    """`requested_mode`: named by the request. By default the common mode of all members, or the default mode."""
    modes = {member.options.decoder_mode for member in members}
    decoder_mode = requested_mode or (modes.pop() if len(modes) == 1 else DECODER_MODES[0])
    items = [final_result(member) for member in members]
    transcripts = [member.result for member in members if isinstance(member.result, Transcript)]
    return RealtimeBatchFinal(
        reason=reason,
        count=len(items),
        failed=sum(item.error is not UNSET for item in items),
        items=items,
        total_seconds=total(member.total_seconds for member in members),
        load_seconds=load_seconds,
        decoder_mode=decoder_mode,
        redecoded=sum(transcript.redecoded for transcript in transcripts),
        asr_backend=backend,
        profile=batch_profile(
            [transcript.profile for transcript in transcripts], f"realtime_batch_{decoder_mode}", len(items)
        ),
    )
