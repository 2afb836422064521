// One microphone: its audio goes through the VAD to a stream of the bridge, what is understood goes to its page.

import { randomBytes } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import { Refused } from "./guard.mjs";
import { Vad } from "./vad.mjs";

const ROUNDING_SECONDS = 0.001; // of times of the bridge
const UNREAD_BYTES = 1024 * 1024; // of events, by a page that no longer reads

export class Session {
  /** Whoever knows it is this session's page. */
  token = randomBytes(24).toString("base64url");
  id;
  #sampleRate;
  #vad;
  #page = null; // the response that the events go to
  #stream = null; // a promise
  #seq = -1; // of the last audio
  #busy = false;
  #wasSpeech = false;
  #half = Buffer.alloc(0); // a byte of a sample that was cut between two blocks
  #streamed = 0; // samples, of speech alone
  #paused = 0; // samples of its utterance, at the last pause
  #runs = []; // {from, skipped}: up to `from` in the stream the page has recorded `skipped` samples more

  constructor(id, sampleRate) {
    this.id = id;
    this.#sampleRate = sampleRate;
    this.#vad = new Vad(sampleRate);
  }

  get hasPage() {
    return this.#page !== null;
  }

  /** The page listens: open the stream. */
  async open(page, bridge) {
    this.#page = page;
    this.tell("state", { state: "loading" });
    this.#stream = this.#start(bridge);
    try {
      await this.#stream;
      this.tell("state", { state: "listening", model: bridge.lastCapabilities?.model });
    } catch (error) {
      this.fail(error);
    }
  }

  /** Blocks of 16-bit samples, the `seq`-th lot of them. The last one again is a request that a browser has repeated. */
  async audio(seq, blocks) {
    const isRepeated = seq >= 0 && seq === this.#seq;
    if (this.#busy || (!isRepeated && seq !== this.#seq + 1)) throw new Refused(409, "Audio came out of order.");
    this.#busy = true;
    try {
      for await (const block of blocks) if (!isRepeated) await this.#take(block);
      this.#seq = seq;
    } finally {
      this.#busy = false;
    }
  }

  /** No more audio comes: finish what was said. */
  async finish() {
    if (this.#busy) throw new Refused(409, "Audio is still on its way.");
    const stream = await this.#opened();
    if (this.#vad.isPause) await this.#endAtPause(stream);
    else if (this.#vad.isSpeech) await stream.vadBoundary();
    await stream.stop("drain");
    this.#stream = null;
    await turn(); // the finals came before that answer, and are told by whoever reads the events
    this.tell("done", {});
    this.#page?.end();
  }

  /** The page is gone. */
  async close() {
    this.#page = null;
    const stream = await this.#stream?.catch(() => null);
    await stream?.stop("discard").catch(() => {}); // it was stopped, or its bridge is gone
  }

  /** Seconds from the beginning of what the page records, for those of the stream; null if they are not known. */
  place(streamSeconds) {
    if (streamSeconds === undefined) return null;
    const sample = Math.round(streamSeconds * this.#sampleRate);
    const near = this.#sampleRate * ROUNDING_SECONDS;
    const later = this.#runs.findIndex(({ from }) => from > sample + near);
    this.#runs.splice(0, (later < 0 ? this.#runs.length : later) - 1); // finals come in order
    return (sample + (this.#runs[0]?.skipped ?? 0)) / this.#sampleRate;
  }

  tell(event, data) {
    this.#write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** A comment, by which the connection is seen to live. */
  beat() {
    this.#write(":\n\n");
  }

  fail({ message }) {
    this.tell("failed", { message });
    this.#page?.end();
  }

  async #start(bridge) {
    if (bridge.state === "failed") await bridge.open(); // somebody has pressed the button again
    const sample_rate = this.#sampleRate;
    const how = { partials: true, auto_flush: true, batch_size: 1, on_limit: "split", words: true };
    return bridge.startStream({ stream_id: this.id, sample_rate, ...how });
  }

  async #take(block) {
    const stream = await this.#opened();
    const bytes = Buffer.concat([this.#half, block]);
    const whole = bytes.length - (bytes.length % 2);
    this.#half = bytes.subarray(whole);
    const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + whole));
    for (const { speech, start, pause, end } of this.#vad.feed(samples)) {
      if (pause) this.#paused = (await stream.pause()).samples;
      else if (end) await this.#endAtPause(stream);
      else await this.#append(stream, speech, start);
    }
    this.#tellSpeech();
  }

  /** The final of the pause is ready, or nearly; the quiet behind it is dropped. */
  async #endAtPause(stream) {
    try {
      await stream.vadBoundary({ samples: this.#paused, rest: "drop" });
    } catch (error) {
      if (error.code !== "invalid_params") throw error;
      await stream.vadBoundary(); // the utterance was split behind its pause: only quiet is left of it
    }
  }

  #append(stream, speech, start) {
    const skipped = start - this.#streamed;
    if (this.#runs.at(-1)?.skipped !== skipped) this.#runs.push({ from: this.#streamed, skipped });
    this.#streamed += speech.length;
    return stream.append(speech);
  }

  #write(text) {
    if (this.#page === null || this.#page.writableEnded) return; // it was told the end, maybe twice at once
    this.#page.write(text);
    if (this.#page.writableLength > UNREAD_BYTES) this.#page.destroy();
  }

  #tellSpeech() {
    if (this.#vad.isSpeech === this.#wasSpeech) return;
    this.#wasSpeech = this.#vad.isSpeech;
    this.tell("speech", { isSpeech: this.#wasSpeech });
  }

  async #opened() {
    if (this.#stream === null) throw new Refused(409, "Nobody listens to the events of this session.");
    return this.#stream;
  }
}
