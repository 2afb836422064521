// What becomes of a stream that is ready when nobody waits for it any more.

import assert from "node:assert/strict";
import { StreamStarts } from "../stream_starts.mjs";
import { failure, fake, test } from "../testing/harness.mjs";

/** What the bridge heard behind its `hello`: the types, and the streams that were stopped. */
async function told(bridge) {
  const [, ...heard] = (await bridge.status()).heard;
  const stopped = heard.filter(({ type }) => type === "stop_stream");
  for (const { mode } of stopped) assert.equal(mode, "discard");
  return { types: heard.map(({ type }) => type).slice(0, -1), stopped: stopped.map(({ stream_id }) => stream_id) };
}

async function holding(t) {
  const bridge = fake(t, "holds");
  await bridge.open();
  return bridge;
}

test("a stream that becomes ready behind its cancel is stopped", async (t) => {
  const bridge = await holding(t);
  const abort = new AbortController();
  const { signal } = abort;
  const named = failure(bridge.startStream({ stream_id: "mic" }, { signal }));
  const unnamed = failure(bridge.request({ type: "start_stream" }, { signal }));
  abort.abort();
  for (const error of [await named, await unnamed]) assert.equal(error.name, "AbortError");
  assert.equal((await failure(bridge.startStream({ stream_id: "late" }, { timeout: 1 }))).code, "request_timeout");
  await bridge.ping();
  const { types, stopped } = await told(bridge);
  assert.deepEqual(stopped, ["mic", "default", "late"]);
  assert.equal(types.filter((type) => type === "cancel").length, 3);
});

/** Aborts, behind `meanwhile()`, in the turn in which the reply to `ask(signal)` comes. */
async function abortAsItComes(bridge, ask, meanwhile = () => {}) {
  const abort = new AbortController();
  const request = failure(ask(abort.signal));
  const released = bridge.events[Symbol.asyncIterator]().next();
  const pong = bridge.ping();
  await released;
  meanwhile();
  abort.abort();
  assert.equal((await request).name, "AbortError");
  await pong;
}

test("a stream that is ready as it is given up is stopped", async (t) => {
  const bridge = await holding(t);
  await abortAsItComes(bridge, (signal) => bridge.startStream({ stream_id: "mic" }, { signal }));
  const { types, stopped } = await told(bridge);
  assert.deepEqual(types, ["start_stream", "ping", "cancel", "stop_stream"]);
  assert.deepEqual(stopped, ["mic"]);
});

test("a stream that the app has begun anew is left alone", async (t) => {
  const bridge = await holding(t);
  const begin = (signal) => bridge.startStream({ stream_id: "mic", restart: true }, { signal });
  const abort = new AbortController();
  const first = failure(begin(abort.signal));
  abort.abort();
  await first;
  const second = begin();
  const other = bridge.startStream();
  await bridge.ping();
  assert.equal((await second).id, "mic");
  assert.equal((await other).id, "default");
  let third;
  await abortAsItComes(bridge, begin, () => (third = begin()));
  await bridge.ping();
  assert.equal((await third).id, "mic");
  assert.deepEqual((await told(bridge)).stopped, []);
});

test("a stream that was asked for again and not anew is stopped", async (t) => {
  const bridge = await holding(t);
  const abort = new AbortController();
  const first = failure(bridge.startStream({ stream_id: "mic" }, { signal: abort.signal }));
  abort.abort();
  await first;
  const second = bridge.startStream({ stream_id: "mic" }); // which the bridge refuses while the first is there
  await bridge.ping();
  await second;
  assert.deepEqual((await told(bridge)).stopped, ["mic"]);
});

test("of other requests only the cancel is sent", async (t) => {
  const bridge = await holding(t);
  const abort = new AbortController();
  const request = failure(bridge.transcribe("a", {}, { signal: abort.signal }));
  abort.abort();
  await request;
  await abortAsItComes(bridge, (signal) => bridge.ping({ signal }));
  assert.deepEqual((await told(bridge)).types, ["transcribe", "cancel", "ping", "ping", "cancel"]);
});

test("a request for a stream is forgotten when it has failed or was taken", async () => {
  const starts = new StreamStarts();
  const [failed, taken] = [{ type: "start_stream" }, { type: "start_stream", stream_id: "mic" }];
  const [refusal, ready] = [Promise.reject(new Error("refused")), Promise.resolve()];
  starts.sent(failed, refusal);
  starts.sent(taken, ready);
  starts.sent({ type: "stop_stream", stream_id: "mic" }, refusal);
  await failure(refusal);
  assert.equal(starts.take(failed, refusal), false);
  assert.equal(starts.take(taken, ready), true);
  assert.equal(starts.take(taken, ready), false);
});
