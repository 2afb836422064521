// Made by scripts/generate-types from docs/protocol.schema.json: do not edit.

// qwen3-asr-mlx-jsonl-v1. Each line is one message. `Request`: sent by a client. `Reply`: answers a request. `Event`:
// answers no request, sent if wanted. Members that are not listed are allowed. In requests null means an absent member,
// and a string of digits may replace a number.

export type Request =
  | Capabilities
  | Hello
  | Ping
  | Status
  | Cancel
  | Start
  | Unload
  | Transcribe
  | BatchTranscribe
  | Align
  | StartStream
  | AudioChunk
  | Pause
  | EndUtterance
  | VadBoundary
  | Flush
  | StopStream
  | Stop;

export type Reply = (
  | CapabilitiesReply
  | Pong
  | StatusReply
  | CancelResult
  | Ready
  | Unloaded
  | TranscriptReply
  | BatchTranscript
  | Aligned
  | StreamReady
  | PartialResult
  | Paused
  | UtteranceQueued
  | RealtimeBatchFinal
  | StreamStopped
  | Stopped
  | ErrorReply
  | Fatal
) & { event?: never };

export type Event = (
  | RealtimeBatchFinal
  | WordsReady
  | PartialResult
  | Progress
  | EngineRestarting
  | StreamError
) & { event: true; n: number; id?: never };

/** A line from the process; events have `line.event`. Ignore lines of unknown types. */
export type Line = Reply | Event;

/** Chosen by the client, unlike that of any request in flight, and echoed by the reply. */
export type Id = string | number;

/** Codes are only added; one that is not known here is treated by `retryable`. */
export type ErrorCode =
  | "aligner_downloading"
  | "audio_changed"
  | "audio_corrupt"
  | "audio_empty"
  | "audio_not_found"
  | "audio_not_regular_file"
  | "audio_read_timeout"
  | "audio_too_long"
  | "audio_unreadable"
  | "audio_unsupported"
  | "bad_base64"
  | "busy"
  | "cancelled"
  | "decode_failed"
  | "device_unavailable"
  | "disk_full"
  | "download_failed"
  | "duplicate_id"
  | "engine_crashed"
  | "engine_incompatible"
  | "engine_rejected"
  | "engine_stalled"
  | "engine_unavailable"
  | "engine_unreachable"
  | "environment_missing"
  | "gpu_error"
  | "internal_error"
  | "invalid_json"
  | "invalid_params"
  | "invalid_request"
  | "invalid_utf8"
  | "language_unsupported"
  | "limit_exceeded"
  | "line_too_long"
  | "model_changed"
  | "model_corrupt"
  | "model_incomplete"
  | "model_not_found"
  | "model_unsupported"
  | "no_audio"
  | "non_finite_output"
  | "odd_pcm_length"
  | "out_of_memory"
  | "path_not_allowed"
  | "resource_exhausted"
  | "seq_out_of_order"
  | "shutting_down"
  | "stream_exists"
  | "timeout"
  | "too_many_units"
  | "unknown_stream"
  | "unknown_type"
  | "unsupported_by_engine"
  | "unsupported_sample_rate"
  | (string & {}); // others are strings, too

/**
 * Find when each word of a known `text` is said in the file at `audio`. Answered by `aligned`. `language`: name or ISO
 * code of the text; it decides where a word ends.
 */
export interface Align {
  type: "align";
  /** 1 to 4096 characters. */
  audio: string;
  /** At most 16384 characters. */
  text: string;
  language: string;
  /** 1 to 99. */
  track?: number | null;
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/**
 * When each word of a known text is said. `words` as in a `transcript`, each with a `confidence` of null; none for a
 * text without letters and digits. `confidence`: the mean of their `time_confidence`, null without words. A warning
 * `text_doubtful` says that the text hardly belongs to the audio. `total_seconds`: of reading and aligning;
 * `load_seconds` as in a `transcript`.
 */
export interface Aligned {
  type: "aligned";
  id?: string | number | null;
  warnings?: string[];
  audio: string;
  language: string;
  words: Word[];
  confidence: number | null;
  aligner: Aligner;
  audio_seconds: number;
  total_seconds: number | null;
  load_seconds: number;
}

/** What gave the words their times. `seconds`: of work. `decoder`: `viterbi` or `official`. */
export interface Aligner {
  model: string;
  seconds: number;
  decoder: string;
}

/**
 * More audio of a stream: `pcm16` is base64 of little-endian samples. Answered by `partial_result`; with events wanted
 * and without `id` by nothing, and its failure by a `stream_error` event. `utterance_id`: of the utterance that it
 * belongs to, all chunks of one the same.
 */
export interface AudioChunk {
  type: "audio_chunk";
  pcm16: string;
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** 1 to 148 characters. */
  utterance_id?: string | null;
  /** At least 0. */
  seq?: number | null;
  sample_rate?: number | null;
  id?: Id;
}

/**
 * `formats`: the containers of files that can be read, by libsndfile's names; null where no conversation is held.
 * `stream_rates`: of the PCM of streams.
 */
export interface AudioInput {
  formats: string[] | null;
  stream_rates: Rates;
}

/**
 * One file of a batch; its fields have the same meaning as in a `transcript`. With an `error`, `text` is null and the
 * other results of the model are absent. `generated_token_ids` are present together with `token_logprobs`.
 */
export interface BatchItem {
  audio: string;
  text: string | null;
  language?: string | null;
  language_probabilities?: { [name: string]: number } | null;
  raw_text?: string;
  finish_reason?: string;
  generated_tokens?: number;
  generated_token_ids?: number[];
  audio_embeddings_shape?: number[];
  token_logprobs?: number[];
  confidence?: Confidence | null;
  words?: Word[] | null;
  aligner?: Aligner;
  segments?: Segment[];
  context_echo?: true;
  repaired?: true;
  rms_dbfs?: number | null;
  decode_seconds?: number | null;
  redecoded?: number;
  warnings?: string[];
  error?: ItemError;
}

/** Transcribe several files. Answered by `batch_transcript`; an item that fails, or is no path, fails alone. */
export interface BatchTranscribe {
  type: "batch_transcribe";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 256 items. */
  audio: string[];
  /** 1 to 99. */
  track?: number | null;
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/**
 * One item for each requested file, in order; `failed` of them have an `error` instead of a text. `redecoded` is the
 * sum over the items.
 */
export interface BatchTranscript {
  type: "batch_transcript";
  id?: string | number | null;
  warnings?: string[];
  count: number;
  failed: number;
  items: BatchItem[];
  total_seconds: number | null;
  load_seconds: number;
  use_cache: boolean;
  decoder_mode: string;
  redecoded: number;
  profile: Profile;
}

/** End a request by its id (`target`), or an utterance by its names. Answered by `cancel_result`. */
export interface Cancel {
  type: "cancel";
  target?: string | number | null;
  /** 1 to 128 characters. */
  stream_id?: string | null;
  /** 1 to 148 characters. */
  utterance_id?: string | null;
  id?: Id;
}

/**
 * `cancelled`: it will be answered so. `cancelling`: it is being decoded, and may still win. `already_done`: it was
 * answered before. `unknown`: nothing of that name is or was there, as far as is remembered. `dropped_samples`: of an
 * open utterance; otherwise absent.
 */
export interface CancelResult {
  type: "cancel_result";
  id?: string | number | null;
  warnings?: string[];
  state: "already_done" | "cancelled" | "cancelling" | "unknown";
  dropped_samples?: number;
}

/** What does this build do? Answered by `capabilities`, also while the model is not loaded. */
export interface Capabilities {
  type: "capabilities";
  id?: Id;
}

/**
 * What this build does. `features` holds what the first runtime of this protocol did not do. `engine`: what decodes.
 * `aligner`: what gives words their times, null for nothing. `session` is random in each process, null from `--print-
 * capabilities`; `want`: the events that the client gets.
 */
export interface CapabilitiesReply {
  type: "capabilities";
  id?: string | number | null;
  warnings?: string[];
  runtime: string;
  version: string;
  server: Server;
  session: string | null;
  protocol: string;
  protocols: string[];
  model: string;
  aligner: string | null;
  sample_rate: number;
  audio_format: string;
  audio: AudioInput;
  vad_boundary_source: string;
  use_cache: boolean;
  decoder_modes: string[];
  messages: string[];
  features: string[];
  want: string[];
  error_codes: string[];
  languages: { [name: string]: string };
  limits: Limits;
  models: Models;
  engine?: EngineInfo;
}

/** Who is asking; it changes nothing. */
export interface Client {
  name?: string | null;
  version?: string | null;
}

/**
 * Probabilities of an utterance's tokens, those of its language and its end among them: their geometric mean, and the
 * smallest.
 */
export interface Confidence {
  mean: number;
  minimum: number;
}

/** Since the process started. `errors` counts error replies, failed items and stream errors by their code. */
export interface Counters {
  requests: number;
  transcripts: number;
  audio_seconds: number;
  chunks: number;
  events: number;
  errors: { [name: string]: number };
}

/**
 * An utterance ends: the file `audio`, or inline `pcm16`, or else what the stream has in its buffer. `samples`: it ends
 * behind so many PCM frames of the open utterance, at the stream's rate; the `rest` begins the next one, or is dropped.
 * Answered by `utterance_queued`, or, where it fills the batch of a stream without `auto_flush`, by
 * `realtime_batch_final`. Then `decoder_mode`, `drift_guard` and `max_new_tokens` hold for all in that batch that had
 * none of their own.
 */
export interface EndUtterance {
  type: "end_utterance";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** 1 to 148 characters. */
  utterance_id?: string | null;
  /** 1 to 4096 characters. */
  audio?: string | null;
  pcm16?: string | null;
  sample_rate?: number | null;
  /** At least 1. */
  samples?: number | null;
  /** Default: `"keep"`. */
  rest?: "drop" | "keep";
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/**
 * What decodes: a `local` model, or a `remote` server, with its name and version and that of its model. `exact`:
 * streamed, batched and whole audio have the same text. `features`: those that the engine has a say in.
 * `forced_language`: how a named language is forced: by the `prompt`, by a `chat_template` in the request, or by the
 * path of `transcriptions`; null where it is not. What only a server can answer is null until one has.
 */
export interface EngineInfo {
  kind: "local" | "remote";
  server: string | null;
  version: string | null;
  model: string | null;
  exact: boolean;
  features: string[];
  forced_language: "chat_template" | "prompt" | "transcriptions" | null;
}

/**
 * The engine has ended, and another is started: what had no outcome is decoded again. `reason`: the name of the signal
 * that ended it, `exit_N`, `stalled`, `corrupt_frame`, `gpu_ignored` or `non_finite_output`. `attempt` counts starts
 * without a finished job between.
 */
export interface EngineRestarting {
  type: "engine_restarting";
  event: true;
  n: number;
  reason: string;
  attempt: number;
}

/** The request failed. `code` never changes its meaning; `retryable`: the same request may succeed later. */
export interface ErrorReply {
  type: "error";
  id?: string | number | null;
  warnings?: string[];
  code: ErrorCode;
  message: string;
  retryable: boolean;
  data: { [name: string]: unknown };
}

/** The process cannot go on, and ends: a line that answers no request. */
export interface Fatal {
  type: "fatal";
  id?: string | number | null;
  warnings?: string[];
  code: ErrorCode;
  message: string;
  retryable: boolean;
}

/**
 * The outcome of an utterance. `job` is unique in the process. `source`: a file, inline PCM, or the stream's buffer;
 * `samples` at 16 kHz, null if the file was never read. With an `error`, `text` and the other results of the model are
 * null. `audio_gap`: a chunk of it was rejected or is missing. `queue_seconds`: from the boundary to the outcome,
 * decoding included. `generated_token_ids`, `token_logprobs` and `confidence` are absent unless `logprobs` was
 * requested. `final_policy` and `verified_tokens` (tokens of the last partial that the final accepted from the draft)
 * are absent without partials. `language_probabilities`, `words`, `aligner`, `segments`, `context_echo` and `repaired`
 * as in a `transcript`; `words_pending`: `words` is null, and follows in `words_ready`. `stream_start`: seconds from
 * the first sample of the stream to that of the utterance, present with `words` or `segments` if the audio came in
 * chunks. `provisional`: whether the final was `ready` at the boundary, was being computed, or neither; present after a
 * `pause` of the utterance.
 */
export interface FinalResult {
  type: "final_result";
  job: number;
  stream_id: string;
  utterance_id: string;
  source: "audio" | "buffer" | "pcm16";
  samples: number | null;
  text: string | null;
  language: string | null;
  language_probabilities?: { [name: string]: number } | null;
  raw_text: string | null;
  finish_reason: string | null;
  generated_tokens: number | null;
  generated_token_ids?: number[];
  audio_embeddings_shape: number[] | null;
  token_logprobs?: number[];
  confidence?: Confidence | null;
  words?: Word[] | null;
  words_pending?: true;
  provisional?: "none" | "ready" | "running";
  aligner?: Aligner;
  segments?: Segment[];
  context_echo?: true;
  repaired?: true;
  stream_start?: number;
  rms_dbfs: number | null;
  decode_seconds: number | null;
  redecoded: number | null;
  final_policy?: string;
  verified_tokens?: number;
  queue_seconds: number;
  audio_gap: boolean;
  warnings: string[];
  error?: ItemError;
}

/**
 * Transcribe all utterances that wait, or those of one stream. Answered by `realtime_batch_final` when all that waited
 * when it was read are done. How to decode holds for those that had nothing of their own.
 */
export interface Flush {
  type: "flush";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 128 characters. */
  stream_id?: string | null;
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/** A later `seq` arrived than the expected one. */
export interface Gap {
  expected: number;
  got: number;
}

/**
 * As `capabilities`, and says what else the client wants to hear: `events`, `progress`. `want` replaces what was wanted
 * before; without it nothing changes. `parent_pid`: a process to live and die with. `protocols`: what the client
 * speaks, newest first; the reply names what the process speaks.
 */
export interface Hello {
  type: "hello";
  /** At most 16 items. */
  want?: string[] | null;
  client?: Client | null;
  /** 1 to 2147483647. */
  parent_pid?: number | null;
  /** At most 16 items. */
  protocols?: string[] | null;
  id?: Id;
}

export interface ItemError {
  code: ErrorCode;
  message: string;
}

/** Over `max_pending_requests` a request with an `id` is `busy`; over others it fails. */
export interface Limits {
  max_line_bytes: number;
  max_read_ahead_bytes: number;
  max_output_queue_bytes: number;
  max_pending_requests: number;
  max_pending_audio_seconds: number;
  max_pending_utterances: number;
  max_streams: number;
  max_utterance_seconds: number;
  max_audio_seconds: number;
  gpu_share: number;
  max_chunk_seconds: number;
  max_new_tokens: number;
  max_context_characters: number;
  max_languages: number;
  max_terms: number;
  max_term_characters: number;
  max_align_seconds: number;
  max_align_characters: number;
  max_batch_size: number;
  max_batch_rows: number;
  max_batch_items: number;
  min_partial_interval_ms: number;
  max_partial_interval_ms: number;
  max_keep_alive_seconds: number;
}

/**
 * Resident memory, now and at its peak; what macOS charges, null elsewhere; and MLX's peak, active and cached buffers.
 * Of a bridge, `rss` and `footprint` are the sum of its `process`es, the rest is the worker's; while there is none,
 * `rss_peak` is the bridge's.
 */
export interface Memory {
  rss_bytes: number | null;
  rss_mb: number | null;
  footprint_bytes: number | null;
  footprint_mb: number | null;
  rss_peak_bytes: number | null;
  rss_peak_mb: number | null;
  mlx_peak_bytes: number | null;
  mlx_peak_mb: number | null;
  mlx_active_bytes: number | null;
  mlx_active_mb: number | null;
  mlx_cache_bytes: number | null;
  mlx_cache_mb: number | null;
  process: Processes | null;
}

export interface Models {
  efficiency: string;
  accuracy_candidate: string;
}

/**
 * The reply to a chunk, which is ignored if `duplicate`; as an event (`event` true, numbered `n`): a partial.
 * `samples_buffered` and `chunks` of the open utterance. `text`: its latest hypothesis, of its first `audio_seconds`;
 * empty, and the fields that belong to it absent, unless the stream has `partials`. `revision` counts the hypotheses of
 * the utterance from 1, 0 before the first. `stable_text` only grows within an utterance. `changed_from`: the first
 * code point of `text` that differs from the last partial that was written for this utterance. `settled_ms`: audio
 * since `text` last changed. `ends_sentence`: `text` ends with a sentence mark, which has `ends_sentence_probability`.
 * `trailing_silence_ms`: at the end of the audio that has come. Only events have `seconds` (of work), `queue_seconds`
 * (from the chunk that made it due), `tokens`, and `verified_tokens` (those of them accepted from the draft).
 * `interval_ms`: of audio before the next partial, where a remote engine sustains no shorter one than this; otherwise
 * absent.
 */
export interface PartialResult {
  type: "partial_result";
  id?: string | number | null;
  warnings?: string[];
  event?: true;
  n?: number;
  stream_id: string;
  utterance_id?: string;
  revision?: number;
  stable_text?: string;
  text: string;
  changed_from?: number;
  language?: string | null;
  audio_seconds?: number;
  settled_ms?: number;
  ends_sentence?: boolean;
  ends_sentence_probability?: number | null;
  trailing_silence_ms?: number;
  samples_buffered: number;
  chunks: number;
  is_final: boolean;
  seconds?: number;
  queue_seconds?: number;
  tokens?: number;
  verified_tokens?: number;
  interval_ms?: number;
  duplicate?: boolean;
  gap?: Gap;
  split?: Split;
}

/**
 * The speaker may have ended: compute the final of the open utterance, or of its first `samples` PCM frames, before its
 * boundary. Answered by `paused`, at once. Speech that goes on needs no message.
 */
export interface Pause {
  type: "pause";
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** At least 1. */
  samples?: number | null;
  id?: Id;
}

/** `samples`: PCM frames of the utterance, whose final is computed if the engine has time. */
export interface Paused {
  type: "paused";
  id?: string | number | null;
  warnings?: string[];
  stream_id: string;
  utterance_id: string;
  samples: number;
}

/** Are you there? Answered by `pong`, whatever the model does. */
export interface Ping {
  type: "ping";
  id?: Id;
}

/**
 * `busy_ms`: how long the engine has had work without a pause. `last_progress_ms_ago`: since it was last seen to move,
 * a decoder step or an outcome. Both are null while it has nothing to do.
 */
export interface Pong {
  type: "pong";
  id?: string | number | null;
  warnings?: string[];
  uptime_s: number;
  state: "busy" | "downloading" | "draining" | "failed" | "loading" | "ready" | "unloaded";
  busy_ms: number | null;
  last_progress_ms_ago: number | null;
}

/** Resident memory of a process, and what macOS charges it with, null elsewhere. */
export interface ProcessMemory {
  rss_bytes: number | null;
  footprint_bytes: number | null;
}

/** `worker` is null while none runs. */
export interface Processes {
  bridge: ProcessMemory;
  worker: ProcessMemory | null;
}

/**
 * Where the time of one utterance, or of one batch, went. Lengths and shapes hold one entry per decoded segment.
 * `quantization` is null where weights are in full precision.
 */
export interface Profile {
  stage: string;
  batch_size: number;
  audio_samples: number[] | null;
  audio_seconds: number | null;
  feature_extract_seconds: number | null;
  prompt_assembly_seconds: number | null;
  audio_tower_seconds: number | null;
  batch_assembly_seconds: number | null;
  prefill_seconds: number | null;
  continuation_seconds: number | null;
  decode_seconds: number | null;
  total_seconds: number | null;
  audio_feature_lengths: number[] | null;
  audio_output_lengths: number[] | null;
  input_features_shape: number[] | null;
  audio_embeddings_shape: number[] | null;
  generated_tokens: number[] | null;
  generated_tokens_total: number | null;
  generated_tokens_per_second: number | null;
  realtime_factor: number | null;
  memory: Memory | null;
  quantization: Quantization | null;
  prepare: Profile | null;
}

/**
 * The progress of a load, or, with `stage` `transcribe`, of a file. `request_id`: the request that caused the load, or
 * that of the file; absent if it had no id. `done` of `total`: bytes of a load, milliseconds of a file; null where
 * unknown.
 */
export interface Progress {
  type: "progress";
  event: true;
  n: number;
  request_id?: string | number;
  stage: string;
  done: number | null;
  total: number | null;
}

/**
 * `bits` and `group_size` are the decoder's; `layers` counts the quantised layers of each part, `full_precision` the
 * layers in full precision.
 */
export interface Quantization {
  bits: number;
  group_size: number;
  layers: QuantizedLayers[];
  full_precision: number;
}

/** The number of layers of one part of the model that have weights of `bits` bits. */
export interface QuantizedLayers {
  part: "audio_tower" | "decoder" | "embedding";
  bits: number;
  group_size: number;
  count: number;
}

/**
 * Requests without a reply; utterances that wait to start, and those whose result is not delivered; files not yet read,
 * being read, and stuck; jobs that wait for the engine, and those it has; partials that it computes; seconds of stream
 * audio in memory.
 */
export interface Queues {
  requests: number;
  utterances_waiting: number;
  utterances_in_batches: number;
  files_unread: number;
  files_reading: number;
  files_stuck: number;
  ready: number;
  decoding: number;
  listening: number;
  pending_audio_seconds: number;
}

/** Hz, all whole numbers between them. */
export interface Rates {
  minimum: number;
  maximum: number;
}

/**
 * The model is loaded. `load_seconds` and `load_profile` tell of that one load, however often `start` is sent. `load`:
 * what this request waited for, a load from disk (`cold`), one from the page cache (`warm`), or none. `engine`: what a
 * remote engine has found; absent for a local one.
 */
export interface Ready {
  type: "ready";
  id?: string | number | null;
  warnings?: string[];
  runtime: string;
  protocol: string;
  model: string;
  model_dir: string;
  use_cache: boolean;
  load_seconds: number;
  load_profile: { [name: string]: unknown };
  load: "cold" | "none" | "warm";
  engine?: EngineInfo;
}

/**
 * Utterances in the order of their boundaries; `failed` of them have an `error` instead of a text. As an event (`event`
 * true, numbered `n`) it delivers utterances of streams with `auto_flush`, and those that still waited at the end of
 * the session. `utterance_id` is that of the boundary that it answers. `dropped_samples`: of the rest that this
 * boundary dropped, or of all streams in the last line of a session without events. `decoder_mode` is the requested
 * one; `redecoded` is the sum over the items.
 */
export interface RealtimeBatchFinal {
  type: "realtime_batch_final";
  id?: string | number | null;
  warnings?: string[];
  event?: true;
  n?: number;
  reason: "batch_size" | "delay" | "end_of_input" | "flush" | "pause";
  utterance_id?: string;
  count: number;
  failed: number;
  items: FinalResult[];
  total_seconds: number | null;
  load_seconds: number;
  use_cache: boolean;
  decoder_mode: string;
  redecoded: number;
  asr_backend: string;
  vad_backend: string;
  profile: Profile;
  dropped_samples?: number;
}

/**
 * What was decoded by itself. `start` and `end` in seconds from the first sample of the file or utterance. `repaired`:
 * with the one before or behind it, it stands for a segment that had ended in a loop.
 */
export interface Segment {
  start: number;
  end: number;
  text: string;
  finish_reason: string;
  repaired?: true;
}

/** The process that answers. `pid` is null where no conversation is held. */
export interface Server {
  name: string;
  version: string;
  pid: number | null;
}

/** An utterance that was ended because it would have become too long. */
export interface Split {
  utterance_id: string;
  samples: number;
}

/**
 * Load the model. Answered by `ready`. `keep_alive_seconds`: from now on unload it after so many idle seconds, 0: after
 * an outcome with nothing waiting, negative: never. Idle means no job, no utterance that waits, and no audio in an open
 * one. `words`: then load the aligner too; `ready` does not wait for it.
 */
export interface Start {
  type: "start";
  /** -1 to 86400. */
  keep_alive_seconds?: number | null;
  words?: boolean | null;
  id?: Id;
}

/**
 * Open a stream of 16-bit PCM. Answered by `stream_ready` once the model is loaded. `batch_size`: the boundary that
 * makes so many utterances wait fills the batch. `max_batch_delay_ms`: how long the oldest of them waits at most before
 * decoding starts. `auto_flush`: batches come as events, which must be wanted. `restart`: replace a stream of this
 * name. `on_limit`: what becomes of an utterance that grows too long. `partials`: send the text of the open utterance,
 * at most every `partial_interval_ms` of audio. `final_policy`: every final is `guarded`; another value is echoed with
 * a warning. `effort`: with `low`, partials take a quarter of the engine's time at most. How to decode holds for the
 * utterances of the stream.
 */
export interface StartStream {
  type: "start_stream";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** Default: `16000`. */
  sample_rate?: number;
  /** 1 to 16; default: `4`. */
  batch_size?: number;
  /** 0 to 60000; default: `120`. */
  max_batch_delay_ms?: number;
  /** Default: `false`. */
  auto_flush?: boolean;
  /** Default: `false`. */
  restart?: boolean;
  /** Default: `"refuse"`. */
  on_limit?: "refuse" | "split";
  /** Default: `false`. */
  partials?: boolean;
  /** 100 to 60000; default: `500`. */
  partial_interval_ms?: number;
  /** Default: `"guarded"`. */
  final_policy?: "fast" | "guarded" | "strict";
  /** Default: `"normal"`. */
  effort?: "low" | "normal";
  id?: Id;
}

/** How are you? Answered by `status`: counters, queues, memory, limits. */
export interface Status {
  type: "status";
  id?: Id;
}

/**
 * Numbers alone: no text, no path, no name. `memory` is as of now; `timer_lag_ms`: how late the last timer was;
 * `partial_share`: how much of the last 10 s the engine worked on partials, null before the first.
 */
export interface StatusReply {
  type: "status";
  id?: string | number | null;
  warnings?: string[];
  state: "busy" | "downloading" | "draining" | "failed" | "loading" | "ready" | "unloaded";
  uptime_s: number;
  busy_ms: number | null;
  last_progress_ms_ago: number | null;
  timer_lag_ms: number;
  partial_line_bytes: number;
  streams: number;
  queues: Queues;
  counters: Counters;
  rss_bytes: number | null;
  memory: Memory;
  limits: Limits;
  versions: Versions;
  engine_restarts: number;
  engine_last_end: string | null;
  partial_share: number | null;
}

/**
 * Finish what was accepted (`drain`), or only say what is not (`abort`); answer `stopped`, and exit. `deadline_ms`:
 * what is not finished so long after this request is not waited for.
 */
export interface Stop {
  type: "stop";
  /** Default: `"drain"`. */
  mode?: "abort" | "drain";
  /** 0 to 86400000. */
  deadline_ms?: number | null;
  id?: Id;
}

/**
 * Close a stream. Its waiting utterances are finished (`drain`) or cancelled (`discard`); audio behind its last
 * boundary is dropped and counted. Answered by `stream_stopped`.
 */
export interface StopStream {
  type: "stop_stream";
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** Default: `"drain"`. */
  mode?: "discard" | "drain";
  id?: Id;
}

/**
 * The last line. `reason`: `stop`, `abort`, `deadline`, `end_of_input`, `signal`, or the code of the error that ended
 * the engine. `completed`: transcripts since the process started. `items`: the outcomes of utterances that still waited
 * for a `flush`. `dropped_samples`: audio after the last boundary of each stream.
 */
export interface Stopped {
  type: "stopped";
  id?: string | number | null;
  warnings?: string[];
  reason: string;
  completed: number;
  unfinished: Unfinished[];
  dropped_samples: number;
  items: FinalResult[];
}

/**
 * A chunk without `id` was rejected. `stream_id` and `seq` are null if unknown. `dropped_samples`: the number of its
 * samples, 0 if unknown.
 */
export interface StreamError {
  type: "stream_error";
  event: true;
  n: number;
  stream_id: string | null;
  seq: number | null;
  dropped_samples: number;
  code: ErrorCode;
  message: string;
  retryable: boolean;
  data: { [name: string]: unknown };
}

/**
 * The stream is open, and the model is loaded. `dropped_samples`: audio that a restart dropped. `partials`,
 * `partial_interval_ms` and `final_policy` are absent unless partials were requested.
 */
export interface StreamReady {
  type: "stream_ready";
  id?: string | number | null;
  warnings?: string[];
  protocol: string;
  stream_id: string;
  sample_rate: number;
  batch_size: number;
  max_batch_delay_ms: number;
  auto_flush: boolean;
  decoder_mode: string;
  on_limit: string;
  dropped_samples: number;
  partials?: boolean;
  partial_interval_ms?: number;
  final_policy?: string;
  asr_backend: string;
  vad_backend: string;
  note: string;
}

/**
 * `dropped_samples`: audio after the last boundary. `queued`: utterances of the stream that the next `flush` delivers.
 * `cancelled_utterances`: those cancelled by `discard` that no other line names.
 */
export interface StreamStopped {
  type: "stream_stopped";
  id?: string | number | null;
  warnings?: string[];
  stream_id: string;
  dropped_samples: number;
  queued: number;
  cancelled_utterances: string[];
}

/**
 * As it is to be written. `weight`: what the logit of its first token gains, in nats. Each further one gains twice as
 * much, at most 4. 0 changes nothing.
 */
export interface Term {
  /** 1 to 64 characters. */
  text: string;
  /** 0 to 4; default: `1.0`. */
  weight?: number;
}

/**
 * Transcribe the file at `audio`. Answered by `transcript`. Loads the model if need be. `track`, here and elsewhere: of
 * the audio tracks of the file, from 1. `timeout_ms`, here and elsewhere: what is not transcribed so long after the
 * request fails with `timeout`. `progress`: `progress` events, if they are wanted, say how much of the file has its
 * text.
 */
export interface Transcribe {
  type: "transcribe";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 4096 characters. */
  audio: string;
  /** 1 to 99. */
  track?: number | null;
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  progress?: boolean | null;
  id?: Id;
}

/**
 * One transcribed file. `text` is clean, `raw_text` is the model's output, `language` is null if there is no speech, or
 * none of `languages`. `language_probabilities`, by the names of `languages`, is present if that was set; what is
 * missing to 1 is the probability of none of them. It is null if nothing was decoded. `finish_reason`: `stop`, `length`
 * or `repetition`. `rms_dbfs`: the loudness of the whole, null for digital silence. `decode_seconds`: of the decoder;
 * `total_seconds`: of reading, features, tower and decoder; `load_seconds`: of the load that this request caused, 0.0
 * if it caused none. `redecoded` counts the segments that were decoded in a batch and then again alone.
 * `token_logprobs` (natural logarithms, one for each of `generated_token_ids`) and `confidence` are present if
 * `logprobs` was requested; `confidence` is null if there are no tokens. `words` and `aligner` are present if `words`
 * was requested, `segments` if `segments` was; `words` is null beside a warning `words_unavailable`, which says why.
 * `context_echo`: weak audio had a text that was mostly `context` or `terms`; it was dropped, and the text is that of
 * decoding without them. `repaired` is present where a segment ended in a loop and was decoded again in two parts:
 * `raw_text` has the loop, all else is of the parts.
 */
export interface TranscriptReply {
  type: "transcript";
  id?: string | number | null;
  warnings?: string[];
  audio: string;
  text: string;
  language: string | null;
  language_probabilities?: { [name: string]: number } | null;
  raw_text: string;
  finish_reason: string;
  generated_tokens: number;
  generated_token_ids: number[];
  audio_embeddings_shape: number[];
  audio_output_lengths: number[];
  token_logprobs?: number[];
  confidence?: Confidence | null;
  words?: Word[] | null;
  aligner?: Aligner;
  segments?: Segment[];
  context_echo?: true;
  repaired?: true;
  rms_dbfs: number | null;
  decode_seconds: number | null;
  total_seconds: number | null;
  load_seconds: number;
  use_cache: boolean;
  decoder_mode: string;
  redecoded: number;
  profile: Profile;
}

/**
 * An utterance (by its names) or a request (by its `id`) that the end left without a result. Its outcome, or its reply,
 * was the error of this `code`.
 */
export interface Unfinished {
  stream_id?: string;
  utterance_id?: string;
  id?: string | number;
  code: ErrorCode;
}

/**
 * Free the memory of the model. Answered by `unloaded`. The next request that needs the model loads it again. `drain`:
 * decode first what was accepted before, also what waits for a `flush`; `abort`: end it with `cancelled`. What is not
 * unloaded within `timeout_ms` stays loaded.
 */
export interface Unload {
  type: "unload";
  /** Default: `"drain"`. */
  mode?: "abort" | "drain";
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/** The model is out of memory. `freed_bytes`: what its process took, 0 if no model was loaded. */
export interface Unloaded {
  type: "unloaded";
  id?: string | number | null;
  warnings?: string[];
  freed_bytes: number;
}

/**
 * `samples` at 16 kHz. `frames`: PCM frames at the stream's rate; `dropped_samples`: of the rest that was dropped; both
 * only with `samples` or after a `pause`. `queued`: the utterances that wait for a batch, in all streams.
 */
export interface UtteranceQueued {
  type: "utterance_queued";
  id?: string | number | null;
  warnings?: string[];
  stream_id: string;
  utterance_id: string;
  samples: number;
  frames?: number;
  dropped_samples?: number;
  queued: number;
  batch_size: number;
}

/**
 * An utterance ends: the file `audio`, or inline `pcm16`, or else what the stream has in its buffer. `samples`: it ends
 * behind so many PCM frames of the open utterance, at the stream's rate; the `rest` begins the next one, or is dropped.
 * Answered by `utterance_queued`, or, where it fills the batch of a stream without `auto_flush`, by
 * `realtime_batch_final`. Then `decoder_mode`, `drift_guard` and `max_new_tokens` hold for all in that batch that had
 * none of their own.
 */
export interface VadBoundary {
  type: "vad_boundary";
  /** 0 to 4096. */
  max_new_tokens?: number | null;
  language?: string | null;
  /** 1 to 30 items. */
  languages?: string[] | null;
  /** At most 16384 characters. */
  context?: string | null;
  /** At most 100 items. */
  terms?: Term[] | null;
  decoder_mode?: string | null;
  drift_guard?: boolean | null;
  logprobs?: boolean | null;
  words?: boolean | null;
  segments?: boolean | null;
  /** 1 to 128 characters; default: `"default"`. */
  stream_id?: string;
  /** 1 to 148 characters. */
  utterance_id?: string | null;
  /** 1 to 4096 characters. */
  audio?: string | null;
  pcm16?: string | null;
  sample_rate?: number | null;
  /** At least 1. */
  samples?: number | null;
  /** Default: `"keep"`. */
  rest?: "drop" | "keep";
  /** 1 to 86400000. */
  timeout_ms?: number | null;
  id?: Id;
}

/** null: not installed. */
export interface Versions {
  runtime: string;
  python: string;
  mlx: string | null;
}

/**
 * A word with its punctuation. `start` and `end` in seconds from the first sample of the file or utterance. `text` is
 * `char_start` to `char_end` of the transcript, in code points, without the whitespace around it; the ranges of all
 * words cover the transcript. `confidence`: the geometric mean of the probabilities of its tokens, null where they are
 * not known. `time_confidence`: the probability of the less certain of its two times; null where a whole segment is one
 * word, because its words have no times.
 */
export interface Word {
  text: string;
  start: number;
  end: number;
  char_start: number;
  char_end: number;
  confidence: number | null;
  time_confidence: number | null;
}

/** The words of a `final_result` that was sent with `words_pending`: `words`, or the `error` that prevents them. */
export interface WordsReady {
  type: "words_ready";
  event: true;
  n: number;
  job: number;
  stream_id: string;
  utterance_id: string;
  words?: Word[];
  aligner?: Aligner;
  warnings: string[];
  error?: ItemError;
}
