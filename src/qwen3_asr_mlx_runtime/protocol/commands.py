"""What a client may ask: every request as a type, with its fields, limits and defaults."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qwen3_asr_mlx_runtime.limits import (
    MAX_ALIGN_CHARACTERS,
    MAX_BATCH_DELAY_MS,
    MAX_BATCH_ITEMS,
    MAX_BATCH_SIZE,
    MAX_CONTEXT_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_KEEP_ALIVE_SECONDS,
    MAX_LANGUAGES,
    MAX_MILLISECONDS,
    MAX_NEW_TOKENS,
    MAX_PARTIAL_INTERVAL_MS,
    MAX_PATH_CHARACTERS,
    MAX_TRACKS,
    MAX_UTTERANCE_ID_CHARACTERS,
    MIN_PARTIAL_INTERVAL_MS,
)
from qwen3_asr_mlx_runtime.terms import TermList

DECODER_MODES = ("sequential", "batched")
WANTS = ("events", "progress")
DEFAULT_STREAM = "default"

Id = str | int
NewTokens = Annotated[int, Meta(ge=0, le=MAX_NEW_TOKENS)]
Languages = Annotated[list[str], Meta(min_length=1, max_length=MAX_LANGUAGES)]
Context = Annotated[str, Meta(max_length=MAX_CONTEXT_CHARACTERS)]
AlignText = Annotated[str, Meta(max_length=MAX_ALIGN_CHARACTERS)]
AudioPath = Annotated[str, Meta(min_length=1, max_length=MAX_PATH_CHARACTERS)]
Track = Annotated[int, Meta(ge=1, le=MAX_TRACKS)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
UtteranceName = Annotated[str, Meta(min_length=1, max_length=MAX_UTTERANCE_ID_CHARACTERS)]
Milliseconds = Annotated[int, Meta(ge=1, le=MAX_MILLISECONDS)]


class Command(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all commands. A field that is null counts as not given."""


class Capabilities(Command, frozen=True, tag="capabilities"):
    """What does this build do? Answered by `capabilities`, also while the model is not loaded."""


class Client(msgspec.Struct, frozen=True):
    """Who is asking; it changes nothing."""

    name: str | None = None
    version: str | None = None


class Hello(Command, frozen=True, kw_only=True, tag="hello"):
    """As `capabilities`, and says what else the client wants to hear: `events`, `progress`.

    `want` replaces what was wanted before; without it nothing changes. `parent_pid`: a process to live and die with.
    `protocols`: what the client speaks, newest first; the reply names what the process speaks.
    """

    want: Annotated[list[Name], Meta(max_length=16)] | None = None
    client: Client | None = None
    parent_pid: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    protocols: Annotated[list[Name], Meta(max_length=16)] | None = None


class Ping(Command, frozen=True, tag="ping"):
    """Are you there? Answered by `pong`, whatever the model does."""


class Status(Command, frozen=True, tag="status"):
    """How are you? Answered by `status`: counters, queues, memory, limits."""


class Cancel(Command, frozen=True, kw_only=True, tag="cancel"):
    """End a request by its id (`target`), or an utterance by its names. Answered by `cancel_result`."""

    target: Id | None = None
    stream_id: Name | None = None
    utterance_id: UtteranceName | None = None


class Start(Command, frozen=True, tag="start"):
    """Load the model. Answered by `ready`.

    `keep_alive_seconds`: from now on unload it after so many idle seconds, 0: after an outcome with nothing waiting,
    negative: never. Idle means no job, no utterance that waits, and no audio in an open one. `words`: then load the
    aligner too; `ready` does not wait for it.
    """

    keep_alive_seconds: Annotated[float, Meta(ge=-1, le=MAX_KEEP_ALIVE_SECONDS)] | None = None
    words: bool | None = None


class Unload(Command, frozen=True, kw_only=True, tag="unload"):
    """Free the memory of the model. Answered by `unloaded`. The next request that needs the model loads it again.

    `drain`: decode first what was accepted before, also what waits for a `flush`; `abort`: end it with `cancelled`.
    What is not unloaded within `timeout_ms` stays loaded.
    """

    mode: Literal["drain", "abort"] = "drain"
    timeout_ms: Milliseconds | None = None


class Decoding(Command, frozen=True, kw_only=True):
    """How to decode, in every request that does. None stands for the stream's, or the process's own setting.

    `max_new_tokens`: 0 means until the model stops. `language`: name, ISO code or `auto`; canonical once decoded.
    `languages`, instead of `language`: the model chooses one of these, or none; the reply has their probabilities.
    `terms`: words, names and phrases that the text is likely to have; none switches those of the outer levels off.
    `decoder_mode`: one after the other (`sequential`) or together with others (`batched`). `drift_guard`: in a
    batch, text that may differ from that of decoding alone is decoded again, alone. `logprobs`: the reply has
    log-probabilities and a confidence. `words`: when each word was said; no text waits for it. `segments`: what was
    decoded by itself, with its times.
    """

    max_new_tokens: NewTokens | None = None
    language: str | None = None
    languages: Languages | None = None
    context: Context | None = None
    terms: TermList | None = None
    decoder_mode: str | None = None
    drift_guard: bool | None = None
    logprobs: bool | None = None
    words: bool | None = None
    segments: bool | None = None


class Transcribe(Decoding, frozen=True, kw_only=True, tag="transcribe"):
    """Transcribe the file at `audio`. Answered by `transcript`. Loads the model if need be.

    `track`, here and elsewhere: of the audio tracks of the file, from 1. `timeout_ms`, here and elsewhere: what is not
    transcribed so long after the request fails with `timeout`. `progress`: `progress` events, if they are wanted, say
    how much of the file has its text.
    """

    audio: AudioPath
    track: Track | None = None
    timeout_ms: Milliseconds | None = None
    progress: bool | None = None


class BatchTranscribe(Decoding, frozen=True, kw_only=True, tag="batch_transcribe"):
    """Transcribe several files. Answered by `batch_transcript`; an item that fails, or is no path, fails alone."""

    audio: Annotated[list[str], Meta(min_length=1, max_length=MAX_BATCH_ITEMS)]
    track: Track | None = None
    timeout_ms: Milliseconds | None = None


class Align(Command, frozen=True, kw_only=True, tag="align"):
    """Find when each word of a known `text` is said in the file at `audio`. Answered by `aligned`.

    `language`: name or ISO code of the text; it decides where a word ends.
    """

    audio: AudioPath
    text: AlignText
    language: str
    track: Track | None = None
    timeout_ms: Milliseconds | None = None


class StartStream(Decoding, frozen=True, kw_only=True, tag="start_stream"):
    """Open a stream of 16-bit PCM. Answered by `stream_ready` once the model is loaded.

    `batch_size`: the boundary that makes so many utterances wait fills the batch. `max_batch_delay_ms`: how long the
    oldest of them waits at most before decoding starts. `auto_flush`: batches come as events, which must be wanted.
    `restart`: replace a stream of this name. `on_limit`: what becomes of an utterance that grows too long.
    `partials`: send the text of the open utterance, at most every `partial_interval_ms` of audio. `final_policy`: every
    final is `guarded`; another value is echoed with a warning. `effort`: with `low`, partials take a quarter of the
    engine's time at most. How to decode holds for the utterances of the stream.
    """

    stream_id: Name = DEFAULT_STREAM
    sample_rate: int = 16_000
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH_SIZE)] = 4
    max_batch_delay_ms: Annotated[int, Meta(ge=0, le=MAX_BATCH_DELAY_MS)] = 120
    auto_flush: bool = False
    restart: bool = False
    on_limit: Literal["refuse", "split"] = "refuse"
    partials: bool = False
    partial_interval_ms: Annotated[int, Meta(ge=MIN_PARTIAL_INTERVAL_MS, le=MAX_PARTIAL_INTERVAL_MS)] = 500
    final_policy: Literal["guarded", "strict", "fast"] = "guarded"
    effort: Literal["normal", "low"] = "normal"


class AudioChunk(Command, frozen=True, kw_only=True, tag="audio_chunk"):
    """More audio of a stream: `pcm16` is base64 of little-endian samples. Answered by `partial_result`; with events
    wanted and without `id` by nothing, and its failure by a `stream_error` event. `utterance_id`: of the utterance that
    it belongs to, all chunks of one the same."""

    pcm16: str
    stream_id: Name = DEFAULT_STREAM
    utterance_id: UtteranceName | None = None
    seq: Annotated[int, Meta(ge=0)] | None = None
    sample_rate: int | None = None


class Pause(Command, frozen=True, kw_only=True, tag="pause"):
    """The speaker may have ended: compute the final of the open utterance, or of its first `samples` PCM frames, before
    its boundary. Answered by `paused`, at once. Speech that goes on needs no message."""

    stream_id: Name = DEFAULT_STREAM
    samples: Annotated[int, Meta(ge=1)] | None = None


class Boundary(Decoding, frozen=True, kw_only=True):
    """An utterance ends: the file `audio`, or inline `pcm16`, or else what the stream has in its buffer.

    `samples`: it ends behind so many PCM frames of the open utterance, at the stream's rate; the `rest` begins the next
    one, or is dropped. Answered by `utterance_queued`, or, where it fills the batch of a stream without `auto_flush`,
    by `realtime_batch_final`. Then `decoder_mode`, `drift_guard` and `max_new_tokens` hold for all in that batch that
    had none of their own.
    """

    stream_id: Name = DEFAULT_STREAM
    utterance_id: UtteranceName | None = None
    audio: AudioPath | None = None
    pcm16: str | None = None
    sample_rate: int | None = None
    samples: Annotated[int, Meta(ge=1)] | None = None
    rest: Literal["keep", "drop"] = "keep"
    timeout_ms: Milliseconds | None = None


class EndUtterance(Boundary, frozen=True, kw_only=True, tag="end_utterance"):
    __doc__ = Boundary.__doc__


class VadBoundary(Boundary, frozen=True, kw_only=True, tag="vad_boundary"):
    __doc__ = Boundary.__doc__


class Flush(Decoding, frozen=True, kw_only=True, tag="flush"):
    """Transcribe all utterances that wait, or those of one stream. Answered by `realtime_batch_final` when all that
    waited when it was read are done. How to decode holds for those that had nothing of their own."""

    stream_id: Name | None = None
    timeout_ms: Milliseconds | None = None


class StopStream(Command, frozen=True, kw_only=True, tag="stop_stream"):
    """Close a stream. Its waiting utterances are finished (`drain`) or cancelled (`discard`); audio behind its last
    boundary is dropped and counted. Answered by `stream_stopped`."""

    stream_id: Name = DEFAULT_STREAM
    mode: Literal["drain", "discard"] = "drain"


class Stop(Command, frozen=True, kw_only=True, tag="stop"):
    """Finish what was accepted (`drain`), or only say what is not (`abort`); answer `stopped`, and exit.

    `deadline_ms`: what is not finished so long after this request is not waited for.
    """

    mode: Literal["drain", "abort"] = "drain"
    deadline_ms: Annotated[int, Meta(ge=0, le=MAX_MILLISECONDS)] | None = None


COMMANDS: dict[str, type[Command]] = {
    "capabilities": Capabilities,
    "hello": Hello,
    "ping": Ping,
    "status": Status,
    "cancel": Cancel,
    "start": Start,
    "unload": Unload,
    "transcribe": Transcribe,
    "batch_transcribe": BatchTranscribe,
    "align": Align,
    "start_stream": StartStream,
    "audio_chunk": AudioChunk,
    "pause": Pause,
    "end_utterance": EndUtterance,
    "vad_boundary": VadBoundary,
    "flush": Flush,
    "stop_stream": StopStream,
    "stop": Stop,
}
