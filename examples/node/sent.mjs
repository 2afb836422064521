// Messages that are kept for the next process (`resend`). Utterances are named here and not by the bridge, by its rule, so
// that a name is the same in each process.

const OF_STREAMS = new Set(["start_stream", "audio_chunk", "end_utterance", "vad_boundary", "flush", "stop_stream", "cancel"]);

export const isBoundary = ({ type }) => type === "end_utterance" || type === "vad_boundary";
export const isAudio = (message) => message.type === "audio_chunk" || isBoundary(message);
const SAMPLE_RATE = 16_000; // where `start_stream` names none
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
 * kept. `frames`: samples of its chunks since it was started, at `rate` Hz; `begun`: of these, those before the open utterance.
 */
export const CLOSED = {
  isOpen: false,
  partials: false,
  count: 0,
  current: null,
  isTooLong: false,
  rate: SAMPLE_RATE,
  frames: 0,
  begun: 0,
};

/** Seconds from the first sample of a stream to that of its open utterance. */
export const beginsAt = ({ begun, rate }) => Math.round((1000 * begun) / rate) / 1000;

/** Samples in the base64 of a chunk. */
export function framesOf({ pcm16 }) {
  if (typeof pcm16 !== "string") return 0;
  const padding = pcm16.endsWith("==") ? 2 : Number(pcm16.endsWith("="));
  return Math.floor((3 * Math.floor(pcm16.length / 4) - padding) / 2);
}

/** The name of the utterance of a message, or null, and the stream behind it. Without partials a chunk needs none. */
export function namesBehind(names, message, isInUse) {
  if (message.type === "start_stream" && (!names.isOpen || message.restart === true)) {
    const count = names.isOpen ? names.count : 0;
    const [isOpen, partials] = [message.on_limit !== "split", message.partials === true];
    return [null, { ...CLOSED, isOpen, partials, count, rate: Number(message.sample_rate ?? SAMPLE_RATE) }];
  }
  if (message.type === "stop_stream") return [null, { ...CLOSED, count: names.count }];
  if (message.type === "cancel" && names.current !== null && names.current === message.utterance_id) {
    return [null, { ...names, current: null, isTooLong: false, begun: names.frames }];
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
  if (isChunk) return [name, { ...names, count, current: names.current ?? name, frames: names.frames + framesOf(message) }];
  return [name, ofBuffer ? { ...names, count, current: null, isTooLong: false, begun: names.frames } : { ...names, count }];
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
