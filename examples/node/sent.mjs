// Messages that are kept for the next process (`resend`). Utterances are named here and not by the bridge, by its rule, so
// that a name is the same in each process.

const OF_STREAMS = new Set(["start_stream", "audio_chunk", "end_utterance", "vad_boundary", "flush", "stop_stream", "cancel"]);

export const isBoundary = ({ type }) => type === "end_utterance" || type === "vad_boundary";
export const isAudio = (message) => message.type === "audio_chunk" || isBoundary(message);
export const isTurn = ({ type }) => type === "start_stream" || type === "stop_stream";

/** Whether a message is a boundary of the audio in the stream's buffer. */
export const takesBuffer = (message) => isBoundary(message) && message.pcm16 == null && message.audio == null;

/** The stream that a message names, or null. */
export function streamOf({ type, stream_id }) {
  if (!OF_STREAMS.has(type)) return null;
  return stream_id ?? (type === "flush" || type === "cancel" ? null : "default");
}

/**
 * A stream at the next message. `isOpen`: and kept. `current`: the name of the open utterance. `isTooLong`: its audio is not
 * kept.
 */
export const CLOSED = { isOpen: false, partials: false, count: 0, current: null, isTooLong: false };

/** The name of the utterance of a message, or null, and the stream behind it. Without partials a chunk needs none. */
export function namesBehind(names, message, isInUse) {
  if (message.type === "start_stream" && (!names.isOpen || message.restart === true)) {
    const count = names.isOpen ? names.count : 0;
    return [null, { ...CLOSED, isOpen: message.on_limit !== "split", partials: message.partials === true, count }];
  }
  if (message.type === "stop_stream") return [null, { ...CLOSED, count: names.count }];
  if (message.type === "cancel" && names.current !== null && names.current === message.utterance_id) {
    return [null, { ...names, current: null, isTooLong: false }];
  }
  if (!isAudio(message)) return [null, names];
  const isChunk = message.type === "audio_chunk";
  const ofBuffer = isChunk || takesBuffer(message);
  let { count } = names;
  let name = message.utterance_id ?? (ofBuffer ? names.current : null);
  while (name === null && (names.partials || !isChunk)) {
    count += 1;
    const generated = `${streamOf(message)}-${count}`;
    if (!isInUse(generated)) name = generated;
  }
  if (isChunk) return [name, { ...names, count, current: names.current ?? name }];
  return [name, ofBuffer ? { ...names, count, current: null, isTooLong: false } : { ...names, count }];
}

/** A message with the name of its utterance. */
export class Sent {
  number = 0;
  /** As the process knows them. */
  id;
  seq = null;
  /** Of `seq`, from the chunk before. */
  step = 1;
  /** Of its line, if that holds audio. */
  size = 0;
  /** Of the utterance that this boundary ends. */
  chunks = [];
  cancels = [];
  /** The names of its stream. */
  before = null;
  behind = null;
  isKept = true; // the next process gets it
  isAnswered = false; // no caller waits for its reply
  isDropped = false; // the audio of this boundary is not kept
  isResent = false; // a later process got it too

  constructor(message) {
    this.message = message;
    this.id = message.id;
  }

  get type() {
    return this.message.type;
  }

  get streamId() {
    return streamOf(this.message);
  }

  /** As the process gets it. */
  get wire() {
    const wire = { ...this.message };
    if (this.id !== undefined) wire.id = this.id;
    if (this.seq !== null) wire.seq = this.seq;
    return wire;
  }
}
