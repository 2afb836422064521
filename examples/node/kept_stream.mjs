// What `resend` keeps of one stream.

import { CLOSED, Sent, framesOf, isBoundary, isTurn, namesBehind, takesBuffer } from "./sent.mjs";

export class KeptStream {
  names = CLOSED;
  /** All but the chunks, in their order. */
  messages = new Set();
  /** Of the open utterance. */
  chunks = [];
  /** A later process got it too. */
  isResent = false;
  #lost = null; // the error of the process that had its audio
  #seq = -1; // the last one that the process got
  #appSeq = null; // and that of the app
  #gap = 0; // of refused chunks, in the open utterance behind its last chunk
  #turn = null; // the last start or stop

  // What is sent

  /** A message with its name and number. Throws the error by which its utterance was lost; its boundary is the last to get
   * it. */
  planned(message) {
    const isChunk = message.type === "audio_chunk";
    if (this.#lost !== null && (isChunk || takesBuffer(message))) {
      const error = this.#lost;
      if (!isChunk) this.#lost = null;
      this.#appSeq = null;
      throw error;
    }
    if (takesBuffer(message) && message.samples != null && message.rest !== "drop")
      throw new TypeError("with `resend` the rest behind `samples` cannot be kept: `rest` must be `drop`");
    const [name, behind] = namesBehind(this.names, message, (each) => this.boundary(each) !== undefined);
    const sent = new Sent(name === null ? message : { ...message, utterance_id: name });
    sent.behind = behind;
    if (isChunk && Number.isInteger(message.seq)) {
      sent.step = this.#gap + (this.#appSeq === null ? 1 : message.seq - this.#appSeq);
      sent.seq = this.#seq + sent.step;
    }
    return sent;
  }

  /** Adds what was planned. Whether it is kept. */
  add(sent) {
    sent.before = this.names;
    this.names = sent.behind;
    if (sent.type === "audio_chunk") {
      if (sent.seq !== null) [this.#seq, this.#appSeq, this.#gap] = [sent.seq, sent.message.seq, 0];
      if (!this.names.isTooLong) this.chunks.push(sent);
      return !this.names.isTooLong;
    }
    if (takesBuffer(sent.message)) this.#endUtterance(sent);
    if (isTurn(sent)) {
      [this.#turn, this.#lost, this.#appSeq, this.#gap] = [sent, null, null, 0];
      sent.isKept = sent.message.on_limit !== "split";
    }
    this.messages.add(sent);
    return true;
  }

  /** For the next process. */
  restartNumbers() {
    this.#seq = -1;
    this.isResent = true;
  }

  number(chunk) {
    this.#seq += chunk.step;
    chunk.seq = this.#seq;
  }

  // What is received

  /** Goes back to the names before it. The audio of a boundary stays in the buffer. */
  refuse(sent) {
    this.messages.delete(sent);
    const { before, behind } = sent;
    const now = this.names;
    const count = now.count === behind.count ? before.count : now.count;
    const open = { current: now.current ?? before.current, isTooLong: now.isTooLong || sent.isDropped || before.isTooLong };
    if (takesBuffer(sent.message)) {
      const later = this.#boundaryBehind(sent);
      const utterance = later ?? this;
      utterance.chunks = [...sent.chunks, ...utterance.chunks];
      if (later === undefined) this.names = { ...now, ...open, count, begun: before.begun };
      else {
        later.isDropped ||= sent.isDropped;
        later.before = { ...later.before, begun: before.begun };
      }
    } else if (isBoundary(sent)) this.names = { ...now, count };
    else if (sent === this.#turn && before !== behind) {
      const frames = before.frames + now.frames;
      const begun = now.begun > 0 ? before.frames + now.begun : before.begun;
      this.names = { ...before, ...open, count, frames, begun };
    }
  }

  /** Forgets a chunk, which leaves a gap in its utterance. The chunk, if it was there. */
  refuseChunk(seq) {
    for (const chunks of [this.chunks, ...[...this.messages].reverse().map((each) => each.chunks)]) {
      const place = chunks.findLastIndex((each) => each.seq === seq);
      if (place < 0) continue;
      const [chunk] = chunks.splice(place, 1);
      this.#takeFrames(chunk);
      if (chunks === this.chunks && place === chunks.length) this.#gap += chunk.step;
      else if (chunks.length > 0) chunks[Math.min(place, chunks.length - 1)].step += chunk.step;
      if (this.chunks.length === 0 && chunks === this.chunks) this.names = { ...this.names, current: null };
      return chunk;
    }
    return undefined;
  }

  /** Takes away the chunks that were in the buffer when this message came. */
  takeBuffer(sent) {
    const utterance = this.#boundaryBehind(sent) ?? this;
    const taken = utterance.chunks.filter(({ number }) => number < sent.number);
    utterance.chunks = utterance.chunks.slice(taken.length);
    return taken;
  }

  /** Takes away starts of streams that were stopped or restarted and owe nothing, and their stops. */
  takeIdle() {
    const idle = [];
    let last = null;
    for (const each of this.messages) {
      const wasIdle = isTurn(each) && each.isAnswered && last?.type === "start_stream" && last.isAnswered;
      if (wasIdle) idle.push(last);
      last = each;
      if (wasIdle && each.type === "stop_stream") {
        idle.push(each);
        last = null;
      }
    }
    for (const each of idle) this.messages.delete(each);
    return idle;
  }

  // What is kept

  get isOver() {
    return this.messages.size === 0 && !this.names.isOpen;
  }

  /** Whether the next process has it, too. */
  get goesOn() {
    const turn = [...this.messages].findLast(isTurn);
    return turn !== undefined && (turn.type === "start_stream" || !turn.isAnswered);
  }

  boundary(name) {
    return [...this.messages].find((each) => isBoundary(each) && each.message.utterance_id === name);
  }

  /** The boundary of the utterance of its first chunk; undefined if it is open. */
  boundaryOf(first) {
    return [...this.messages].find(({ chunks }) => chunks[0] === first);
  }

  /** The open utterance was in the process that is gone, if its audio is not kept. */
  loseOpen(error) {
    if (!this.names.isTooLong) return;
    this.names = { ...this.names, current: null, isTooLong: false, begun: this.names.frames };
    this.#lost = error;
  }

  /** What came behind a refused chunk begins earlier in the stream, up to its next start or stop. */
  #takeFrames(refused) {
    const count = framesOf(refused.message);
    let isOpen = true; // the utterance of the chunk
    const moved = (names) => ({ ...names, begun: names.begun - (isOpen ? 0 : count) });
    for (const each of this.messages) {
      if (each.number <= refused.number) continue;
      if (isTurn(each)) return;
      if (!takesBuffer(each.message)) continue;
      each.before = moved(each.before);
      isOpen = false;
    }
    this.names = { ...moved(this.names), frames: this.names.frames - count };
  }

  #endUtterance(boundary) {
    boundary.isDropped = boundary.before.isTooLong;
    [boundary.chunks, this.chunks] = [this.chunks, []];
    if (boundary.chunks.length === 0) return;
    boundary.chunks.at(-1).step += this.#gap;
    this.#gap = 0;
  }

  #boundaryBehind({ number }) {
    return [...this.messages].find((each) => takesBuffer(each.message) && each.number > number);
  }
}
