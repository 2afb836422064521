// The client against a process that misbehaves in every way of docs/clients.md.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test as untimed } from "node:test";
import { fileURLToPath } from "node:url";
import { Bridge } from "../bridge.mjs";

const FAKE = fileURLToPath(new URL("fake_bridge.mjs", import.meta.url));
const test = (name, body) => untimed(name, { timeout: 120_000 }, body);
const scratch = mkdtempSync(join(tmpdir(), "bridge-"));
after(() => rmSync(scratch, { recursive: true }));
const folder = () => mkdtempSync(join(scratch, "test-"));

/** A bridge that is ended with its test. */
function fake(t, behaviour, settings = {}) {
  const argv = [FAKE, ...behaviour.split(" ")];
  const bridge = new Bridge({ bridge: process.execPath, arguments: argv, ...settings });
  t.after(() => bridge.kill());
  return bridge;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new assert.AssertionError({ message: "it did not fail" });
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("a path that leads nowhere is bridge_not_found", async (t) => {
  for (const path of ["/nowhere/bridge", "no-such-command-on-path"]) {
    const bridge = new Bridge({ bridge: path });
    const error = await failure(bridge.open());
    assert.deepEqual([error.code, error.retryable, bridge.state], ["bridge_not_found", false, "failed"]);
    assert.equal(await failure(bridge.ping()), error);
  }
});

test("what cannot be run is bridge_not_executable", async () => {
  const place = folder();
  writeFileSync(join(place, "text"), "hello", { mode: 0o644 });
  writeFileSync(join(place, "orphan"), "#!/no/such/interpreter\n", { mode: 0o755 });
  for (const path of [place, join(place, "text"), join(place, "orphan")]) {
    const error = await failure(new Bridge({ bridge: path }).open());
    assert.equal(error.code, "bridge_not_executable");
  }
});

test("a crash at the start names the exit and what was said on stderr", async (t) => {
  const bridge = fake(t, "fails 2");
  const error = await failure(bridge.open());
  assert.deepEqual([error.code, error.exit.name, error.stderr], ["bridge_exited", "environment", ["no such model"]]);
  assert.equal(bridge.state, "failed");
  assert.match(error.message, /ended unexpectedly \(exit code 2, environment\)/);
});

test("a crash in the middle fails what was asked, and the next request starts it again", async (t) => {
  const bridge = fake(t, `dies_once ${join(folder(), "mark")}`);
  const stream = await bridge.startStream({ stream_id: "mic" });
  const errors = await Promise.all([failure(bridge.transcribe("a")), failure(bridge.transcribe("b"))]);
  assert.deepEqual(errors.map(({ code }) => code), ["bridge_exited", "bridge_exited"]);
  assert.equal(bridge.state, "lost");
  assert.equal((await failure(stream.append(Buffer.alloc(2)))).code, "bridge_exited");
  assert.equal((await failure(stream.endUtterance())).code, "bridge_exited");
  assert.equal((await bridge.transcribe("a")).text, "again");
  assert.equal(bridge.restarts, 1);
  const { value } = await bridge.events[Symbol.asyncIterator]().next();
  assert.deepEqual([value.type, value.streams, value.willRestart], ["bridge_lost", ["mic"], true]);
  assert.equal(value.error, errors[0]);
});

test("a bridge that is killed is told by the signal's name", async (t) => {
  const error = await failure(fake(t, "dies").transcribe("a"));
  assert.deepEqual([error.exit.name, error.retryable], ["SIGKILL", true]);
});

test("a bridge that dies again and again is given up, until the app opens it", async (t) => {
  const bridge = fake(t, "exits 3");
  for (let n = 1; n <= 6; n += 1) assert.equal((await failure(bridge.transcribe("a"))).code, "bridge_exited");
  const error = await failure(bridge.ping());
  assert.deepEqual([error.code, error.cause.code, bridge.state], ["restart_limit", "bridge_exited", "failed"]);
  await bridge.open();
  assert.equal((await bridge.ping()).type, "pong");
});

test("a fatal line is the error", async (t) => {
  const error = await failure(fake(t, "says_fatal").transcribe("a"));
  assert.deepEqual([error.code, error.fatalCode, error.message], ["bridge_fatal", "internal_error", "It broke."]);
  assert.equal(error.exit.code, 1);
});

for (const behaviour of ["babbles", "cuts", "confuses"]) {
  test(`a process that ${behaviour} is ended with protocol_error`, async (t) => {
    const bridge = fake(t, behaviour);
    const error = await failure(bridge.transcribe("a"));
    assert.deepEqual([error.code, error.position], ["protocol_error", 2]);
    assert.doesNotMatch(error.message, /Loading/);
    assert.equal(isRunning(bridge.pid), false);
  });
}

test("a bridge of another protocol is unsupported", async (t) => {
  const bridge = fake(t, "stranger");
  assert.equal((await failure(bridge.open())).code, "protocol_unsupported");
  assert.equal(bridge.state, "failed");
  assert.equal(isRunning(bridge.pid), false);
});

test("a bridge that does not open in time is hung", async (t) => {
  const bridge = fake(t, "silent", { openTimeout: 300 });
  assert.equal((await failure(bridge.open())).code, "bridge_hung");
  assert.equal(isRunning(bridge.pid), false);
});

test("a bridge that answers no ping is hung, and ended", async (t) => {
  const bridge = fake(t, "hangs", { hangTimeout: 200 });
  const error = await failure(bridge.transcribe("a"));
  assert.deepEqual([error.code, error.retryable, error.exit.name], ["bridge_hung", true, "SIGKILL"]);
  assert.equal(isRunning(bridge.pid), false);
});

test("a bridge that is busy answers pings, and is not hung", async (t) => {
  const bridge = fake(t, "busy 4000", { hangTimeout: 3000 });
  assert.equal((await bridge.transcribe("a")).text, "late");
});

test("a bridge that takes no more audio is hung", async (t) => {
  const bridge = fake(t, "deaf", { hangTimeout: 400 });
  const stream = await bridge.startStream();
  bridge.transcribe("a").catch(() => {});
  assert.equal((await failure(stream.append(Buffer.alloc(4_000_000)))).code, "bridge_hung");
});

test("a bridge that closes its output and stays is ended", async (t) => {
  const bridge = fake(t, "leaves");
  assert.equal((await failure(bridge.transcribe("a"))).code, "bridge_pipe_closed");
  assert.equal(isRunning(bridge.pid), false);
});

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

test("stop ends a bridge that heeds neither stop nor SIGTERM", async (t) => {
  const bridge = fake(t, "stubborn");
  await bridge.open();
  assert.equal(await bridge.stop("drain", 0), null);
  assert.deepEqual([bridge.state, bridge.exit.name], ["stopped", "SIGKILL"]);
});

test("stop gives what the bridge said last, and requests fail from then on", async (t) => {
  const bridge = fake(t, "speaks");
  await bridge.open();
  const stopping = bridge.stop();
  assert.equal((await failure(bridge.ping())).code, "bridge_closed");
  assert.equal((await stopping).type, "stopped");
  assert.deepEqual([bridge.state, bridge.exit.name], ["stopped", "done"]);
  assert.equal((await failure(bridge.ping())).code, "bridge_closed");
  assert.equal((await bridge.open()).type, "capabilities");
});

test("stop and kill before the start do no harm", async () => {
  const bridge = new Bridge({ bridge: "/nowhere" });
  assert.equal(await bridge.stop(), null);
  await bridge.kill();
  assert.equal(bridge.state, "stopped");
});

test("an app that exits leaves no process behind, also where the bridge hangs", async () => {
  const script = `
    import { Bridge } from ${JSON.stringify(new URL("../bridge.mjs", import.meta.url).href)};
    const bridge = new Bridge({ bridge: process.execPath, arguments: [${JSON.stringify(FAKE)}, "stubborn"] });
    await bridge.open();
    process.stdout.write(String(bridge.pid), () => process.exit(3));`;
  const output = (() => {
    try {
      return execFileSync(process.execPath, ["--input-type=module", "--eval", script]);
    } catch (error) {
      assert.equal(error.status, 3);
      return error.stdout;
    }
  })();
  const pid = Number(output.toString());
  while (isRunning(pid)) await new Promise((go) => setTimeout(go, 20));
});
