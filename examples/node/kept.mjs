// What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
// outcome. Messages stand in the order in which they were sent.

import { refused } from "./errors.mjs";
import { KeptStream } from "./kept_stream.mjs";
import { encode } from "./lines.mjs";
import { Sent, beginsAt, isAudio, isBoundary, isTurn, streamOf, takesBuffer } from "./sent.mjs";

const NEVER = new Set(["hello", "pause", "stop"]); // a pause is a guess, which its process takes along

const lostUtterance = ({ message, streamId }, error) => {
  return { type: "utterance_lost", error, stream_id: streamId, utterance_id: message.utterance_id };
};

export class Kept {
  #limit;
  #sent = new Set(); // in order
  #byId = new Map(); // those that the process has not answered
  #streams = new Map(); // by their names
  #keepAlive; // that the app gave last
  #bytes = 0;
  #count = 0;
  #waits = false; // for the next process

  /** Lines of audio take at most `limit` bytes: beyond it the oldest utterance is dropped. */
  constructor(limit) {
    this.#limit = limit;
  }

  // What is sent

  /** Keeps a message. Its line, which has the name of its utterance; throws the error by which that was lost. */
  add(message) {
    const sent = this.#planned(message);
    const line = encode(sent === null ? message : this.#wire(sent));
    if (sent !== null) this.#add(sent, line.length);
    return line;
  }

  /** Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where. */
  has(message) {
    if (message.type === "start_stream") return message.on_limit !== "split";
    const name = streamOf(message);
    if (name === null) return !NEVER.has(message.type);
    const stream = this.#streams.get(name);
    return stream !== undefined && (stream.names.isOpen || !isAudio(message));
  }

  /** No caller waits for this reply any more. An utterance still has its outcome. Whether no process has the request: its
   * reply will not come. */
  abandon(id) {
    const sent = this.#byId.get(id);
    if (sent === undefined) return false;
    sent.isAnswered = true;
    if (sent.type === "start_stream" && !this.#waits) sent.isKept = false;
    else if (sent.type === "start_stream") this.#refuse(sent);
    else if (!isAudio(sent) && sent.type !== "stop_stream") this.#remove([sent]);
    return this.#waits;
  }

  // What is received

  /** Forget what has its outcome with this line, and mark results of what was sent again. The events of utterances that a
   * later process refused. */
  received(line) {
    if (line.type === "realtime_batch_final" || line.type === "stopped") line.items?.forEach((item) => this.#takeOutcome(item));
    if (line.type === "stream_error" && line.seq != null) {
      const chunk = this.#streams.get(line.stream_id)?.refuseChunk(line.seq);
      if (chunk !== undefined) this.#remove([chunk]);
    }
    const sent = this.#byId.get(line.id);
    if (sent === undefined) return [];
    this.#byId.delete(line.id);
    return this.#takeReply(sent, line);
  }

  /** The process is gone, and the next one gets the rest. The events of utterances whose audio was not kept, except of
   * those whose boundary has no reply: its caller gets the error. */
  lost(error) {
    this.#waits = true;
    for (const sent of [...this.#sent].filter(({ isKept }) => !isKept)) this.#refuse(sent);
    for (const stream of this.#streams.values()) stream.loseOpen(error);
    const dropped = [...this.#sent].filter(({ isDropped }) => isDropped);
    for (const sent of dropped) this.#forget(sent);
    for (const sent of this.#sent) sent.isResent = true;
    return dropped.filter(({ isAnswered }) => isAnswered).map((sent) => lostUtterance(sent, error));
  }

  // What is kept

  /** For the next process, which starts now. It may know other ids and `seq` than the last one: the app may have used the
   * id of an answered message again. */
  lines(newId) {
    this.#waits = false;
    this.#byId.clear();
    for (const stream of this.#streams.values()) stream.restartNumbers();
    return [...this.#sent].map((sent) => {
      if (sent.id !== undefined) {
        if (sent.isAnswered) sent.id = newId();
        this.#byId.set(sent.id, sent);
      }
      if (sent.seq !== null) this.#streams.get(sent.streamId).number(sent);
      return encode(this.#wire(sent));
    });
  }

  /** Of the requests whose callers wait. */
  get ids() {
    return new Set([...this.#sent].filter(({ isAnswered }) => !isAnswered).map(({ id }) => id));
  }

  /** The names of the streams that are opened again. */
  get streams() {
    return new Set([...this.#streams.keys()].filter((name) => this.#streams.get(name).goesOn));
  }

  get isEmpty() {
    return this.#sent.size === 0;
  }

  /** Whether a reply or an outcome is missing, or an utterance is open. */
  get isNeeded() {
    return [...this.#sent].some((sent) => !sent.isAnswered || isAudio(sent));
  }

  /** No next process comes without the app. */
  clear() {
    for (const each of [this.#sent, this.#byId, this.#streams]) each.clear();
    this.#bytes = 0;
    this.#keepAlive = undefined;
    this.#waits = false;
  }

  #planned(message) {
    const name = streamOf(message);
    const isRestart = message.type === "start_stream" && this.#streams.has(name);
    if (!isRestart && !this.has(message)) return null;
    return name === null ? new Sent(message) : (this.#streams.get(name) ?? new KeptStream()).planned(message);
  }

  /** A `start` has the last `keep_alive_seconds` that the app gave. */
  #wire(sent) {
    const { wire } = sent;
    if (sent.type === "start") wire.keep_alive_seconds ??= this.#keepAlive;
    return wire;
  }

  #add(sent, size) {
    sent.number = ++this.#count;
    const name = sent.streamId;
    if (name !== null) {
      if (!this.#streams.has(name)) this.#streams.set(name, new KeptStream());
      if (!this.#streams.get(name).add(sent)) return;
    }
    this.#sent.add(sent);
    if (sent.id !== undefined) this.#byId.set(sent.id, sent);
    if (isAudio(sent) && !sent.isDropped) sent.size = size;
    this.#bytes += sent.size;
    while (this.#bytes > this.#limit) this.#dropOldest();
  }

  #takeOutcome(item) {
    const stream = this.#streams.get(item.stream_id);
    const boundary = stream?.boundary(item.utterance_id);
    item.replayed = boundary !== undefined && [boundary, ...boundary.chunks].some(({ isResent }) => isResent);
    if (boundary === undefined) return;
    if (stream.isResent && item.stream_start !== undefined) item.stream_start = beginsAt(boundary.before);
    this.#forget(boundary);
  }

  #takeReply(sent, line) {
    const wasAnswered = sent.isAnswered;
    sent.isAnswered = true;
    if (line.type === "error") {
      if (wasAnswered && isBoundary(sent)) {
        this.#forget(sent);
        return [lostUtterance(sent, refused(line))];
      }
      this.#refuse(sent);
    } else if (sent.type === "start") {
      this.#keepAlive = sent.message.keep_alive_seconds ?? this.#keepAlive;
      if (this.#removeStarts(sent).some(({ message }) => message.words)) sent.message = { ...sent.message, words: true };
    } else if (sent.type !== "flush" && this.#streams.has(sent.streamId)) this.#takeStep(sent, line);
    else this.#remove([sent]);
    if (["transcript", "batch_transcript", "aligned"].includes(line.type)) line.replayed = sent.isResent;
    if (line.type === "unloaded") this.#removeStarts(sent);
    return [];
  }

  /** The process has done what this message of a stream asks for. */
  #takeStep(sent, line) {
    const stream = this.#streams.get(sent.streamId);
    if (isTurn(sent) || line.dropped_samples) this.#remove(stream.takeBuffer(sent));
    for (const name of line.cancelled_utterances ?? []) {
      const boundary = stream.boundary(name);
      if (boundary !== undefined) this.#forget(boundary);
    }
    if (sent.type === "start_stream" && !this.has(sent.message)) {
      sent.message = { type: "stop_stream", stream_id: sent.streamId }; // for the next process it is over
    }
    sent.isKept = true;
    if (sent.type === "cancel") {
      const boundary = stream.boundary(sent.message.utterance_id);
      if (boundary === undefined) this.#remove([sent]);
      else boundary.cancels.push(sent);
    }
    this.#tidy(sent);
  }

  #refuse(sent) {
    this.#remove([sent]);
    this.#streams.get(sent.streamId)?.refuse(sent);
    this.#tidy(sent);
  }

  /** A `start` or `unload` makes those before it needless. Those. */
  #removeStarts({ number }) {
    const earlier = [...this.#sent].filter((each) => each.type === "start" && each.isAnswered && each.number < number);
    this.#remove(earlier);
    return earlier;
  }

  /** Forgets what its stream no longer needs. */
  #tidy({ streamId }) {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    this.#remove(stream.takeIdle());
    if (!stream.isOver) return;
    this.#remove(stream.chunks);
    this.#streams.delete(streamId);
  }

  #dropOldest() {
    let first;
    for (first of this.#sent) if (first.size > 0) break;
    const stream = this.#streams.get(first.streamId);
    const ending = isBoundary(first) ? first : stream.boundaryOf(first);
    const utterance = ending ?? stream;
    this.#remove(utterance.chunks);
    utterance.chunks = [];
    if (ending === undefined) {
      stream.names = { ...stream.names, isTooLong: true };
      return;
    }
    this.#bytes -= ending.size;
    ending.size = 0;
    ending.isDropped = true;
    if (!takesBuffer(ending.message)) ending.message = { ...ending.message, pcm16: "" };
  }

  /** With its utterance. */
  #forget(boundary) {
    this.#remove([boundary, ...boundary.chunks, ...boundary.cancels]);
    this.#tidy(boundary);
  }

  #remove(gone) {
    for (const each of gone) {
      if (this.#sent.delete(each)) this.#bytes -= each.size;
      this.#streams.get(each.streamId)?.messages.delete(each);
      if (this.#byId.get(each.id) === each) this.#byId.delete(each.id);
    }
  }
}
