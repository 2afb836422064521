// `resend` of the Node client: a bridge with the demonstration checkpoint is killed, and no utterance is lost. The bridge
// and the folder with the recordings are named by the environment.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test as untimed } from "node:test";
import { Bridge } from "../../examples/node/bridge.mjs";

const { BRIDGE: program, AUDIO: folder } = process.env;
const TEN = "Zero one two three four five six seven eight nine.";
const FIVE = "Two nine four zero six.";
const SAMPLE = "Seven three one.";
const test = (name, body) => untimed(name, { timeout: 120_000 }, body);
const pcm = (name) => readFileSync(`${folder}/${name}.wav`).subarray(44);
const outcome = ({ utterance_id, text, replayed }) => [utterance_id, text, replayed];

/** A bridge that is ended with its test. */
function resending(t, settings = {}) {
  const bridge = new Bridge({ bridge: program, resend: true, ...settings });
  t.after(() => bridge.kill());
  return bridge;
}

function signal(bridge, name = "SIGKILL") {
  process.kill(bridge.pid, name);
}

/** Events up to the first of this type. */
async function until(bridge, type) {
  const events = [];
  for await (const event of bridge.events) {
    events.push(event);
    if (event.type === type) return events;
  }
  throw new assert.AssertionError({ message: `no ${type} came` });
}

async function finals(bridge, count) {
  const items = [];
  while (items.length < count) items.push(...(await until(bridge, "realtime_batch_final")).at(-1).items);
  return items;
}

/** The outcomes that come until it is stopped. */
async function rest(bridge) {
  await bridge.stop();
  const items = [];
  for await (const event of bridge.events) items.push(...(event.items ?? []));
  return items;
}

async function failure(promise) {
  return promise.then(
    () => assert.fail("it did not fail"),
    (error) => error.code,
  );
}

test("an utterance goes on in the next process", async (t) => {
  const bridge = resending(t);
  await bridge.start();
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 1, partials: true });
  await stream.append(pcm("sample"));
  await stream.endUtterance();
  assert.deepEqual((await finals(bridge, 1)).map(outcome), [["mic-1", SAMPLE, false]]);
  const audio = pcm("english-ten");
  await stream.append(audio.subarray(0, 96_000));
  await until(bridge, "partial_result");
  signal(bridge);
  await stream.append(audio.subarray(96_000, 200_000));
  const events = await until(bridge, "partial_result");
  const lost = events.find(({ type }) => type === "bridge_lost");
  assert.deepEqual([lost.streams, lost.willRestart, events.at(-1).utterance_id], [[], true, "mic-2"]);
  await stream.append(audio.subarray(200_000));
  const queued = await stream.endUtterance();
  assert.deepEqual([queued.utterance_id, queued.samples], ["mic-2", audio.length / 2]);
  assert.deepEqual((await finals(bridge, 1)).map(outcome), [["mic-2", TEN, true]]);
  await stream.append(pcm("english-five"));
  await stream.endUtterance();
  assert.deepEqual((await finals(bridge, 1)).map(outcome), [["mic-3", FIVE, false]]);
  assert.equal(bridge.restarts, 1);
  assert.equal((await stream.stop()).dropped_samples, 0);
  assert.deepEqual(await rest(bridge), []);
});

test("words that are owed come once, from the bridge or as its loss, and the time of the stream goes on", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 1, words: true });
  const say = (name) => stream.append(pcm(name)).then(() => stream.endUtterance());
  await say("sample");
  assert.equal((await finals(bridge, 1))[0].stream_start, 0);
  signal(bridge); // the aligner is not loaded yet
  const lost = (await until(bridge, "words_ready")).at(-1);
  assert.deepEqual([lost.utterance_id, lost.words, lost.error.code], ["mic-1", undefined, "bridge_exited"]);
  await say("english-one");
  const [{ items }, ready] = (await until(bridge, "words_ready")).slice(-2);
  assert.equal(items[0].stream_start, Math.round(pcm("sample").length / 32) / 1000);
  assert.deepEqual([ready.utterance_id, ready.words.map(({ text }) => text)], ["mic-2", ["Eight."]]);
  assert.deepEqual(await rest(bridge), []);
});

test("what waits in two streams has one outcome each", async (t) => {
  const bridge = resending(t);
  const options = { auto_flush: true, batch_size: 3, max_batch_delay_ms: 60_000 };
  const one = await bridge.startStream({ stream_id: "one", ...options });
  const two = await bridge.startStream({ stream_id: "two", ...options });
  await one.append(pcm("english-five"));
  await two.append(pcm("sample"));
  await two.endUtterance({ utterance_id: "named" });
  await one.endUtterance();
  signal(bridge);
  await until(bridge, "bridge_lost");
  await two.endUtterance({ pcm16: pcm("english-one").toString("base64") });
  const items = await finals(bridge, 3);
  const of = (name) => items.filter(({ stream_id }) => stream_id === name).map(outcome);
  assert.deepEqual(of("one"), [["one-1", FIVE, true]]);
  assert.deepEqual(of("two"), [["named", SAMPLE, true], ["two-1", "Eight.", false]]);
  assert.deepEqual(await rest(bridge), []);
});

test("requests without a reply are answered by the next process", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", batch_size: 4 });
  await stream.append(pcm("sample"));
  await stream.endUtterance();
  signal(bridge, "SIGSTOP");
  stream.append(pcm("english-five"));
  const boundary = stream.endUtterance();
  const flush = bridge.flush();
  const file = bridge.transcribe(`${folder}/english-one.wav`);
  signal(bridge);
  assert.equal((await boundary).utterance_id, "mic-2");
  assert.deepEqual((await flush).items.map(outcome), [["mic-1", SAMPLE, true], ["mic-2", FIVE, true]]);
  assert.deepEqual([(await file).text, (await file).replayed], ["Eight.", true]);
  assert.equal((await stream.flush()).count, 0);
  assert.equal((await stream.stop()).queued, 0);
});

test("a process that is killed while it gets them again is followed by another", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 1 });
  const audio = pcm("english-ten");
  await stream.append(audio.subarray(0, 160_000));
  signal(bridge);
  const rest = stream.append(audio.subarray(160_000)).then(() => stream.endUtterance());
  for (const restarts of [1, 2]) {
    await until(bridge, "bridge_lost");
    while (bridge.restarts < restarts || bridge.state !== "running") await new Promise((resolve) => setTimeout(resolve, 1));
    signal(bridge); // while it loads the model
  }
  await rest;
  assert.deepEqual((await finals(bridge, 1)).map(outcome), [["mic-1", TEN, true]]);
  assert.equal(bridge.restarts, 3);
});

test("the oldest utterance beyond the bound is lost alone", async (t) => {
  const bridge = resending(t, { keptBytes: 2 * pcm("sample").length });
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 3, max_batch_delay_ms: 60_000 });
  for (const name of ["english-five", "sample"]) {
    await stream.append(pcm(name));
    await stream.endUtterance();
  }
  signal(bridge);
  const lost = (await until(bridge, "utterance_lost")).at(-1);
  assert.deepEqual([lost.stream_id, lost.utterance_id, lost.error.code], ["mic", "mic-1", "bridge_exited"]);
  await stream.append(pcm("english-one"));
  await stream.endUtterance();
  await stream.stop();
  assert.deepEqual((await finals(bridge, 2)).map(outcome), [["mic-2", SAMPLE, true], ["mic-3", "Eight.", false]]);
});

test("an open utterance beyond the bound fails until its boundary", async (t) => {
  const bridge = resending(t, { keptBytes: 50_000 });
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 1 });
  await stream.append(pcm("english-ten"));
  signal(bridge);
  await until(bridge, "bridge_lost");
  assert.equal(await failure(stream.append(pcm("sample"))), "bridge_exited");
  assert.equal(await failure(stream.endUtterance()), "bridge_exited");
  await stream.append(pcm("english-one"));
  await stream.endUtterance();
  assert.deepEqual((await finals(bridge, 1)).map(outcome), [["mic-1", "Eight.", false]]);
});

test("a stream that the bridge splits ends with its process", async (t) => {
  const bridge = resending(t);
  const split = await bridge.startStream({ stream_id: "split", on_limit: "split" });
  await bridge.startStream({ stream_id: "mic" });
  signal(bridge);
  assert.deepEqual((await until(bridge, "bridge_lost")).at(-1).streams, ["split"]);
  assert.equal(await failure(split.append(pcm("sample"))), "bridge_exited");
  assert.equal(await failure(split.endUtterance()), "bridge_exited");
});

test("a cancel during the restart waits for it, and a stop ends what waits", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 4, max_batch_delay_ms: 60_000 });
  for (const name of ["sample", "english-five"]) {
    await stream.append(pcm(name));
    await stream.endUtterance();
  }
  signal(bridge);
  await until(bridge, "bridge_lost");
  assert.equal((await bridge.cancelUtterance("mic", "mic-1")).state, "cancelled");
  await stream.flush();
  assert.deepEqual((await finals(bridge, 2)).map(outcome), [["mic-1", null, true], ["mic-2", FIVE, true]]);
  signal(bridge, "SIGSTOP");
  const file = failure(bridge.transcribe(`${folder}/sample.wav`));
  signal(bridge);
  await until(bridge, "bridge_lost");
  await bridge.kill();
  assert.equal(await file, "bridge_closed");
});

test("a request that ran out of time while none runs is over", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", auto_flush: true, batch_size: 4, max_batch_delay_ms: 60_000 });
  await stream.append(pcm("sample"));
  await stream.endUtterance();
  signal(bridge, "SIGSTOP");
  const status = failure(bridge.request({ type: "status", id: "mine" }, { timeout: 200 }));
  signal(bridge);
  await until(bridge, "bridge_lost");
  const appended = stream.append(pcm("english-five"));
  assert.equal(await failure(stream.flush({}, { timeout: 50 })), "request_timeout");
  assert.equal(await status, "request_timeout");
  await appended;
  assert.equal((await stream.endUtterance()).queued, 2);
  assert.equal((await bridge.request({ type: "status", id: "mine" })).type, "status");
});

test("what waits behind audio while none runs is asked of the next process", async (t) => {
  const bridge = resending(t);
  const stream = await bridge.startStream({ stream_id: "mic", batch_size: 1 });
  signal(bridge);
  await until(bridge, "bridge_lost");
  const appended = stream.append(pcm("sample"));
  const batch = await stream.endUtterance();
  await appended;
  assert.deepEqual(batch.items.map(outcome), [["mic-1", SAMPLE, false]]);
});

test("an id may be used again although its utterance waits", async (t) => {
  const bridge = resending(t);
  const stream = { stream_id: "mic", id: "x" };
  await bridge.request({ ...stream, type: "start_stream", max_batch_delay_ms: 60_000 });
  await bridge.request({ ...stream, type: "end_utterance", pcm16: pcm("sample").toString("base64") });
  signal(bridge, "SIGSTOP");
  const flush = bridge.request({ ...stream, type: "flush" });
  signal(bridge);
  assert.deepEqual((await flush).items.map(outcome), [["mic-1", SAMPLE, true]]);
});
