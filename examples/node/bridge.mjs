// A client of the bridge without packages: starts the process, asks, listens, starts it again within a limit, and never
// leaves it behind. docs/clients.md says what every client of it does, docs/protocol/reference.md what the messages hold.

import { setTimeout as sleep } from "node:timers/promises";
import { Connection } from "./connection.mjs";
import { BridgeError, closed } from "./errors.mjs";
import { EventQueue } from "./event_queue.mjs";
import { Kept } from "./kept.mjs";
import { RestartRule } from "./restarts.mjs";
import { Stream } from "./stream.mjs";

export { BridgeError } from "./errors.mjs";

const DEFAULTS = {
  arguments: [],
  want: ["events", "progress"],
  openTimeout: 60_000,
  hangTimeout: 20_000,
  resend: false,
  keptBytes: 64 * 1024 * 1024,
};
const STOP_MS = 10_000;

export class Bridge {
  #settings;
  #state = "new";
  #connection = null; // the last one
  #opening = null;
  #stopping = null;
  #failure = null; // of the state `failed`
  #events = new EventQueue();
  #rule = new RestartRule();
  #starts = 0;
  #kept = null; // for the next process, with `resend`

  constructor(settings) {
    const given = Object.entries(settings).filter(([, value]) => value !== undefined);
    this.#settings = { ...DEFAULTS, ...Object.fromEntries(given) };
    if (this.#settings.resend) this.#kept = new Kept(this.#settings.keptBytes);
  }

  get state() {
    return this.#state;
  }

  get lastCapabilities() {
    return this.#connection?.capabilities ?? null;
  }

  get pid() {
    return this.#connection?.process?.pid ?? null;
  }

  get exit() {
    return this.#connection?.process?.exit ?? null;
  }

  get stderr() {
    return this.#connection?.process?.stderr ?? "";
  }

  get restarts() {
    return Math.max(0, this.#starts - 1);
  }

  get events() {
    return this.#events;
  }

  async open() {
    if (this.#state === "stopping") throw closed();
    if (this.#state === "failed") this.#rule.forget();
    if (this.#state === "stopped") this.#events = new EventQueue();
    await this.#open();
    return this.lastCapabilities;
  }

  capabilities(options) {
    return this.request({ type: "capabilities" }, options);
  }

  start(options, members) {
    return this.request({ ...members, type: "start" }, options);
  }

  unload(members, options) {
    return this.request({ ...members, type: "unload" }, options);
  }

  transcribe(audio, members, options) {
    return this.request({ ...members, type: "transcribe", audio }, options);
  }

  batchTranscribe(audios, members, options) {
    return this.request({ ...members, type: "batch_transcribe", audio: audios }, options);
  }

  align(audio, text, language, members, options) {
    return this.request({ ...members, type: "align", audio, text, language }, options);
  }

  startStream(members, options) {
    return this.#onceOpen(options?.signal, async (connection) => {
      const message = { ...members, type: "start_stream" };
      return new Stream(connection, message, await connection.request(message, options));
    });
  }

  flush(streamId, members, options) {
    return this.request({ ...members, type: "flush", stream_id: streamId }, options);
  }

  cancel(target) {
    return this.request({ type: "cancel", target });
  }

  cancelUtterance(streamId, utteranceId) {
    return this.request({ type: "cancel", stream_id: streamId, utterance_id: utteranceId });
  }

  ping(options) {
    return this.request({ type: "ping" }, options);
  }

  status(options) {
    return this.request({ type: "status" }, options);
  }

  request(message, options) {
    return this.#onceOpen(options?.signal, (connection) => connection.request(message, options));
  }

  stop(mode = "drain", deadlineMs = STOP_MS) {
    const isRunning = this.#state === "running";
    this.#stopping ??= this.#close((connection) => (isRunning ? connection.stop(mode, deadlineMs) : connection.kill()));
    return this.#stopping;
  }

  async kill() {
    this.#connection?.kill();
    this.#stopping ??= this.#close((connection) => connection.kill());
    await this.#stopping;
  }

  /** At once where it is open, so that what is asked goes out in the order of the calls. */
  async #onceOpen(signal, ask) {
    return ask(this.#state === "running" ? this.#connection : await this.#opened(signal));
  }

  /** The connection to a bridge that has said hello. Where `signal` aborts the bridge goes on opening. */
  async #opened(signal = new AbortController().signal) {
    signal.throwIfAborted();
    if (this.#state === "failed") throw this.#failure;
    if (this.#state === "stopping" || this.#state === "stopped") throw closed();
    const over = new AbortController();
    const aborted = new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { signal: over.signal });
    });
    return Promise.race([this.#openOrAgain(), aborted]).finally(() => over.abort());
  }

  /** Also where a process that gets what is kept is lost meanwhile. */
  async #openOrAgain() {
    for (;;) {
      try {
        return await this.#open();
      } catch (error) {
        const goesOn = this.#kept !== null && !this.#kept.isEmpty;
        if (!goesOn || !["lost", "opening", "running"].includes(this.#state)) throw error;
      }
    }
  }

  async #open() {
    if (this.#state === "running") return this.#connection;
    this.#opening ??= this.#connect().finally(() => (this.#opening = null));
    return this.#opening;
  }

  async #connect() {
    const isLost = this.#state === "lost";
    this.#state = "opening";
    if (this.#rule.pause > 0) await sleep(this.#rule.pause);
    if (this.#stopping !== null) throw closed();
    const connection = isLost && this.#kept !== null ? this.#connection : this.#newConnection();
    this.#connection = connection;
    this.#starts += 1;
    try {
      await connection.open();
    } catch (error) {
      if (connection.process === null) this.#notStarted(error);
      else {
        connection.kill(); // where it still lives: its hello could not be sent
        await connection.ended;
      }
      throw error;
    }
    this.#state = "running";
    return connection;
  }

  #newConnection() {
    const handlers = {
      onEvent: (event) => this.#events.add(event),
      onEnded: (error, words) => this.#lost(error, connection.streams, words),
      onNeeded: () => this.#restart(),
    };
    const connection = new Connection(this.#settings, handlers, this.#kept);
    return connection;
  }

  /** The ids of the requests that wait for the next process; null where none will come. */
  #lost(error, streams, words) {
    const failure = this.#stopping === null ? this.#rule.lost(error) : null;
    const kept = this.#stopping === null && failure === null ? this.#kept : null;
    if (kept === null) this.#kept?.clear();
    if (this.#stopping !== null) {
      for (const event of words) this.#events.add(event);
      return null;
    }
    this.#state = "lost";
    if (failure !== null) this.#fail(failure);
    const utterances = kept?.lost(error) ?? [];
    const gone = [...streams].filter((name) => !kept?.streams.has(name));
    for (const name of gone) streams.delete(name);
    this.#events.add({ type: "bridge_lost", error, streams: gone, willRestart: failure === null });
    for (const event of [...words, ...utterances]) this.#events.add(event);
    if (kept?.isNeeded) this.#restart();
    return kept?.ids ?? null;
  }

  /** Without a request; once the end of the last process is over. */
  async #restart() {
    await (this.#opening ?? this.#connection.ended).catch(() => {});
    if (this.#state === "lost") await this.#open().catch(() => {});
  }

  #notStarted(error) {
    this.#fail(error);
    const streams = [...(this.#kept?.streams ?? [])];
    if (this.#kept?.isNeeded) this.#events.add({ type: "bridge_lost", error, streams, willRestart: false }); // perhaps nobody asks
    this.#connection.giveUp(error);
  }

  #fail(error) {
    if (this.#stopping !== null) return;
    this.#state = "failed";
    this.#failure = error;
  }

  async #close(end) {
    this.#state = "stopping";
    const stopped = this.#connection === null ? null : await end(this.#connection);
    await this.#opening?.catch(() => {});
    this.#state = "stopped";
    this.#stopping = null;
    this.#events.end();
    return stopped ?? null;
  }
}
