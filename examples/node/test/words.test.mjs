// Words: the request for those of a known text, and what becomes of words that a lost bridge owes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { PendingWords } from "../pending_words.mjs";
import { fake, folder, test } from "../testing/harness.mjs";

const LOSS = { code: "bridge_hung", message: "It hung." };
const final = (job, utterance_id, members = { words: null, words_pending: true }) => {
  const items = [{ job, stream_id: "mic", utterance_id, ...members }];
  return { type: "realtime_batch_final", event: true, items };
};

/** The events up to the one that `isLast` wants. */
async function until(bridge, isLast) {
  const events = [];
  for await (const event of bridge.events) {
    events.push(event);
    if (isLast(event)) return events;
  }
  throw new assert.AssertionError({ message: "it did not come" });
}

/** What is unread of a bridge that has ended. */
async function rest(bridge) {
  const events = [];
  for await (const event of bridge.events) events.push(event);
  return events;
}

test("a known text is sent as align, and its reply is aligned", async (t) => {
  const reply = await fake(t, "speaks").align("a.wav", "one", "en", { timeout_ms: 5 });
  assert.equal(reply.type, "aligned");
  assert.deepEqual(reply.members, { timeout_ms: 5, type: "align", audio: "a.wav", text: "one", language: "en" });
});

test("words that a lost bridge owes have its error, once", () => {
  const pending = new PendingWords();
  for (const [job, name] of [[1, "mic-1"], [2, "mic-2"]]) pending.take(final(job, name));
  pending.take(final(3, "mic-3", { words: [] }));
  pending.take({ type: "words_ready", job: 1, stream_id: "mic", utterance_id: "mic-1", words: [] });
  const names = { stream_id: "mic", utterance_id: "mic-2" };
  assert.deepEqual(pending.lose(LOSS), [{ type: "words_ready", event: true, n: 0, job: 2, ...names, warnings: [], error: LOSS }]);
  assert.deepEqual(pending.lose(LOSS), []);
});

test("each final that waits for words gets one words_ready, also where its bridge dies", async (t) => {
  const bridge = fake(t, `dies_wordless ${join(folder(), "mark")}`);
  const stream = await bridge.startStream({ stream_id: "mic", words: true, auto_flush: true });
  await stream.endUtterance({ pcm16: "AAAA" });
  const events = await until(bridge, ({ type }) => type === "words_ready");
  assert.deepEqual(events.map(({ type }) => type), ["realtime_batch_final", "bridge_lost", "words_ready"]);
  assert.equal(events.at(-1).error.code, "bridge_exited");
  await bridge.stop();
  assert.deepEqual(await rest(bridge), []);
});

test("with resend it goes on behind that", async (t) => {
  const bridge = fake(t, `dies_wordless ${join(folder(), "mark")}`, { resend: true });
  const stream = await bridge.startStream({ stream_id: "mic", words: true, auto_flush: true });
  await stream.endUtterance({ pcm16: "AAAA" });
  const events = await until(bridge, ({ type }) => type === "words_ready");
  assert.deepEqual(events.map(({ type }) => type), ["realtime_batch_final", "bridge_lost", "words_ready"]);
  const { job, utterance_id, words, error } = events.at(-1);
  assert.deepEqual([job, utterance_id, words, error.code], [7, "mic-1", undefined, "bridge_exited"]);
  await stream.endUtterance({ pcm16: "AAAA" });
  const [later] = (await until(bridge, ({ type }) => type === "words_ready")).slice(-1);
  assert.deepEqual([later.utterance_id, later.words, later.error], ["mic-2", [], undefined]);
  await bridge.stop();
  assert.deepEqual(await rest(bridge), []);
});

test("words that are missing when the bridge is killed have an error, and then the events end", async (t) => {
  const bridge = fake(t, `dies_wordless ${join(folder(), "mark")} lingers`);
  const stream = await bridge.startStream({ stream_id: "mic", words: true, auto_flush: true });
  await stream.endUtterance({ pcm16: "AAAA" });
  await until(bridge, ({ type }) => type === "realtime_batch_final");
  await bridge.kill();
  const events = await rest(bridge);
  assert.deepEqual(events.map(({ type, error }) => [type, error.code]), [["words_ready", "bridge_closed"]]);
});
