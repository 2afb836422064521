// A stream of 16-bit PCM, mono: what is said goes out in chunks, without replies; boundaries have theirs.

const CHUNK_MS = 100;

function asBytes(pcm16) {
  const bytes = ArrayBuffer.isView(pcm16)
    ? Buffer.from(pcm16.buffer, pcm16.byteOffset, pcm16.byteLength)
    : Buffer.from(pcm16);
  if (bytes.length % 2 !== 0) throw new TypeError("pcm16 must hold whole samples of two bytes");
  return bytes;
}

export class Stream {
  #connection;
  #process; // the only one that it is for; null where others open it again
  #seq = 0;

  /** Of `start_stream`. */
  ready;

  /** `message`: its `start_stream`. */
  constructor(connection, message, ready) {
    this.#connection = connection;
    this.#process = connection.keeps(message) ? null : connection.process;
    this.ready = ready;
    connection.streams.add(this.id);
  }

  get id() {
    return this.ready.stream_id;
  }

  append(pcm16, utteranceId) {
    return this.#connection.say(this.#chunks(asBytes(pcm16), utteranceId), this.#process);
  }

  endUtterance(members, options) {
    return this.#request("end_utterance", members, options);
  }

  vadBoundary(members, options) {
    return this.#request("vad_boundary", members, options);
  }

  /** The speaker may have ended: the final of so many samples, or of all so far, is computed ahead. */
  pause(samples, options) {
    return this.#request("pause", { samples }, options);
  }

  flush(members, options) {
    return this.#request("flush", members, options);
  }

  async stop(mode = "drain") {
    const stopped = await this.#request("stop_stream", { mode });
    this.#connection.streams.delete(this.id);
    return stopped;
  }

  #request(type, members, options) {
    return this.#connection.request({ ...members, type, stream_id: this.id }, options, this.#process);
  }

  *#chunks(bytes, utteranceId) {
    const size = 2 * Math.floor((this.ready.sample_rate * CHUNK_MS) / 1000);
    for (let start = 0; start < bytes.length; start += size) {
      const pcm16 = bytes.subarray(start, start + size).toString("base64");
      yield { type: "audio_chunk", stream_id: this.id, seq: this.#seq++, utterance_id: utteranceId, pcm16 };
    }
  }
}
