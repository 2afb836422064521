// The client against a process that fails in every way of docs/clients.md.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Bridge } from "../bridge.mjs";
import { failure, fake, folder, isRunning, test } from "../testing/harness.mjs";

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

test("a folder to start in that is not there is bridge_start_failed", async (t) => {
  assert.equal((await failure(fake(t, "speaks", { cwd: "/nowhere" }).open())).code, "bridge_start_failed");
});

test("settings that cannot be sent leave no process behind", async (t) => {
  const bridge = fake(t, "speaks", { client: { name: 1n } });
  assert.ok((await failure(bridge.open())) instanceof TypeError);
  assert.deepEqual([bridge.state, isRunning(bridge.pid)], ["failed", false]);
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
  assert.deepEqual([error.exit.name, error.retryable, error.stderr], ["SIGKILL", true, []]);
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

for (const behaviour of ["babbles", "cuts", "confuses", "nulls"]) {
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
