// The conversation with one process: requests by their ids, until it ends or has to be ended.

import { BridgeProcess, GRACE_MS } from "./bridge_process.mjs";
import {
  closed,
  exited,
  fatal,
  hung,
  lineTooLong,
  nonsense,
  notOpened,
  pipeClosed,
  refused,
  timedOut,
  unsupported,
} from "./errors.mjs";
import { encode } from "./lines.mjs";
import { Liveness } from "./liveness.mjs";
import { deferred, waitFor } from "./patience.mjs";
import { PendingWords } from "./pending_words.mjs";
import { PROTOCOL, REPLIES, REPLY_TYPES } from "./replies.mjs";
import { isAudio } from "./sent.mjs";
import { StreamStarts } from "./stream_starts.mjs";
import { bounded } from "./times.mjs";

const decoder = new TextDecoder("utf-8", { fatal: true });

export class Connection {
  #settings;
  #process = null;
  #liveness = null;
  #pending = new Map(); // {type, resolve, reject, isWritten, isAbandoned} by id
  #starts = new StreamStarts();
  #words = new PendingWords();
  #ids = 0;
  #lines = 0;
  #tail = Promise.resolve(); // of what is written, in order
  #blame = null; // why it is being ended
  #fatal = null;
  #closing = false; // the app asked for the end
  #handlers;
  #kept; // null without `resend`
  #loss = null; // of the last process
  #takesMessages = false; // it has said hello, and got what was kept
  #goesOn = false; // with another process
  #again = deferred();

  /** The names of open streams. */
  streams = new Set();
  capabilities = null;
  /** Resolves to the error that says why nothing can be asked any more. */
  ended;
  #resolveEnded;

  /**
   * Handlers: `onEvent(event)`; `onEnded(error, words)` takes the events in place of words that did not come, and gives the
   * ids of requests that wait for another process, or null: there will be none; `onNeeded()`: something waits for that. With
   * `kept` it may be opened again after its end.
   */
  constructor(settings, handlers, kept = null) {
    this.#settings = settings;
    this.#handlers = handlers;
    this.#kept = kept;
  }

  get process() {
    return this.#process;
  }

  /** Starts the process and says hello; a BridgeError where that fails. */
  async open() {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#process = this.#blame = this.#fatal = null;
    this.#lines = 0;
    this.#process = await BridgeProcess.start(this.#settings, {
      onLine: (bytes) => this.#hear(bytes),
      onTooLong: () => this.#end(nonsense("a line is too long", this.#lines + 1)),
      onPipeClosed: () => this.#pipeClosed(),
    });
    this.#process.ended.then((exit) => this.#finish(exit));
    if (this.#closing) this.#process.signal("SIGKILL");
    const capabilities = await this.#hello();
    if (!capabilities.protocols?.includes(PROTOCOL)) throw await this.#endNow(unsupported(PROTOCOL));
    this.#watch();
    this.capabilities = capabilities;
    for (const line of this.#kept?.lines(() => this.#newId()) ?? []) this.#process.write(line);
    this.#takesMessages = true;
    this.#again.resolve();
  }

  /** Whether a message waits for another process where this one is lost. */
  keeps(message) {
    return this.#kept?.has(message) ?? false;
  }

  /** No other process will come. */
  giveUp(error) {
    this.#goesOn = false;
    this.#loss = error;
    this.#kept?.clear();
    this.#again.reject(error);
    this.#finished(error);
  }

  /** The reply. It has the message's id, if that has one. `signal` and `timeout` (milliseconds) cancel the request. */
  async request(message, { signal, timeout } = {}, process = null) {
    if (this.#closing) throw closed();
    this.#check(process);
    signal?.throwIfAborted();
    const { id, reply } = this.#ask(message, process);
    const late = () => timedOut(message.type, timeout);
    const line = await waitFor(reply, { signal, timeout, late, abandon: () => this.#abandon(message, id, reply) });
    this.#starts.take(message, reply);
    return line;
  }

  /** Messages without a reply; resolves when there is room for more. `process`: the only one that they are for. */
  say(messages, process = null) {
    return this.#inTurn(async () => {
      for (const message of messages) {
        await this.#room(process);
        this.#write(message);
      }
      await this.#room(process);
    });
  }

  /** `stopped`, or null where it was no longer said. The process is gone when this resolves. */
  async stop(mode, deadlineMs) {
    this.#closing = true;
    const stopped = this.#ask({ type: "stop", mode, deadline_ms: deadlineMs }).reply.catch(() => null);
    this.#inTurn(() => this.#process.endInput());
    await this.#process.terminate(deadlineMs + GRACE_MS);
    return stopped;
  }

  async kill() {
    this.#closing = true;
    this.#process?.signal("SIGKILL");
    await this.#process?.ended;
    this.giveUp(closed());
  }

  async #hello() {
    const { client, want, openTimeout } = this.#settings;
    const timer = setTimeout(() => this.#end(notOpened(openTimeout)), bounded(openTimeout));
    try {
      return await this.#ask({ type: "hello", want, client, parent_pid: process.pid, protocols: [PROTOCOL] }).reply;
    } catch (error) {
      throw error.code === "request_failed" ? await this.#endNow(unsupported(PROTOCOL)) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  #watch() {
    const child = this.#process;
    const look = () => ({
      waits: this.#pending.size > 0,
      unwritten: child.unwritten,
      bytesRead: child.bytesRead,
      bytesTaken: child.bytesTaken,
    });
    this.#liveness = new Liveness(this.#settings.hangTimeout, look, {
      ping: () => this.#askInPassing({ type: "ping" }),
      hung: () => this.#end(hung(this.#settings.hangTimeout)),
    });
  }

  #newId() {
    let id;
    do id = `c${++this.#ids}`;
    while (this.#pending.has(id));
    return id;
  }

  /** `process`: the only one that it is for. */
  #ask(message, process = null) {
    const id = message.id ?? this.#newId();
    if (this.#pending.has(id)) throw new TypeError(`a request of the id ${id} is in flight`);
    const line = encode({ ...message, id });
    const limit = this.capabilities?.limits?.max_line_bytes ?? Infinity;
    if (line.length > limit + 1) throw lineTooLong(message.type, limit); // its answer could not name the request
    const request = { type: message.type, isWritten: message.type === "hello", isAbandoned: false };
    const reply = new Promise((resolve, reject) => this.#pending.set(id, Object.assign(request, { resolve, reject })));
    this.#starts.sent(message, reply);
    if (message.type === "hello") this.#process.write(line);
    else this.#inTurn(() => this.#writeRequest({ ...message, id }, request, process)).catch((error) => this.#reject(id, error));
    if (!this.#goesOn && this.#process.exit !== null) this.ended.then((error) => this.#finished(error));
    return { id, reply };
  }

  #writeRequest(message, request, process) {
    if (this.#kept !== null) {
      if (this.#pending.get(message.id) !== request) return; // nobody waits any more
      this.#check(process);
    }
    this.#write(message);
    request.isWritten = true;
    if (request.isAbandoned && this.#kept?.abandon(message.id)) this.#pending.delete(message.id);
  }

  /** Where it cannot be written now, it is kept for the next process. */
  #write(message) {
    if (!this.#takesMessages && !(this.#goesOn && this.keeps(message))) throw this.#loss;
    const line = this.#kept?.add(message) ?? encode(message);
    if (this.#takesMessages) this.#process.write(line);
    else this.#handlers.onNeeded();
  }

  /** Throws where `process`, if it is given, is gone. */
  #check(process) {
    if (process !== null && (process !== this.#process || process.exit !== null)) throw this.#loss;
  }

  #reject(id, error) {
    this.#pending.get(id)?.reject(error);
    this.#pending.delete(id);
  }

  /** Nobody waits for the reply. */
  #askInPassing(message) {
    this.#ask(message).reply.catch(() => {});
  }

  /** Throws where nothing will be read any more. */
  async #room(only) {
    for (;;) {
      this.#check(only);
      if (this.#goesOn && !this.#takesMessages) this.#handlers.onNeeded();
      await this.#again.promise;
      const process = this.#process;
      await process.room();
      if (this.#closing) throw closed();
      if (process.takesInput) return;
      await process.ended;
      if (!this.#goesOn) throw this.#loss;
    }
  }

  /** In the order of the calls, also where one of them has to wait for room. */
  #inTurn(write) {
    const turn = this.#tail.then(write);
    this.#tail = turn.catch(() => {});
    return turn;
  }

  #hear(bytes) {
    if (this.#blame !== null) return; // nothing is believed behind nonsense
    this.#lines += 1;
    const line = this.#parse(bytes);
    if (line === null) return;
    if (line.type === "fatal") {
      this.#fatal = line;
      this.#pipeClosed();
    } else {
      this.#words.take(line);
      this.#kept?.received(line).forEach((lost) => this.#handlers.onEvent(lost));
      this.#answer(line);
    }
  }

  #parse(bytes) {
    try {
      const text = decoder.decode(bytes);
      if (text.trim() === "") return null;
      const line = JSON.parse(text);
      if (typeof line.type === "string") return line;
    } catch {
      // as any other nonsense
    }
    this.#end(nonsense("a line is no message", this.#lines));
    return null;
  }

  #answer(line) {
    const request = this.#pending.get(line.id);
    if (request === undefined) return this.#unasked(line);
    this.#pending.delete(line.id);
    if (line.type === "error") return request.reject(refused(line));
    const expected = REPLIES[request.type];
    if (expected === undefined || expected.includes(line.type)) return request.resolve(line);
    this.#pending.set(line.id, request);
    this.#end(nonsense("a reply is of another type than its request", this.#lines));
  }

  /** Events, what this client does not know, and outcomes that another process gives to a boundary that was answered; no
   * other reply that nobody asked for. */
  #unasked(line) {
    const isOutcome = this.#kept !== null && line.type === "realtime_batch_final";
    if (line.event === true || isOutcome || !REPLY_TYPES.has(line.type)) this.#handlers.onEvent(line);
  }

  /** Nobody waits for it any more: it is cancelled, and a stream that it begins all the same is stopped. */
  #abandon(message, id, reply) {
    const request = this.#pending.get(id);
    if (request !== undefined) request.isAbandoned = true;
    const isOver = request?.isWritten === false ? !isAudio(message) && message.type !== "stop_stream" : this.#kept?.abandon(id);
    if (this.#kept !== null && isOver) {
      this.#pending.delete(id);
      this.#starts.take(message, reply);
    } else if (this.#takesMessages) this.#askInPassing({ type: "cancel", target: id });
    const stop = ({ stream_id }) => this.#askInPassing({ type: "stop_stream", stream_id, mode: "discard" });
    reply.then((ready) => this.#starts.take(message, reply) && stop(ready)).catch(() => {});
  }

  async #pipeClosed() {
    if (this.#closing || (await this.#process.endsWithin(GRACE_MS))) return;
    this.#end(this.#fatal === null ? pipeClosed() : null);
  }

  #end(error) {
    if (this.#closing) return;
    this.#blame ??= error;
    this.#process.signal("SIGKILL");
  }

  async #endNow(error) {
    this.#end(error);
    return this.ended;
  }

  #finish(exit) {
    this.#liveness?.stop();
    const error = this.#why(exit).endedBy(exit, this.#process.stderr);
    this.#loss = error;
    this.#takesMessages = false;
    const waiting = this.#handlers.onEnded(error, this.#words.lose(error));
    this.#goesOn = waiting !== null;
    if (this.#goesOn) this.#again = deferred();
    this.#finished(error, waiting ?? new Set());
    this.#resolveEnded(error);
  }

  /** Reject what waits, except for these ids, and what the next process gets when its turn comes. */
  #finished(error, waiting = new Set()) {
    for (const [id, { isWritten }] of [...this.#pending]) {
      if (!waiting.has(id) && (isWritten || !this.#goesOn)) this.#reject(id, error);
    }
  }

  #why(exit) {
    if (this.#blame !== null) return this.#blame;
    if (this.#closing) return closed();
    if (this.#fatal !== null) return fatal(this.#fatal, exit);
    const isCut = this.#process.endsWithinLine && exit.code === 0;
    return isCut ? nonsense("it ended within a line", this.#lines + 1) : exited(exit);
  }
}
