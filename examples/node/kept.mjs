// What `resend` keeps for the next process: requests without a reply, streams, and the audio of utterances without an
// outcome. Messages stand in the order in which they were sent.

import { refused } from "./errors.mjs";
import { OpenStreams, Sent, isAudio, isBoundary, streamOf, takesBuffer } from "./sent.mjs";

const LASTING = new Set(["start", "start_stream", "stop_stream", "cancel"]); // needed after their reply, too
const NEVER = new Set(["hello", "stop"]);

const lostUtterance = ({ message, streamId }, error) => {
  return { type: "utterance_lost", error, stream_id: streamId, utterance_id: message.utterance_id };
};

export class Kept {
  #limit;
  #sent = [];
  #streams = new OpenStreams();
  #bytes = 0;

  /** Lines of audio take at most `limit` bytes: beyond it the oldest utterance is dropped. */
  constructor(limit) {
    this.#limit = limit;
  }

  // What is sent

  /** The message with the name of its utterance. Throws the error by which that utterance was lost. */
  named(message) {
    const stream = this.#streams.get(streamOf(message));
    if (stream === undefined || !isAudio(message)) return message;
    stream.check(message);
    const name = stream.name(message, (each) => this.#sent.some((sent) => isBoundary(sent) && sent.message.utterance_id === each));
    return name === null ? message : { ...message, utterance_id: name };
  }

  /** Keep a message that is sent now. */
  add(message, line) {
    if (!this.has(message)) return;
    this.#streams.follow(message);
    const sent = new Sent(message, line);
    const stream = this.#streams.get(sent.streamId);
    if (stream?.isTooLong) {
      if (sent.type === "audio_chunk") return;
      if (takesBuffer(message)) {
        stream.isTooLong = false;
        Object.assign(sent, { isDropped: true, line: Buffer.alloc(0) });
      }
    }
    if (sent.type === "start") this.#remove(this.#sent.filter(({ type, isAnswered }) => type === "start" && isAnswered));
    this.#sent.push(sent);
    if (isAudio(sent)) this.#bytes += sent.line.length;
    while (this.#bytes > this.#limit) this.#dropOldest();
  }

  /** Whether a message is kept. A stream that the bridge splits by itself is not: only the bridge knows where. */
  has(message) {
    if (message.type === "start_stream") return message.on_limit !== "split";
    const name = streamOf(message);
    if (name !== null) return this.#streams.has(name) || this.#sent.some(({ streamId }) => streamId === name);
    return !NEVER.has(message.type);
  }

  /** No caller waits for this reply any more. An utterance still has its outcome. */
  abandon(id) {
    const sent = this.#ofId(id);
    if (sent === undefined) return;
    sent.isAnswered = true;
    if (!isAudio(sent) && sent.type !== "stop_stream") this.#remove([sent]);
  }

  // What is received

  /** Forget what has its outcome with this line, and mark results of what was sent again. The events of utterances that a
   * later process refused. */
  received(line) {
    if (line.type === "realtime_batch_final" || line.type === "stopped") line.items?.forEach((item) => this.#takeOutcome(item));
    if (line.type === "stream_error") this.#remove(this.#chunks(line.stream_id).filter(({ message }) => message.seq === line.seq));
    const sent = this.#ofId(line.id);
    return sent === undefined ? [] : this.#takeReply(sent, line);
  }

  /** The process is gone, and the next one gets the rest. The events of utterances whose audio was not kept, except of
   * those whose boundary has no reply: its caller gets the error. */
  lost(error) {
    for (const stream of this.#streams.values()) {
      if (stream.isTooLong) Object.assign(stream, { isTooLong: false, current: null, lost: error });
    }
    const dropped = this.#sent.filter(({ isDropped }) => isDropped);
    this.#remove(dropped);
    for (const sent of this.#sent) sent.isResent = true;
    return dropped.filter(({ isAnswered }) => isAnswered).map((sent) => lostUtterance(sent, error));
  }

  // What is kept

  get lines() {
    return this.#sent.map(({ line }) => line);
  }

  /** Of the requests whose callers wait. */
  get ids() {
    return new Set(this.#sent.filter(({ isAnswered }) => !isAnswered).map(({ message }) => message.id));
  }

  /** The names of the streams that are opened again. */
  get streams() {
    return new Set(this.#sent.filter(({ type }) => type === "start_stream").map(({ streamId }) => streamId));
  }

  /** Whether a reply or an outcome is missing, or an utterance is open. */
  get isNeeded() {
    return this.#sent.some((sent) => !sent.isAnswered || isAudio(sent));
  }

  clear() {
    this.#sent = [];
    this.#bytes = 0;
    this.#streams.clear();
  }

  #takeOutcome(item) {
    const sent = this.#boundaries(item.stream_id, [item.utterance_id])[0];
    const audio = sent === undefined ? [] : this.#audioOf(sent);
    item.replayed = audio.some(({ isResent }) => isResent);
    this.#remove(audio);
    this.#tidy(item.stream_id);
  }

  #takeReply(sent, line) {
    const isRefused = line.type === "error";
    const lost = isRefused && sent.isAnswered && isBoundary(sent) ? [lostUtterance(sent, refused(line))] : [];
    if (lost.length > 0) this.#remove(this.#audioOf(sent));
    else if (isRefused) this.#refuse(sent);
    if (line.type === "transcript" || line.type === "batch_transcript") line.replayed = sent.isResent;
    if (line.type === "cancel_result" && line.dropped_samples) this.#remove(this.#chunksBefore(sent));
    if (line.type === "stream_stopped") {
      for (const each of this.#boundaries(sent.streamId, line.cancelled_utterances ?? [])) this.#remove(this.#audioOf(each));
    }
    sent.isAnswered = true;
    const isLasting = isAudio(sent) || (LASTING.has(sent.type) && (sent.type === "start" || sent.streamId !== null));
    if (isRefused || !isLasting) this.#remove([sent]);
    this.#tidy(sent.streamId);
    return lost;
  }

  /** The audio of a boundary that is refused stays in the stream's buffer, under its name. */
  #refuse(sent) {
    const stream = this.#streams.get(sent.streamId);
    if (stream === undefined || !takesBuffer(sent.message)) return;
    stream.isTooLong ||= sent.isDropped;
    stream.current ??= sent.message.utterance_id;
  }

  /** Forget a stream that was stopped or restarted and owes nothing, and cancels without an utterance. */
  #tidy(name) {
    if (name === null) return;
    const ofStream = this.#sent.filter(({ streamId }) => streamId === name);
    const left = [];
    for (const each of ofStream) {
      const { utterance_id } = each.message;
      const hasUtterance = left.some((other) => isBoundary(other) && other.message.utterance_id === utterance_id);
      if (each.type === "cancel" && each.isAnswered && !hasUtterance) continue;
      if (["start_stream", "stop_stream"].includes(each.type) && each.isAnswered) {
        while (left.at(-1)?.type === "audio_chunk") left.pop(); // the process has dropped what was open
        const wasIdle = left.at(-1)?.type === "start_stream";
        if (wasIdle) left.pop();
        if (wasIdle && each.type === "stop_stream") continue;
      }
      left.push(each);
    }
    this.#remove(ofStream.filter((each) => !left.includes(each)));
  }

  #dropOldest() {
    const place = this.#sent.findIndex((sent) => isAudio(sent) && !sent.isDropped);
    const first = this.#sent[place];
    const later = this.#sent.slice(place).filter(({ streamId }) => streamId === first.streamId);
    const ending = isBoundary(first) ? first : later.find(({ message }) => takesBuffer(message));
    this.#remove(ending === undefined ? this.#chunks(first.streamId) : this.#audioOf(ending).slice(0, -1));
    if (ending !== undefined) {
      this.#bytes -= ending.line.length;
      Object.assign(ending, { isDropped: true, line: Buffer.alloc(0) });
    } else if (this.#streams.has(first.streamId)) this.#streams.get(first.streamId).isTooLong = true;
  }

  /** The chunks of an utterance and its boundary. */
  #audioOf(boundary) {
    return [...(takesBuffer(boundary.message) ? this.#chunksBefore(boundary) : []), boundary];
  }

  /** The chunks in the stream's buffer when this message came. */
  #chunksBefore(sent) {
    let chunks = [];
    for (const each of this.#sent.slice(0, this.#sent.indexOf(sent))) {
      if (each.streamId !== sent.streamId) continue;
      if (each.type === "audio_chunk") chunks.push(each);
      else if (each.type === "start_stream" || takesBuffer(each.message)) chunks = [];
    }
    return chunks;
  }

  #boundaries(name, utterances) {
    const ended = this.#sent.filter((sent) => isBoundary(sent) && sent.streamId === name);
    return ended.filter(({ message }) => utterances.includes(message.utterance_id));
  }

  #chunks(name) {
    return this.#sent.filter(({ type, streamId }) => type === "audio_chunk" && streamId === name);
  }

  #ofId(id) {
    return id === undefined ? undefined : this.#sent.findLast(({ message }) => message.id === id);
  }

  #remove(removed) {
    const gone = new Set(removed);
    for (const sent of this.#sent) if (gone.has(sent) && isAudio(sent)) this.#bytes -= sent.line.length;
    this.#sent = this.#sent.filter((sent) => !gone.has(sent));
  }
}
