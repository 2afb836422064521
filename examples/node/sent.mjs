// Messages as they were sent, and the streams that they open, for `resend`. Utterances are named here and not by the
// bridge, by its rule, so that a name is the same in each process.

const OF_STREAMS = new Set(["start_stream", "audio_chunk", "end_utterance", "vad_boundary", "flush", "stop_stream", "cancel"]);

export const isBoundary = ({ type }) => type === "end_utterance" || type === "vad_boundary";
export const isAudio = (message) => message.type === "audio_chunk" || isBoundary(message);

/** Whether a message is a boundary of the audio in the stream's buffer. */
export const takesBuffer = (message) => isBoundary(message) && message.pcm16 == null && message.audio == null;

/** The stream that a message names, or null. */
export function streamOf({ type, stream_id }) {
  if (!OF_STREAMS.has(type)) return null;
  return stream_id ?? (type === "flush" || type === "cancel" ? null : "default");
}

/** A message as it was sent. */
export class Sent {
  isAnswered = false; // no caller waits for its reply
  isDropped = false; // the audio of this boundary is not kept
  isResent = false; // a later process got it too

  constructor(message, line) {
    this.message = message.pcm16 === undefined ? message : { ...message, pcm16: "" };
    this.line = line;
  }

  get type() {
    return this.message.type;
  }

  get streamId() {
    return streamOf(this.message);
  }
}

class OpenStream {
  /** The name of the open utterance. */
  current = null;
  /** Whether the audio of that is not kept. */
  isTooLong = false;
  /** The error of the process that had it. */
  lost = null;

  constructor(partials, count) {
    this.partials = partials;
    this.count = count;
  }

  /** Throws the error by which the open utterance was lost. Its boundary is the last message to get it. */
  check(message) {
    const error = this.lost;
    if (error === null || (message.type !== "audio_chunk" && !takesBuffer(message))) return;
    if (takesBuffer(message)) this.lost = null;
    throw error;
  }

  /** The name of the utterance of a chunk or boundary. Without partials a chunk needs none. */
  name(message, isInUse) {
    const isChunk = message.type === "audio_chunk";
    const ofBuffer = isChunk || takesBuffer(message);
    let name = message.utterance_id ?? (ofBuffer ? this.current : null);
    while (name === null && (this.partials || !isChunk)) {
      this.count += 1;
      const generated = `${streamOf(message)}-${this.count}`;
      if (!isInUse(generated)) name = generated;
    }
    if (ofBuffer) this.current = isChunk ? (this.current ?? name) : null;
    return name;
  }
}

/** By their names. */
export class OpenStreams extends Map {
  /** Follow a message that is sent now. */
  follow(message) {
    const name = streamOf(message);
    const stream = this.get(name);
    if (message.type === "start_stream" && (stream === undefined || message.restart === true)) {
      this.set(name, new OpenStream(message.partials === true, stream?.count ?? 0));
    }
    if (message.type === "stop_stream") this.delete(name);
    if (message.type === "cancel" && stream?.current === message.utterance_id) stream.current = null;
  }
}
