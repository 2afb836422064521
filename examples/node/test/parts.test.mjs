// The parts that need no process.

import assert from "node:assert/strict";
import { test } from "node:test";
import { exited, exitOf } from "../errors.mjs";
import { EventQueue } from "../event_queue.mjs";
import { Lines } from "../lines.mjs";
import { RestartRule } from "../restarts.mjs";
import { StderrTail } from "../stderr_tail.mjs";

async function unread(queue) {
  queue.end();
  const events = [];
  for await (const event of queue) events.push(event);
  return events;
}

test("a line is the same wherever its blocks were cut", () => {
  const bytes = Buffer.from('{"text":"你好 🎙"}\n\n{"a":1}\nrest');
  for (let size = 1; size <= bytes.length; size += 1) {
    const lines = new Lines(100);
    const seen = [];
    for (let at = 0; at < bytes.length; at += size) seen.push(...lines.push(bytes.subarray(at, at + size)));
    assert.deepEqual(seen.map(String), ['{"text":"你好 🎙"}', "", '{"a":1}']);
    assert.equal(lines.hasRest, true);
  }
});

test("nothing comes out behind a line that is too long", () => {
  const lines = new Lines(4);
  assert.deepEqual([...lines.push(Buffer.from("1234\n1234"))].map(String), ["1234"]);
  assert.equal(lines.isTooLong, false);
  assert.deepEqual([...lines.push(Buffer.from("5\nnext\n"))], []);
  assert.equal(lines.isTooLong, true);
});

test("the end of stderr is kept, and its lines are handed on", () => {
  const lines = [];
  const tail = new StderrTail((line) => lines.push(line));
  for (let n = 0; n < 20_000; n += 1) tail.push(Buffer.from(`line ${n}\n`));
  assert.equal(lines.length, 20_000);
  assert.equal(Buffer.byteLength(tail.text), 64 * 1024);
  assert.match(tail.text, /line 19999\n$/);
});

test("a partial that takes the place of an unread one has changed from the earlier place", async () => {
  const queue = new EventQueue();
  const partial = (text, changed_from) => ({ type: "partial_result", stream_id: "mic", utterance_id: "a", text, changed_from });
  for (const event of [partial("one", 0), partial("one two", 3), partial("one tree", 5)]) queue.add(event);
  assert.deepEqual(await unread(queue), [partial("one tree", 0)]);
});

test("a partial text takes the place of an unread one of its utterance, progress that of progress", async () => {
  const queue = new EventQueue();
  const partial = (utterance_id, text) => ({ type: "partial_result", stream_id: "mic", utterance_id, text });
  const events = [partial("a", "1"), { type: "progress", done: 1 }, partial("b", "1"), partial("a", "2")];
  for (const event of [...events, { type: "progress", done: 2 }]) queue.add(event);
  assert.deepEqual(await unread(queue), [partial("b", "1"), partial("a", "2"), { type: "progress", done: 2 }]);
});

test("progress takes the place of that of its request and stage alone", async () => {
  const queue = new EventQueue();
  const progress = (request_id, stage, done) => ({ type: "progress", request_id, stage, done });
  const others = [progress("f", "load", 1), progress("g", "transcribe", 1), progress(undefined, "transcribe", 1)];
  for (const event of [progress("f", "transcribe", 1), ...others, progress("f", "transcribe", 2)]) queue.add(event);
  assert.deepEqual(await unread(queue), [...others, progress("f", "transcribe", 2)]);
});

test("of too many events the oldest are dropped and counted", async () => {
  const queue = new EventQueue();
  for (let n = 1; n <= 1030; n += 1) queue.add({ type: "weather", n });
  const events = await unread(queue);
  assert.deepEqual(events.slice(0, 2), [{ type: "events_lost", count: 6 }, { type: "weather", n: 7 }]);
  assert.equal(events.length, 1025);
});

test("leaving a loop over the events leaves the rest to the next loop", async () => {
  const queue = new EventQueue();
  for (let n = 1; n <= 3; n += 1) queue.add({ type: "weather", n });
  for await (const { n } of queue) if (n === 2) break;
  assert.deepEqual(await unread(queue), [{ type: "weather", n: 3 }]);
});

test("a bridge is started again five times in 180 seconds, not six", () => {
  let now = 0;
  const rule = new RestartRule(() => now);
  const loss = () => rule.lost(exited(exitOf(1, null)));
  for (let n = 1; n <= 5; n += 1) assert.equal(loss(), null);
  assert.equal(loss().code, "restart_limit");
  now = 180_000;
  assert.equal(loss(), null);
});

test("a bridge is not started again after an end that would come again", () => {
  const verdict = (code) => new RestartRule().lost(exited(exitOf(code, null)));
  for (const code of [0, 2, 5, 126, 127, 130, 143]) assert.equal(verdict(code).code, "bridge_exited");
  for (const code of [1, 3, 4]) assert.equal(verdict(code), null);
});

test("the start after a lost engine waits a second", () => {
  const rule = new RestartRule();
  rule.lost(exited(exitOf(4, null)).endedBy(exitOf(4, null), ""));
  assert.equal(rule.pause, 1000);
  rule.forget();
  assert.equal(rule.pause, 0);
});
