// What `resend` keeps, and when it forgets it; no process is needed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Kept } from "../kept.mjs";
import { Sent } from "../sent.mjs";

const READY = { type: "stream_ready", stream_id: "mic" };
const QUEUED = { type: "utterance_queued", stream_id: "mic" };
const ERROR = { type: "error", code: "limit_exceeded", message: "no", retryable: true, data: {} };
const HALF = Buffer.alloc(8000).toString("base64"); // a second at 8 kHz has two

/** What a client sends and receives. */
class Talk {
  kept;
  #count = 0;
  #ids = 0;
  #seq = 0;

  constructor(limit = 1 << 20) {
    this.kept = new Kept(limit);
  }

  send(type, members = {}) {
    const id = type === "audio_chunk" ? {} : { id: ++this.#count };
    const stream = ["start", "unload", "status"].includes(type) ? {} : { stream_id: "mic" };
    return JSON.parse(this.kept.add({ type, ...stream, ...id, ...members }));
  }

  stream(members) {
    this.reply(this.send("start_stream", members), READY);
  }

  chunk(seq = 0, members = {}) {
    return this.send("audio_chunk", { seq, pcm16: "AAAA", ...members });
  }

  utterance() {
    this.chunk();
    this.reply(this.send("end_utterance"), QUEUED);
  }

  reply({ id }, line) {
    return this.kept.received({ ...line, id }).map(({ utterance_id }) => utterance_id);
  }

  refuseChunk(seq) {
    this.kept.received({ type: "stream_error", stream_id: "mic", seq });
  }

  outcome(utterance_id) {
    return this.#take({ utterance_id }).replayed;
  }

  /** So much audio at 8 kHz, and its boundary. */
  say(halfSeconds, { ends = true } = {}) {
    for (let n = 0; n < halfSeconds; n += 1) this.chunk(this.#seq++, { pcm16: HALF });
    if (ends) this.reply(this.send("end_utterance"), QUEUED);
  }

  /** What the app gets where the process says `ofProcess`, or nothing. */
  streamStart(utterance_id, ofProcess = 0) {
    return this.#take(ofProcess === null ? { utterance_id } : { utterance_id, stream_start: ofProcess }).stream_start;
  }

  #take(members) {
    const item = { stream_id: "mic", ...members };
    this.kept.received({ type: "realtime_batch_final", items: [item] });
    return item;
  }

  nextProcess() {
    assert.deepEqual(this.kept.lost(new Error("gone")), []);
    return this.lines;
  }

  /** What the next process would get. */
  get lines() {
    return this.kept.lines(() => `c${++this.#ids}`).map((line) => JSON.parse(line));
  }

  get types() {
    return this.lines.map(({ type }) => type);
  }

  get seqs() {
    return this.lines.map(({ seq }) => seq).filter((seq) => seq !== undefined);
  }
}

test("the work for a reply does not grow with the audio", (t) => {
  const talk = new Talk();
  talk.stream();
  for (let seq = 0; seq < 2000; seq += 1) talk.chunk(seq);
  let looks = 0;
  const type = Object.getOwnPropertyDescriptor(Sent.prototype, "type");
  t.after(() => Object.defineProperty(Sent.prototype, "type", type));
  Object.defineProperty(Sent.prototype, "type", {
    ...type,
    get() {
      looks += 1;
      return this.message.type;
    },
  });
  talk.reply(talk.send("end_utterance"), QUEUED);
  talk.reply(talk.send("flush"), ERROR);
  talk.outcome("mic-1");
  assert.ok(looks < 100, `${looks}`);
  assert.deepEqual(talk.types, ["start_stream"]);
});

test("an id that is used again belongs to the later request", () => {
  const talk = new Talk();
  talk.reply(talk.send("start_stream", { id: "x" }), READY);
  talk.reply(talk.send("end_utterance", { id: "x", pcm16: "AAAA" }), QUEUED);
  talk.send("status", { id: "x" });
  const [start, ended, status] = talk.nextProcess();
  assert.deepEqual([start.id, ended.id, status.id], ["c1", "c2", "x"]);
  assert.deepEqual(talk.reply(ended, ERROR), ["mic-1"]);
  assert.deepEqual(talk.kept.ids, new Set(["x"]));
});

test("a chunk of an earlier stream of the name stays", () => {
  const talk = new Talk();
  talk.stream();
  for (const seq of [0, 1, 2]) talk.chunk(seq);
  talk.reply(talk.send("end_utterance"), QUEUED);
  talk.reply(talk.send("stop_stream"), { type: "stream_stopped", cancelled_utterances: [] });
  talk.stream();
  talk.chunk(0);
  talk.refuseChunk(talk.chunk(1).seq);
  talk.refuseChunk(null);
  const chunk = "audio_chunk";
  assert.deepEqual(talk.types, ["start_stream", chunk, chunk, chunk, "end_utterance", "stop_stream", "start_stream", chunk]);
});

test("the last start that was answered is kept with the last keep-alive", () => {
  const talk = new Talk();
  const loaded = { type: "ready" };
  talk.reply(talk.send("start", { keep_alive_seconds: 7 }), loaded);
  talk.reply(talk.send("start"), loaded);
  talk.reply(talk.send("start", { keep_alive_seconds: -5 }), ERROR);
  assert.deepEqual(talk.lines.map(({ type, keep_alive_seconds }) => [type, keep_alive_seconds]), [["start", 7]]);
});

test("a start that is kept has the words of those before it", () => {
  const talk = new Talk();
  for (const members of [{ words: true }, {}, { keep_alive_seconds: 7 }]) talk.reply(talk.send("start", members), { type: "ready" });
  assert.deepEqual(talk.lines.map(({ type, words, keep_alive_seconds }) => [type, words, keep_alive_seconds]), [["start", true, 7]]);
  talk.reply(talk.send("unload"), { type: "unloaded" });
  talk.reply(talk.send("start"), { type: "ready" });
  assert.equal(talk.lines[0].words, undefined);
});

test("an alignment that was sent again is marked", () => {
  const talk = new Talk();
  const align = talk.send("align", { stream_id: undefined, audio: "a.wav", text: "one", language: "en" });
  talk.nextProcess();
  const aligned = { type: "aligned", id: align.id };
  talk.kept.received(aligned);
  assert.equal(aligned.replayed, true);
});

test("behind an unload no start is kept, but its keep-alive", () => {
  const talk = new Talk();
  talk.reply(talk.send("start", { keep_alive_seconds: 7 }), { type: "ready" });
  talk.stream();
  talk.reply(talk.send("unload"), { type: "unloaded" });
  assert.deepEqual(talk.types, ["start_stream"]);
  assert.equal(talk.send("start").keep_alive_seconds, 7);
});

test("the name of a refused boundary is not that of the open utterance", () => {
  const talk = new Talk();
  talk.stream();
  talk.reply(talk.send("end_utterance", { utterance_id: "x" }), ERROR);
  talk.reply(talk.send("end_utterance"), ERROR);
  talk.chunk();
  assert.equal(talk.send("end_utterance").utterance_id, "mic-1");
  talk.chunk(1, { utterance_id: "y" });
  talk.reply(talk.send("end_utterance", { utterance_id: "x" }), ERROR);
  assert.equal(talk.send("end_utterance").utterance_id, "y");
});

test("numbers start over and go on without false gaps", () => {
  const talk = new Talk();
  talk.stream({ partials: true });
  for (const seq of [0, 1]) talk.chunk(seq);
  talk.send("end_utterance");
  talk.chunk(2);
  talk.reply(talk.send("cancel", { utterance_id: "mic-2" }), { type: "cancel_result", dropped_samples: 1 });
  talk.nextProcess();
  assert.deepEqual(talk.seqs, [0, 1]);
  assert.equal(talk.chunk(3).seq, 2);
  talk.outcome("mic-1");
  assert.deepEqual(talk.seqs, [0]);
  assert.equal(talk.chunk(4).seq, 1);
});

for (const [refused, seqs] of [[0, [1, 2, 3]], [1, [0, 2, 3]], [2, [0, 2, 3]]]) {
  test(`chunk ${refused}, which is refused, stays a gap`, () => {
    const talk = new Talk();
    talk.stream();
    for (const seq of [0, 1, 2]) talk.chunk(seq);
    talk.refuseChunk(refused);
    talk.send("end_utterance");
    talk.chunk(3);
    talk.nextProcess();
    assert.deepEqual(talk.seqs, seqs);
  });
}

test("a restart that splits ends the keeping", () => {
  const talk = new Talk();
  talk.stream();
  talk.utterance();
  talk.chunk();
  const split = talk.send("start_stream", { restart: true, on_limit: "split" });
  talk.reply(split, READY);
  talk.chunk();
  assert.deepEqual(talk.types, ["start_stream", "audio_chunk", "end_utterance", "stop_stream"]);
  assert.deepEqual(talk.kept.streams, new Set());
  talk.outcome("mic-1");
  assert.deepEqual(talk.types, []);
});

test("a refused restart changes nothing", () => {
  const talk = new Talk();
  talk.stream({ partials: true });
  talk.chunk(0);
  talk.reply(talk.send("start_stream", { restart: true, sample_rate: 1 }), ERROR);
  talk.chunk(1);
  assert.equal(talk.send("end_utterance").utterance_id, "mic-1");
  assert.deepEqual(talk.types, ["start_stream", "audio_chunk", "audio_chunk", "end_utterance"]);
});

test("the limit ends its work where a restart has no reply", () => {
  const talk = new Talk(400);
  talk.stream();
  talk.chunk(0, { pcm16: "A".repeat(200) });
  talk.send("start_stream", { restart: true });
  talk.chunk(0);
  talk.send("end_utterance");
  for (const seq of [1, 2, 3]) talk.chunk(seq, { pcm16: "A".repeat(200) });
  assert.ok(!talk.types.includes("audio_chunk"));
});

// A later process counts `stream_start` from the first sample that it gets; the app, from the first that it appended.

test("the time in a stream is that of the process until one is lost, and then goes on", () => {
  const talk = new Talk();
  talk.stream({ sample_rate: 8000 });
  talk.say(2);
  talk.say(3);
  talk.say(1, { ends: false });
  assert.equal(talk.streamStart("mic-1", 0.125), 0.125);
  talk.nextProcess();
  assert.equal(talk.streamStart("mic-2"), 1);
  talk.say(1);
  assert.equal(talk.streamStart("mic-3", 1.5), 2.5);
  talk.say(4);
  assert.equal(talk.streamStart("mic-4"), 3.5);
  talk.send("end_utterance", { pcm16: HALF, utterance_id: "inline" });
  assert.equal(talk.streamStart("inline", null), undefined);
});

test("audio that was refused or cancelled is counted as the bridge counts it", () => {
  const talk = new Talk();
  talk.stream({ sample_rate: "8000", partials: true });
  talk.say(4);
  talk.say(2);
  talk.say(2, { ends: false });
  talk.refuseChunk(1);
  talk.reply(talk.send("cancel", { utterance_id: "mic-3" }), { type: "cancel_result", state: "cancelled", dropped_samples: 1 });
  talk.say(1);
  talk.refuseChunk(8);
  talk.say(1);
  talk.nextProcess();
  assert.deepEqual(["mic-1", "mic-2", "mic-4", "mic-5"].map((name) => talk.streamStart(name)), [0, 1.5, 3.5, 3.5]);
});

test("a refused boundary leaves its begin to the next", () => {
  const talk = new Talk();
  talk.stream({ sample_rate: 8000 });
  talk.say(2);
  talk.say(2, { ends: false });
  const refused = talk.send("end_utterance");
  talk.say(2, { ends: false });
  talk.send("end_utterance", { utterance_id: "own" });
  talk.reply(refused, ERROR);
  talk.say(2, { ends: false });
  talk.reply(talk.send("end_utterance"), ERROR);
  talk.say(2);
  talk.nextProcess();
  assert.deepEqual(["mic-1", "own", "mic-3"].map((name) => talk.streamStart(name)), [0, 1, 3]);
});

test("a restart counts from 0 unless it is refused", () => {
  const talk = new Talk();
  talk.stream({ sample_rate: 8000 });
  talk.say(2);
  talk.say(1, { ends: false });
  const refused = talk.send("start_stream", { restart: true, sample_rate: 1 });
  talk.say(1, { ends: false });
  talk.reply(refused, ERROR);
  talk.say(1);
  talk.say(1);
  talk.nextProcess();
  assert.deepEqual(["mic-1", "mic-2", "mic-3"].map((name) => talk.streamStart(name)), [0, 1, 2.5]);
  talk.stream({ restart: true });
  talk.say(2);
  talk.say(2);
  assert.deepEqual(["mic-4", "mic-5"].map((name) => talk.streamStart(name)), [0, 0.5]);
});

test("an utterance behind one whose audio was not kept begins behind that", () => {
  const talk = new Talk(25_000);
  talk.stream({ sample_rate: 8000 });
  talk.say(4, { ends: false });
  talk.kept.lost(new Error("gone"));
  assert.throws(() => talk.send("end_utterance"), /gone/);
  assert.deepEqual(talk.types, ["start_stream"]);
  talk.say(1);
  assert.equal(talk.streamStart("mic-1"), 2);
});

test("a pause is not sent again, and no boundary that keeps a rest is sent", () => {
  const talk = new Talk();
  talk.stream();
  talk.chunk();
  talk.send("pause");
  assert.throws(() => talk.send("end_utterance", { samples: 1 }), TypeError);
  talk.send("end_utterance", { samples: 1, rest: "drop" });
  assert.deepEqual(talk.types, ["start_stream", "audio_chunk", "end_utterance"]);
});
