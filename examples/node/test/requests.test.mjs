// What is asked, what comes back, and what comes unasked.

import assert from "node:assert/strict";
import { failure, fake, test } from "../testing/harness.mjs";

test("replies are given by their ids", async (t) => {
  const bridge = fake(t, "swaps");
  const [first, second] = await Promise.all([bridge.transcribe("one"), bridge.transcribe("two")]);
  assert.deepEqual([first.text, second.text], ["one", "two"]);
});

test("a message may bring its own id, which must differ from those in flight", async (t) => {
  const bridge = fake(t, "never");
  assert.equal((await bridge.request({ type: "ping", id: 7 })).id, 7);
  bridge.request({ type: "transcribe", id: "7", audio: "a" }).catch(() => {});
  assert.ok((await failure(bridge.request({ type: "ping", id: "7" }))) instanceof TypeError);
});

test("a request that the bridge could not read is refused here", async (t) => {
  const bridge = fake(t, "speaks");
  await bridge.open();
  const error = await failure(bridge.transcribe("a".repeat(100_000)));
  assert.deepEqual([error.code, error.wireCode, error.data], ["request_failed", "line_too_long", { limit: 100_000 }]);
  assert.equal((await bridge.transcribe("a")).text, "a");
});

test("a reply that comes byte by byte is whole", async (t) => {
  assert.equal((await fake(t, "pieces").transcribe("a")).text, "sí, 你好 🎙");
});

test("a reply of megabytes is whole", async (t) => {
  assert.equal((await fake(t, "rambles").transcribe("a")).text.length, 5_000_000);
});

test("stderr is read all the time", async (t) => {
  const bridge = fake(t, "noisy");
  await bridge.transcribe("a");
  await bridge.stop();
  assert.equal(bridge.stderr.length, 64 * 1024);
});

test("messages of unknown types are events, and the iteration ends with the bridge", async (t) => {
  const bridge = fake(t, "tells");
  await bridge.transcribe("a");
  await bridge.stop();
  const seen = [];
  for await (const event of bridge.events) seen.push(event.n);
  assert.deepEqual(seen, [1, 2, 3]);
});

test("an aborted request is cancelled, and its reply thrown away", async (t) => {
  const bridge = fake(t, "never");
  const abort = new AbortController();
  const request = bridge.transcribe("a", {}, { signal: abort.signal });
  await bridge.ping();
  abort.abort();
  assert.equal((await failure(request)).name, "AbortError");
  assert.equal((await bridge.status()).cancelled, "c2");
  assert.equal((await failure(bridge.transcribe("b", {}, { signal: abort.signal }))).name, "AbortError");
});

test("a request that takes too long is cancelled", async (t) => {
  const bridge = fake(t, "never");
  const error = await failure(bridge.transcribe("a", {}, { timeout: 50 }));
  assert.deepEqual([error.code, error.retryable], ["request_timeout", true]);
  assert.equal((await bridge.status()).cancelled, "c2");
});

test("whoever gives up while the bridge opens is let go", async (t) => {
  const bridge = fake(t, "silent");
  const request = bridge.ping({ signal: AbortSignal.timeout(50) });
  assert.equal((await failure(request)).name, "TimeoutError");
  assert.equal(bridge.state, "opening");
  const waiting = failure(bridge.ping());
  await bridge.stop();
  assert.equal((await waiting).code, "bridge_closed");
});

test("audio goes out in chunks of 100 ms, numbered, and before what is asked behind it", async (t) => {
  const bridge = fake(t, "speaks");
  const stream = await bridge.startStream({ stream_id: "mic", sample_rate: 8000 });
  stream.append(new Int16Array(2000), "u");
  stream.append(Buffer.alloc(0), "u");
  const queued = await stream.endUtterance({ language: "English" });
  assert.deepEqual([queued.chunks, queued.bytes, queued.last], [3, 4000, { seq: 2, utterance_id: "u" }]);
  assert.deepEqual(queued.members, { type: "end_utterance", stream_id: "mic", language: "English" });
  assert.throws(() => stream.append(Buffer.alloc(3)), TypeError);
});

test("append waits until less than a megabyte waits, and nothing is lost", async (t) => {
  const bridge = fake(t, "deaf");
  const stream = await bridge.startStream();
  bridge.transcribe("a").catch(() => {});
  let isDone = false;
  const appended = stream.append(Buffer.alloc(3_200_000)).then(() => (isDone = true));
  await new Promise((go) => setTimeout(go, 300)); // however long: it cannot end
  assert.equal(isDone, false);
  process.kill(bridge.pid, "SIGUSR2");
  await appended;
  const queued = await stream.endUtterance();
  assert.deepEqual([queued.chunks, queued.bytes], [1000, 3_200_000]);
});

test("a setting that is undefined is as if it were not there, and a time may be infinite", async (t) => {
  const unset = { openTimeout: undefined, hangTimeout: undefined, want: undefined };
  const endless = { openTimeout: Infinity, hangTimeout: Infinity };
  for (const settings of [unset, endless]) {
    const bridge = fake(t, "busy 100", settings);
    assert.equal((await bridge.transcribe("a", {}, { timeout: Infinity })).text, "late");
    assert.deepEqual((await bridge.capabilities()).wanted, ["events", "progress"]);
    await bridge.stop("drain", Infinity);
    assert.equal(bridge.exit.name, "done");
  }
});

test("the command line names this process as the parent, unless the app names one", async (t) => {
  const here = `--parent-pid ${process.pid}`;
  for (const [own, words] of [["", here], ["--parent-pid 7", "--parent-pid 7"], ["--parent-pid=7", "--parent-pid=7"]]) {
    const bridge = fake(t, `speaks ${own}`.trim());
    assert.equal((await bridge.open()).arguments.join(" "), words);
  }
});
