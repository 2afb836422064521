// The client of bridge.mjs. docs/clients.md says what it does; protocol.d.ts has the messages. Times are in milliseconds.

import type * as wire from "./protocol.js";

export type State = "new" | "opening" | "running" | "stopping" | "stopped" | "lost" | "failed";

export interface Settings {
  /** A path, or a command on PATH. */
  bridge: string;
  arguments?: string[];
  env?: { [name: string]: string | undefined };
  cwd?: string;
  /** Who asks. */
  client?: wire.Client;
  /** Default: events and progress. */
  want?: string[];
  /** From the start to the answer of `hello`; default 60000. */
  openTimeout?: number;
  /** Without any sign of life; default 20000. */
  hangTimeout?: number;
  /**
   * Start a lost bridge again at once where something waits, and send it the open streams, the requests without a reply and
   * the utterances without an outcome again; default false.
   */
  resend?: boolean;
  /** Of the audio that `resend` keeps, as it is sent, in bytes; default 64 MiB. */
  keptBytes?: number;
  /** Each line of stderr. */
  onStderr?: (line: string) => void;
}

export interface RequestOptions {
  /** Its abort cancels the request and rejects it with the signal's reason. */
  signal?: AbortSignal;
  /** Then the request is cancelled and rejected with `request_timeout`; default none. */
  timeout?: number;
}

export interface Exit {
  code: number | null;
  signal: string | null;
  /** `done`, `internal_error`, `environment`, `engine_lost`, `parent_gone`, …; of a signal its own name. */
  name: string;
}

export type ClientErrorCode =
  | "bridge_not_found"
  | "bridge_not_executable"
  | "bridge_start_failed"
  | "bridge_exited"
  | "bridge_fatal"
  | "bridge_hung"
  | "bridge_pipe_closed"
  | "protocol_error"
  | "protocol_unsupported"
  | "restart_limit"
  | "bridge_closed"
  | "request_timeout"
  | "request_failed";

/** `message` is one sentence that can be shown to a user. */
export class BridgeError extends Error {
  private constructor();
  readonly code: ClientErrorCode;
  readonly retryable: boolean;
  /** Where a process ended. */
  readonly exit: Exit | null;
  /** Its last 20 lines, for a log. */
  readonly stderr: string[];
  /** The last loss, of `restart_limit`; the system's error, where the process could not be started. */
  readonly cause?: unknown;
  /** Of `request_failed`. */
  readonly wireCode?: wire.ErrorCode;
  readonly data?: { [name: string]: unknown };
  /** Of `bridge_fatal`. */
  readonly fatalCode?: string;
  /** Of `protocol_error`: the number of the line, from 1. */
  readonly position?: number;
}

/** The process ended unasked, or had to be ended. */
export interface BridgeLost {
  type: "bridge_lost";
  error: BridgeError;
  streams: string[];
  willRestart: boolean;
}

/**
 * With `resend`: this utterance has no outcome. Its audio was more than is kept, and `error` is the loss; or a later process
 * refused its boundary, and `error` is `request_failed`.
 */
export interface UtteranceLost {
  type: "utterance_lost";
  error: BridgeError;
  stream_id: string;
  utterance_id: string;
}

/** The app did not read in time. */
export interface EventsLost {
  type: "events_lost";
  count: number;
}

/**
 * `type` tells them apart; others than these may come. Each final with `words_pending` gets one `words_ready`: one that the
 * bridge can no longer send has an `error` with the code of the loss, and an `n` of 0.
 */
export type BridgeEvent = wire.Event | BridgeLost | UtteranceLost | EventsLost;

/** What only the client knows of a result: with `resend`, whether its audio was sent again to a new process. */
interface Replayed {
  replayed?: boolean;
}

declare module "./protocol.js" {
  interface FinalResult extends Replayed {}
  interface TranscriptReply extends Replayed {}
  interface BatchTranscript extends Replayed {}
  interface Aligned extends Replayed {}
}

/** What a request of this type may hold besides what the method itself gives. */
type Members<T, Given extends string = never> = Omit<T, "type" | "id" | Given>;
type Boundary = Members<wire.EndUtterance, "stream_id">;
type BoundaryReply = wire.UtteranceQueued | wire.RealtimeBatchFinal;

export class Bridge {
  constructor(settings: Settings);

  readonly state: State;
  /** Of the last `hello`. */
  readonly lastCapabilities: wire.CapabilitiesReply | null;
  readonly pid: number | null;
  /** How the last process ended; null while it runs. */
  readonly exit: Exit | null;
  /** The last 64 KiB of it. */
  readonly stderr: string;
  readonly restarts: number;
  /** One queue: two loops over it share its events. It ends after `stop` and `kill`. */
  readonly events: AsyncIterable<BridgeEvent>;

  open(): Promise<wire.CapabilitiesReply>;
  capabilities(options?: RequestOptions): Promise<wire.CapabilitiesReply>;
  start(options?: RequestOptions, members?: Members<wire.Start>): Promise<wire.Ready>;
  unload(members?: Members<wire.Unload>, options?: RequestOptions): Promise<wire.Unloaded>;
  transcribe(audio: string, members?: Members<wire.Transcribe, "audio">, options?: RequestOptions): Promise<wire.TranscriptReply>;
  batchTranscribe(
    audios: string[],
    members?: Members<wire.BatchTranscribe, "audio">,
    options?: RequestOptions,
  ): Promise<wire.BatchTranscript>;
  align(
    audio: string,
    text: string,
    language: string,
    members?: Members<wire.Align, "audio" | "text" | "language">,
    options?: RequestOptions,
  ): Promise<wire.Aligned>;
  startStream(members?: Members<wire.StartStream>, options?: RequestOptions): Promise<Stream>;
  flush(streamId?: string, members?: Members<wire.Flush, "stream_id">, options?: RequestOptions): Promise<wire.RealtimeBatchFinal>;
  cancel(target: wire.Id): Promise<wire.CancelResult>;
  cancelUtterance(streamId: string, utteranceId: string): Promise<wire.CancelResult>;
  ping(options?: RequestOptions): Promise<wire.Pong>;
  status(options?: RequestOptions): Promise<wire.StatusReply>;
  /** Any message. Without an `id` it gets one; one that is in flight is a TypeError. */
  request(message: { type: string; [member: string]: unknown }, options?: RequestOptions): Promise<wire.Line>;

  /** The process is gone when this resolves: to what it said last, or null. */
  stop(mode?: "drain" | "abort", deadlineMs?: number): Promise<wire.Stopped | null>;
  kill(): Promise<void>;
}

export class Stream {
  private constructor();

  readonly id: string;
  readonly ready: wire.StreamReady;

  /**
   * 16-bit little-endian samples, mono, at the stream's rate; whole samples, otherwise a TypeError. Resolves when there is
   * room for more: until then leave `pcm16` as it is, and send nothing else that could wait.
   */
  append(pcm16: ArrayBuffer | ArrayBufferView, utteranceId?: string): Promise<void>;
  endUtterance(members?: Boundary, options?: RequestOptions): Promise<BoundaryReply>;
  vadBoundary(members?: Boundary, options?: RequestOptions): Promise<BoundaryReply>;
  /** The speaker may have ended: the final of so many samples, or of all so far, is computed ahead. */
  pause(samples?: number, options?: RequestOptions): Promise<wire.Paused>;
  flush(members?: Members<wire.Flush, "stream_id">, options?: RequestOptions): Promise<wire.RealtimeBatchFinal>;
  stop(mode?: "drain" | "discard"): Promise<wire.StreamStopped>;
}
